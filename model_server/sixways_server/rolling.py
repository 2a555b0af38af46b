"""Rates and latencies of the last minutes, to look at; exact history is Prometheus' work.

One slot a second for five minutes. Latencies are counted in classes that grow by 15 %, so a
quantile is off by at most 7.5 %; memory does not depend on the load. It is plain memory, so that
the workers of a server can share it: each counts in its own, and every one can read all.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_SLOTS = 300
_SHORTEST = 1e-4
_GROWTH = math.log(1.15)
_CLASSES = 128  # the last one begins at an hour and a half
# Of a slot, in this order: its second, then what was counted in it, then the classes of latency.
_REQUESTS, _FAILED, _REFUSED, _TOKENS_IN, _TOKENS_OUT, _LATENCY = range(1, 7)
_SLOT = _LATENCY + _CLASSES
MEMORY = _SLOTS * _SLOT * 4
"""Bytes of what one process counts."""


@dataclass(frozen=True)
class Window:
    """The last `seconds` seconds. Rates are per second; latencies in milliseconds, None: no data.

    `error_rate` is the share of answers with status 500 or more; `refused_rate` of 400 to 499.
    """

    seconds: int
    requests: int
    requests_per_second: float
    error_rate: float
    refused_rate: float
    p50_ms: float | None
    p99_ms: float | None
    tokens_in_per_second: float
    tokens_out_per_second: float


class Rolling:
    """Counts requests, from one thread; any may ask.

    Args:
        memory: what each process counts, `MEMORY` bytes of zeros each; None: this one alone.
        own: which of these this process writes.
        clock: monotonic seconds, the same for all processes.
        since: when the first of them began to count.
    """

    def __init__(
        self,
        memory: Sequence[memoryview] | None = None,
        own: int = 0,
        *,
        clock: Callable[[], float] = time.monotonic,
        since: float | None = None,
    ) -> None:
        self._clock = clock
        views = memory if memory is not None else [memoryview(bytearray(MEMORY))]
        self._all = [view.cast("I") for view in views]
        self._own = self._all[own]
        self._since = clock() if since is None else since

    def add(self, seconds: float, status: int, tokens_in: int, tokens_out: int) -> None:
        """One request ended."""
        second = int(self._clock())
        start = second % _SLOTS * _SLOT
        slot = self._own[start : start + _SLOT]
        if slot[0] != second:
            slot[:] = _EMPTY
            slot[0] = second
        slot[_REQUESTS] += 1
        slot[_FAILED] += status >= 500
        slot[_REFUSED] += 400 <= status < 500
        slot[_TOKENS_IN] += tokens_in
        slot[_TOKENS_OUT] += tokens_out
        if status < 400:
            place = int(math.log(max(seconds, _SHORTEST) / _SHORTEST) / _GROWTH)
            slot[_LATENCY + min(place, _CLASSES - 1)] += 1

    def window(self, seconds: int) -> Window:
        """The last `seconds` (at most 300) whole seconds and the one that runs."""
        now = self._clock()
        first = int(now) - min(seconds, _SLOTS)
        sums = [0] * _LATENCY
        latency: Counter[int] = Counter()
        for counted in self._all:
            for start in range(0, _SLOTS * _SLOT, _SLOT):
                if counted[start] > first:
                    slot = counted[start : start + _SLOT].tolist()
                    for place in range(_REQUESTS, _LATENCY):
                        sums[place] += slot[place]
                    latency.update({i: n for i, n in enumerate(slot[_LATENCY:]) if n})
        requests = sums[_REQUESTS]
        # A server that just started is not slow: it has not had all of the window yet.
        span = max(1.0, min(seconds, now - self._since))
        return Window(
            seconds=seconds,
            requests=requests,
            requests_per_second=round(requests / span, 3),
            error_rate=round(sums[_FAILED] / requests, 5) if requests else 0.0,
            refused_rate=round(sums[_REFUSED] / requests, 5) if requests else 0.0,
            p50_ms=_quantile(latency, 0.5),
            p99_ms=_quantile(latency, 0.99),
            tokens_in_per_second=round(sums[_TOKENS_IN] / span, 3),
            tokens_out_per_second=round(sums[_TOKENS_OUT] / span, 3),
        )


_EMPTY = memoryview(bytearray(_SLOT * 4)).cast("I")


def _quantile(latency: Counter[int], share: float) -> float | None:
    left = math.ceil(sum(latency.values()) * share)
    for index in sorted(latency):
        left -= latency[index]
        if left <= 0:
            return round(_SHORTEST * math.exp((index + 0.5) * _GROWTH) * 1000, 3)
    return None
