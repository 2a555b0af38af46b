"""The status file: how far the server is, for whoever started it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec


class StatusFile:
    """Written whole or not at all; every state holds the pid and when the process started.

    States: `starting` (with `message`), `ready` (with `host`, `port`, `url`), `draining`,
    `stopped`, `failed` (with `error`).

    Args:
        path: the file, or None to write nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._started = time.time()

    def starting(self, message: str) -> None:
        """What is being done."""
        self._write("starting", message=message)

    def ready(self, host: str, port: int) -> None:
        """Requests are answered."""
        shown = f"[{host}]" if ":" in host else host
        self._write("ready", host=host, port=port, url=f"http://{shown}:{port}")

    def failed(self, error: str) -> None:
        """It will not start."""
        self._write("failed", error=error)

    def ended(self, state: str) -> None:
        """`draining` or `stopped`; nothing where the file was removed: nobody reads it any more."""
        if self._path is not None and self._path.exists():
            self._write(state)

    def _write(self, state: str, **rest: object) -> None:
        if self._path is None:
            return
        content = {"state": state, "pid": os.getpid(), "started_at": self._started, **rest}
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        fresh.write_bytes(msgspec.json.encode(content))
        fresh.replace(self._path)
