"""A project with one component in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Shop:
    """The project; its program reads name and inputs of the component from `settings.json`."""

    def __init__(self, project: Path, name: str, program: str) -> None:
        self._settings = project / "settings.json"
        self.name = name
        (project / "__main__.py").write_text(program)

    def wants(self, args: Mapping[str, Any]) -> None:
        """What the next `up` is about."""
        self._settings.write_text(json.dumps({"name": self.name, "args": dict(args)}))
