"""The caches that `make down` leaves in place: where, how large, and how to remove them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toolchain import paths


@dataclass(frozen=True)
class Cache:
    path: Path
    holds: str
    remove: str


_OURS = {
    "pulumi": "the Pulumi CLI",
    "bundles": "finished bundles",
    "variants": "quantized variants",
    "digests": "remembered checksums",
    "hosts": "the Debian that the tests boot",
    "mypy": "what the type checker found out before",
    "bench": "the environments of the peers that `make bench` compares with",
}


def folder_bytes(folder: Path) -> int:
    """Bytes on disk below a folder; a file with several names counts once."""
    total = 0
    seen: set[tuple[int, int]] = set()
    pending = [str(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                        continue
                    stat = entry.stat(follow_symlinks=False)
                    if stat.st_nlink > 1:
                        if (stat.st_dev, stat.st_ino) in seen:
                            continue
                        seen.add((stat.st_dev, stat.st_ino))
                    total += stat.st_blocks * 512
        except FileNotFoundError:
            continue  # Someone else cleans up at the same time.
    return total


def human(size: int) -> str:
    """`3.1 GB`; decimal units, as `df -H` and package indexes use."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit in ("B", "kB") else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _answer(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def existing(
    bin_folder: Path, root: Path | None = None, environ: Mapping[str, str] = os.environ
) -> list[Cache]:
    """Every cache that an install or a deployment filled and that exists now."""
    root = root if root is not None else paths.cache_root(environ)
    found: list[Cache] = []
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if folder.is_dir():
            holds = _OURS.get(folder.name, folder.name)
            found.append(Cache(folder, holds, f"rm -rf {shlex.quote(str(folder))}"))
    uv = bin_folder / "uv"
    if uv.exists() and (where := _answer(str(uv), "cache", "dir")):
        found.append(Cache(Path(where), "Python packages, of all projects", f"{uv} cache clean"))
    go = shutil.which("go", path=environ.get("PATH"))
    if go and (paths.pulumi_cache(environ) / "pulumi").exists():
        for variable, flag, holds in (
            ("GOCACHE", "-cache", "Go builds, of all projects"),
            ("GOMODCACHE", "-modcache", "Go modules, of all projects"),
        ):
            if where := _answer(go, "env", variable):
                found.append(Cache(Path(where), holds, f"go clean {flag}"))
    return [cache for cache in found if cache.path.is_dir()]


def report(caches: list[Cache]) -> str:
    """One line a cache: size, place, what it holds, and the command that removes it."""
    if not caches:
        return "No cache is left on this machine."
    lines = ["These caches stay, and make the next `make up` quick:"]
    for cache in caches:
        lines.append(f"  {human(folder_bytes(cache.path)):>9}  {cache.path}  ({cache.holds})")
        lines.append(f"{'':11}  remove: {cache.remove}")
    return "\n".join(lines)
