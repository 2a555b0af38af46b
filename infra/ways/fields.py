"""Problems of components, under the names that the settings have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sixways.naming import to_camel, to_snake
from sixways_bundle import Problem

# What stands below these is spelled by others: it is left as it is.
_OTHERS = (
    "addonVersions", "annotations", "buildArgs", "bundles", "env", "environment", "labels",
    "nodeSelector", "serviceAccountAnnotations", "serviceAnnotations", "tags", "values",
)  # fmt: skip
_OURS = re.compile(r"[a-z0-9_]+(\[\d+\])*")


def located(path: str, problems: Iterable[Problem]) -> list[Problem]:
    """The problems of a component whose inputs stand at `path` of the settings.

    Args:
        path: `sixways:container.image`.
        problems: as the component names the fields, in snake_case. A setting of a provider
            (`aws:region`) stands where it stands.
    """
    return [
        one if ":" in one.field else replace(one, field=f"{path}.{_camel(one.field)}")
        for one in problems
    ]


def _camel(field: str) -> str:
    return ".".join(to_camel(part) if _OURS.fullmatch(part) else part for part in field.split("."))


def in_python(value: Any) -> Any:
    """Settings with the names that Python's inputs have; tags, labels and the like keep theirs."""
    if isinstance(value, dict):
        return {to_snake(k): v if k in _OTHERS else in_python(v) for k, v in value.items()}
    return [in_python(item) for item in value] if isinstance(value, list) else value
