"""Which distributions an environment has: run by the Python of that environment.

Printed as JSON when run as a program, because a program may use another environment than the host.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys


def dependencies() -> list[dict[str, str]]:
    """Name and version of each installed distribution, for `pulumi about`."""
    seen = {
        distribution.name: distribution.version
        for distribution in importlib.metadata.distributions()
        if distribution.name
    }
    return [{"name": name, "version": seen[name]} for name in sorted(seen)]


if __name__ == "__main__":
    json.dump(dependencies(), sys.stdout)
