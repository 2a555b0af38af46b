"""Executables that stand in for those of a machine."""

from __future__ import annotations

from pathlib import Path


def executable(folder: Path, name: str, body: str) -> Path:
    """A shell script on a PATH of the test."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return file


def pulumi(folder: Path, version: str) -> Path:
    return executable(folder, "pulumi", f'[ "$1" = version ] && echo {version}')
