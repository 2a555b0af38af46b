"""What decides a variant beside its source: libraries, their versions, and the fixed texts."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from sixways_bundle.errors import MissingExtra
from sixways_bundle.quantize.base import Recipe

_OTHER_BUILDS = {"onnxruntime": "onnxruntime-gpu", "tensorflow": "tensorflow-cpu"}
"""Distributions that install the same modules under another name."""


def missing(recipe: Recipe) -> list[str]:
    return [module for module in recipe.modules if find_spec(module) is None]


def tools_of(recipe: Recipe) -> dict[str, str]:
    try:
        return {tool: _version(tool) for tool in recipe.tools}
    except PackageNotFoundError:
        raise MissingExtra(f"variant {recipe.name}", recipe.extra) from None


def _version(tool: str) -> str:
    try:
        return version(tool)
    except PackageNotFoundError:
        if tool not in _OTHER_BUILDS:
            raise
        return version(_OTHER_BUILDS[tool])


@functools.cache
def data_sha256() -> str:
    """SHA-256 over the texts that variants are calibrated with and measured on."""
    total = hashlib.sha256()
    folder = resources.files("sixways_bundle.quantize") / "data"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        total.update(f"{file.name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()
