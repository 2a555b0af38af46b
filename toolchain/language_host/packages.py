"""Which Pulumi packages an environment has: run by the Python of that environment.

A Pulumi SDK carries `pulumi-plugin.json`, which names the plugin it needs. Printed as JSON when
run as a program, because a plugin or policy pack may use another environment than the host.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Package = dict[str, Any]


def _plugin_name(folder: str, declared: object) -> str:
    if isinstance(declared, str) and declared:
        return declared
    return folder.removeprefix("pulumi_").replace("_", "-")


def _installed_version(folder: str) -> str:
    try:
        return importlib.metadata.version(folder.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        return ""


def required_packages(search: Sequence[str]) -> list[Package]:
    """One entry for each resource plugin that a package on `search` declares, sorted by name.

    A file that is not a JSON object is an error that names it: a plugin left out silently would
    show only later, as a resource type that nobody knows.
    """
    found: dict[str, Package] = {}
    for entry in search:
        for file in sorted(Path(entry or ".").glob("*/pulumi-plugin.json")):
            try:
                declared = json.loads(file.read_bytes())
            except ValueError as error:
                raise ValueError(f"{file}: not valid JSON: {error}") from error
            if not isinstance(declared, dict):
                raise ValueError(f"{file}: a JSON object is expected")
            if not declared.get("resource", False):
                continue
            folder = file.parent.name
            name = _plugin_name(folder, declared.get("name"))
            # The first on the path is the one that an import takes.
            found.setdefault(
                name,
                {
                    "name": name,
                    "version": declared.get("version") or _installed_version(folder),
                    "server": declared.get("server") or "",
                    "parameterization": declared.get("parameterization"),
                },
            )
    return [found[name] for name in sorted(found)]


def dependencies() -> list[Package]:
    """Name and version of each installed distribution, for `pulumi about`."""
    seen = {
        distribution.name: distribution.version
        for distribution in importlib.metadata.distributions()
        if distribution.name
    }
    return [{"name": name, "version": seen[name]} for name in sorted(seen)]


def main(arguments: list[str]) -> int:
    answer = dependencies() if arguments == ["dependencies"] else required_packages(sys.path[1:])
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
