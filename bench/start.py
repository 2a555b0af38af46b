"""How long a server takes from the start of its process to its first answer."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
from rich.table import Table

from bench.figures import Figure


def start_to_ready(bundles: Mapping[str, Path], rounds: int = 5) -> dict[str, Figure]:
    """Seconds until `/readyz` answers 200, by name; the bundles take turns.

    The clock starts before the process does, so Python's own start, all imports and the
    verification of every byte are in it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in bundles}
    for _ in range(rounds):
        for name, path in bundles.items():
            seconds[name].append(_one_start(name, path))
    return {name: Figure.of(values) for name, values in seconds.items()}


def table(starts: Mapping[str, Figure]) -> Table:
    """The figures, for people."""
    shown = Table("model", "seconds, median (min to max)", title="process start to ready")
    for name, figure in starts.items():
        shown.add_row(name, str(figure))
    return shown


def _one_start(name: str, path: Path) -> float:
    with tempfile.TemporaryDirectory() as folder:
        keys, config, status = (
            Path(folder) / n for n in ("keys.json", "server.json", "status.json")
        )
        keys.write_text('{"keys": []}')
        config.write_text(
            json.dumps(
                {
                    "models": [{"name": name, "path": str(path)}],
                    "port": 0,
                    "keys_file": str(keys),
                    "status_file": str(status),
                }
            )
        )
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "sixways_server", "--config", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while process.poll() is None and time.perf_counter() - began < 60:
                now = json.loads(status.read_text()) if status.is_file() else {}
                if now.get("state") == "ready":
                    httpx.get(f"{now['url']}/readyz").raise_for_status()
                    return time.perf_counter() - began
                time.sleep(0.005)
        finally:
            process.terminate()
            process.wait(30)
    raise RuntimeError(f"{name} did not become ready")
