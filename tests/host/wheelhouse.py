"""The wheels that a machine needs to serve, so that no test has to download them.

The dependencies are downloaded once for each state of `constraints.txt` (130 MB, 10 s), into the
cache; the project's own wheel is built anew. What lies in a folder handed out is hard-linked, so a
folder costs nothing, and nobody may write to its files.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

from tests.aws.wheel import ROOT, build_wheel
from tests.host.machine import BASE

PYTHON = "3.11"
"""The machines' Python."""
EXTRAS = "server"
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
# How a host without systemd is supervised, and what pip needs besides.
_FURTHER = ("supervisor", "setuptools")


def make_wheelhouse(folder: Path) -> Path:
    """Fills `folder` with `sixways[server]`, all it depends on, and supervisor; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = build_wheel(folder)
    for dependency in _dependencies(wheel).glob("*.whl"):
        try:
            os.link(dependency, folder / dependency.name)
        except OSError:  # another file system
            shutil.copy(dependency, folder / dependency.name)
    return folder


def _dependencies(wheel: Path) -> Path:
    pinned = (ROOT / "constraints.txt").read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    key = hashlib.sha256(pinned + " ".join(_FURTHER).encode()).hexdigest()[:16]
    cache = BASE.parent / f"wheels-{key}"
    with FileLock(f"{cache}.lock"):
        if not cache.is_dir():
            for old in BASE.parent.glob("wheels-*.new"):
                shutil.rmtree(old)
            fresh = cache.with_suffix(".new")
            platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:",
                 "--python-version", PYTHON, *platforms, "--dest", str(fresh),
                 "--constraint", str(ROOT / "constraints.txt"),
                 f"{wheel}[{EXTRAS}]", *_FURTHER],
                check=True,
            )  # fmt: skip
            for own in fresh.glob("sixways-*.whl"):
                own.unlink()
            fresh.rename(cache)
    return cache
