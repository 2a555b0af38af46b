"""The wheel as other repositories get it: built here, installed into an environment of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_UV = str(Path(sys.executable).parent / "uv")


def build_wheel(folder: Path) -> Path:
    """Builds the wheel of this checkout into `folder`, with the tools that are installed."""
    _run(_UV, "build", "--wheel", "--no-build-isolation", "--python", sys.executable,
         "--out-dir", str(folder), str(ROOT))  # fmt: skip
    (wheel,) = folder.glob("sixways-*.whl")
    return wheel


def environment_with(folder: Path, *requirements: str) -> Path:
    """A virtual environment with those requirements and nothing else; returns its `bin`."""
    _run(_UV, "venv", "--quiet", "--python", sys.executable, str(folder))
    _run(_UV, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"),
         "--constraint", str(ROOT / "constraints.txt"),
         "--override", str(ROOT / "toolchain" / "overrides.txt"), *requirements)  # fmt: skip
    return folder / "bin"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
