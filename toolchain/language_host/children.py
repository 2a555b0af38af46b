"""The processes that the host started: none may outlive it."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# The engine kills its plugins five seconds after it asked them to stop.
GRACE_S = 4.0


class Children:
    """Children by role, so that a cancelled program does not take its providers along."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[subprocess.Popen[bytes], str] = {}

    @contextmanager
    def keep(self, role: str, child: subprocess.Popen[bytes]) -> Iterator[None]:
        """Count `child` among the running ones; stop it if the block is left before it ends."""
        with self._lock:
            self._running[child] = role
        try:
            yield
        finally:
            stop(child)
            with self._lock:
                self._running.pop(child, None)

    def interrupt(self, role: str) -> None:
        """Ask the children of one role to end, as Ctrl-C does."""
        for child in self._of(role):
            child.send_signal(signal.SIGINT)

    def stop_all(self) -> None:
        children = self._of(None)
        for child in children:
            child.terminate()
        for child in children:
            stop(child)

    def _of(self, role: str | None) -> list[subprocess.Popen[bytes]]:
        with self._lock:
            return [c for c, own in self._running.items() if role is None or own == role]


def end(child: subprocess.Popen[bytes]) -> None:
    """Ask a child that still runs to end, without waiting for it."""
    if child.poll() is None:
        child.terminate()


def stop(child: subprocess.Popen[bytes], grace_s: float = GRACE_S) -> int:
    """End a child, politely first; answer its exit status."""
    if child.poll() is None:
        end(child)
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait()
