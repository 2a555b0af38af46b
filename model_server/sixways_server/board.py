"""Memory that all processes of one server see: how far each worker is, and what each counted.

It is made before the workers are forked and lives as long as any of them. A worker writes its own
row and reads all; a replacement goes on in the row of the worker that died, so that no figure
falls. Without workers it has one row.
"""

from __future__ import annotations

import mmap
import os
import time
from enum import IntEnum

from sixways_server.rolling import MEMORY, Rolling

_REASON_BYTES = 4096
_DOUBLE = 8
_INTEGER = 4


class State(IntEnum):
    """How far a worker is."""

    ABSENT = 0
    LOADING = 1
    READY = 2


class Board:
    """The rows of all workers.

    Args:
        workers: how many rows.

    Attributes:
        pid: the process that made it: the server's first.
        started: when that was (Unix time).
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self.pid = os.getpid()
        self.started = time.time()
        self._since = time.monotonic()
        sizes = [MEMORY] * workers + [_REASON_BYTES, _DOUBLE, workers * _INTEGER, workers + 1]
        # Anonymous and shared: a fork sees the same pages.
        memory = memoryview(mmap.mmap(-1, sum(sizes)))
        parts = []
        for size in sizes:
            parts.append(memory[:size])
            memory = memory[size:]
        *self._rolling, self._reason, seconds, connections, self._states = parts
        self._seconds = seconds.cast("d")
        self._connections = connections.cast("I")

    def set_state(self, row: int, state: State) -> None:
        """The worker of `row` is so far."""
        self._states[row] = state

    def state(self, row: int) -> State:
        """How far the worker of `row` is."""
        return State(self._states[row])

    @property
    def complete(self) -> bool:
        """Whether every worker was ready at one time: from then on others may be told to come."""
        return bool(self._states[self.workers])

    @complete.setter
    def complete(self, value: bool) -> None:
        self._states[self.workers] = value

    @property
    def all_ready(self) -> bool:
        """Whether every worker is ready now."""
        return all(self.state(row) is State.READY for row in range(self.workers))

    @property
    def all_absent(self) -> bool:
        """Whether no worker is left."""
        return all(self.state(row) is State.ABSENT for row in range(self.workers))

    def set_connections(self, row: int, count: int) -> None:
        """So many connections are open in the worker of `row`."""
        self._connections[row] = count

    def fewest_connections(self) -> int:
        """How many are open in the worker that has the fewest of those that are ready."""
        return min(
            (self._connections[r] for r in range(self.workers) if self.state(r) is State.READY),
            default=0,
        )

    @property
    def seconds(self) -> float:
        """The most processor time of the server that was seen: a total that must not fall."""
        return self._seconds[0]

    @seconds.setter
    def seconds(self, value: float) -> None:
        self._seconds[0] = value

    @property
    def reason(self) -> str:
        """Why a worker could not start; empty if none said so."""
        return bytes(self._reason).rstrip(b"\0").decode("utf-8", "replace")

    @reason.setter
    def reason(self, text: str) -> None:
        data = text.encode("utf-8")[:_REASON_BYTES]
        self._reason[:] = data + bytes(_REASON_BYTES - len(data))

    def rolling(self, row: int) -> Rolling:
        """Rates and latencies of all rows; what is added goes into `row`."""
        return Rolling(self._rolling, row, since=self._since)
