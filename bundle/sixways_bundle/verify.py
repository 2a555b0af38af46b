"""Reads every byte of a bundle and compares it with the manifest.

Runs before any engine opens a file, on every way.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from sixways_bundle.errors import BundleError, Problem
from sixways_bundle.manifest import MANIFEST, FileEntry, Manifest

BUILD_REPORT = "build.json"
"""What the build measured on its machine; no part of the content, so no part of the digest."""
SIGNATURE = "bundle.sig"
_BESIDE = {MANIFEST, BUILD_REPORT, SIGNATURE}
_REBUILD = "build it again (pulumi up --refresh, or sixways bundle build), or copy it again"


def verify(
    bundle: Path,
    *,
    digest: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Checks that the bundle holds exactly the files its manifest lists, byte for byte.

    Args:
        bundle: the bundle's folder.
        digest: the digest it must have (`sha256:…`); None accepts any.
        progress: told (bytes read, bytes in all) after each file.

    Returns:
        The manifest.

    Raises:
        BundleError: names the first file that is missing, differs, or does not belong there.
    """
    manifest = Manifest.load(bundle)
    if digest is not None and manifest.digest != digest:
        raise BundleError(
            f"{bundle} is another bundle",
            [Problem("bundle_digest", manifest.digest, digest, _REBUILD)],
        )
    total = sum(entry.size for entry in manifest.files)
    done = 0
    for entry in manifest.files:
        _verify_file(bundle, entry)
        done += entry.size
        if progress:
            progress(done, total)
    listed = {entry.path for entry in manifest.files} | _BESIDE
    for found in _walk(bundle):
        if found not in listed:
            raise BundleError(
                f"bundle {manifest.name} holds a file that its manifest does not list",
                [Problem("file", found, f"the {len(listed)} files of {MANIFEST}", _REBUILD)],
            )
    return manifest


def entry_of(root: Path, path: Path) -> FileEntry:
    """The manifest entry of a file below `root`."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(
        path=path.relative_to(root).as_posix(), size=path.stat().st_size, sha256=digest
    )


def _verify_file(bundle: Path, entry: FileEntry) -> None:
    relative = PurePosixPath(entry.path)
    # A manifest is data from elsewhere: it must not lead out of its own folder.
    if relative.is_absolute() or ".." in relative.parts:
        raise BundleError(
            "a manifest may only list files of its own folder",
            [Problem("path", entry.path, "a relative path without '..'", _REBUILD)],
        )
    path = bundle / relative
    parents = [bundle / parent for parent in relative.parents if parent.name]
    if any(step.is_symlink() for step in (path, *parents)) or not path.is_file():
        raise BundleError(
            f"{bundle}: a file of the bundle is missing",
            [Problem("file", entry.path, f"a regular file of {entry.size} bytes", _REBUILD)],
        )
    found = entry_of(bundle, path)
    if found.size != entry.size:
        raise BundleError(
            f"{bundle}: {entry.path} differs from the manifest",
            [Problem("size", f"{found.size} bytes", f"{entry.size} bytes", _REBUILD)],
        )
    if found.sha256 != entry.sha256:
        raise BundleError(
            f"{bundle}: {entry.path} differs from the manifest",
            [Problem("sha256", found.sha256, entry.sha256, _REBUILD)],
        )


def _walk(bundle: Path) -> list[str]:
    found = []
    for folder, folders, files in os.walk(bundle):
        # A linked folder is not walked into: it counts as a file that nobody listed.
        names = files + [name for name in folders if (Path(folder) / name).is_symlink()]
        found += [(Path(folder) / name).relative_to(bundle).as_posix() for name in names]
    return sorted(found)
