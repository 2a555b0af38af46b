"""Which Python runs a program, a plugin or a policy pack."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class EnvironmentProblem(Exception):
    """What is asked for cannot be run here; the message says what to do."""


def python_for(options: Mapping[str, Any], *folders: str) -> Path:
    """The interpreter that the `runtime.options` of a project ask for.

    Without options it is the one that runs this host: the environment that `make install` made.

    :param options: `runtime.options` of Pulumi.yaml, PulumiPlugin.yaml or PulumiPolicy.yaml.
    :param folders: where a relative `virtualenv` is looked for, in order.
    :raises EnvironmentProblem: an unknown toolchain, or a virtual environment that is not there.
    """
    toolchain = options.get("toolchain", "pip")
    if toolchain not in ("", "pip"):
        raise EnvironmentProblem(
            f"runtime option toolchain: {toolchain!r} is not supported by this language host "
            "(accepted: pip). Leave the option out, or install the official Pulumi distribution."
        )
    virtualenv = options.get("virtualenv", "")
    if not virtualenv:
        return Path(sys.executable)
    for folder in folders:
        python = Path(folder) / str(virtualenv) / "bin" / "python"
        if python.exists():
            return python
    looked = " and ".join(dict.fromkeys(folders))
    raise EnvironmentProblem(
        f"runtime option virtualenv: {virtualenv!r} has no bin/python (looked in {looked}). "
        "Create it with `python3 -m venv`, or leave the option out to use the environment whose "
        "bin folder comes first on PATH."
    )


def plugin_command(python: Path, kind: str, folder: str, arguments: list[str]) -> list[str]:
    """The command that starts the plugin or policy pack in `folder`.

    :param kind: `resource`, `analyzer`, `converter` or `tool`.
    :param arguments: what the engine passes; for all kinds its own address comes last.
    :raises EnvironmentProblem: nothing in the folder can be started.
    """
    start = [str(python), "-u"]
    if kind == "analyzer":
        return [*start, "-m", "pulumi.policy", arguments[-1] if arguments else "", folder]
    if (Path(folder) / "__main__.py").is_file():
        return [*start, folder, *arguments]
    project = Path(folder) / "pyproject.toml"
    if project.is_file():
        name = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {}).get("name")
        if isinstance(name, str):
            # A plugin that is an installed package: the SDK hosts the components it exports.
            return [*start, "-m", "pulumi.run.plugin", name, *arguments]
    raise EnvironmentProblem(
        f"{folder}: neither __main__.py nor a pyproject.toml with project.name; "
        "a Python plugin needs one of them."
    )
