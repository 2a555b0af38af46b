"""Work that takes long: it says how far it is, and ends when it is no longer wanted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from sixways.server.ssh import HostError


class Interrupted(HostError):
    """The user ended the update."""


def _nobody(step: str, share: float, message: str) -> None:
    pass


def _nobody_told(message: str) -> None:
    pass


@dataclass
class Work:
    """Who hears of it, and whether to go on.

    Attributes:
        progress: told a step, how much of it is done (0 to 1), and a message.
        tell: told what is being done, where nobody knows how much of it is.
        cancelled: set when it is no longer wanted.
        touched: whether anything on the host was changed that a later call must take away.
        sent: bytes that were sent so far.
    """

    progress: Callable[[str, float, str], None] = _nobody
    cancelled: threading.Event = field(default_factory=threading.Event)
    tell: Callable[[str], None] = _nobody_told
    touched: bool = False
    sent: int = 0

    def say(self, step: str, message: str) -> None:
        """What begins now.

        Raises:
            Interrupted: it is no longer wanted.
        """
        self.go_on()
        self.tell(f"{step}: {message}")

    def go_on(self) -> None:
        """Call it where the work can end.

        Raises:
            Interrupted: it is no longer wanted.
        """
        if self.cancelled.is_set():
            raise Interrupted("the update was interrupted. Fix: run it again, it goes on from here")


class Sending:
    """Counts the bytes of one upload of several files.

    Args:
        work: who hears of it.
        step: what is sent, in words.
        total: bytes that are missing on the host.
    """

    def __init__(self, work: Work, step: str, total: int) -> None:
        self._work = work
        self._step = step
        self._total = total
        self._sent = 0

    def add(self, count: int) -> None:
        """So many bytes more are there."""
        self._work.go_on()
        self._sent += count
        self._work.sent += count
        share = min(self._sent / self._total, 1.0) if self._total else 1.0
        message = f"{self._sent / 1e6:.1f} of {self._total / 1e6:.1f} MB"
        self._work.progress(self._step, share, message)
