"""The cache: finished bundles by digest, variants and builds by what went into them.

Everything here can be deleted at any time; it is made again when it is needed.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec

_T = TypeVar("_T")


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
    # A name of its own for every call: threads of one process write the same file too.
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)


def read_note(path: Path, kind: type[_T]) -> _T | None:
    """What a JSON file of the cache says; None where it is missing or damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return None


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
