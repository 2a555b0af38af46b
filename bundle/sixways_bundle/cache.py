"""The cache: finished bundles by digest, variants and builds by what went into them.

Everything here can be deleted at any time; it is made again when it is needed.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec


def root(given: Path | None = None) -> Path:
    """The cache folder: `given`, else SIXWAYS_CACHE, else the user's cache folder."""
    if given is not None:
        return given
    if own := os.environ.get("SIXWAYS_CACHE"):
        return Path(own)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "sixways"


def bundle_path(cache_root: Path, digest: str) -> Path:
    """Where the bundle of that digest (`sha256:…`) lies."""
    return cache_root / "bundles" / digest.removeprefix("sha256:")


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a small file so that a reader, or a power cut, sees the old or the new one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def file_sha256(path: Path, cache_root: Path) -> str:
    """SHA-256 of a file, remembered by path, size and time of change.

    Models are gigabytes and a preview asks for their digest every time.
    """
    stat = path.stat()
    key = f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ino}"
    note = cache_root / "digests" / hashlib.sha256(key.encode()).hexdigest()
    if note.is_file():
        return note.read_text()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    write_atomically(note, digest.encode())
    return digest


def key_of(**parts: object) -> str:
    """One hex digest for a set of named inputs."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()
