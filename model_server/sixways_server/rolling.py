"""Rates and latencies of the last minutes, to look at; exact history is Prometheus' work.

One slot a second for five minutes. Latencies are counted in classes that grow by 15 %, so a
quantile is off by at most 7.5 %; memory does not depend on the load.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

_SLOTS = 300
_SHORTEST = 1e-4
_GROWTH = math.log(1.15)


@dataclass(slots=True)
class _Slot:
    second: int = -1
    requests: int = 0
    failed: int = 0
    refused: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    latency: Counter[int] = field(default_factory=Counter)


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
    """Counts requests. From the event loop only.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._slots = [_Slot() for _ in range(_SLOTS)]
        self._since = clock()

    def add(self, seconds: float, status: int, tokens_in: int, tokens_out: int) -> None:
        """One request ended."""
        second = int(self._clock())
        slot = self._slots[second % _SLOTS]
        if slot.second != second:
            slot = self._slots[second % _SLOTS] = _Slot(second)
        slot.requests += 1
        slot.failed += status >= 500
        slot.refused += 400 <= status < 500
        slot.tokens_in += tokens_in
        slot.tokens_out += tokens_out
        if status < 400:
            slot.latency[int(math.log(max(seconds, _SHORTEST) / _SHORTEST) / _GROWTH)] += 1

    def window(self, seconds: int) -> Window:
        """The last `seconds` (at most 300) whole seconds and the one that runs."""
        now = self._clock()
        slots = [s for s in self._slots if s.second > int(now) - min(seconds, _SLOTS)]
        requests = sum(s.requests for s in slots)
        latency: Counter[int] = Counter()
        for slot in slots:
            latency.update(slot.latency)
        # A server that just started is not slow: it has not had all of the window yet.
        span = max(1.0, min(seconds, now - self._since))
        return Window(
            seconds=seconds,
            requests=requests,
            requests_per_second=round(requests / span, 3),
            error_rate=round(sum(s.failed for s in slots) / requests, 5) if requests else 0.0,
            refused_rate=round(sum(s.refused for s in slots) / requests, 5) if requests else 0.0,
            p50_ms=_quantile(latency, 0.5),
            p99_ms=_quantile(latency, 0.99),
            tokens_in_per_second=round(sum(s.tokens_in for s in slots) / span, 3),
            tokens_out_per_second=round(sum(s.tokens_out for s in slots) / span, 3),
        )


def _quantile(latency: Counter[int], share: float) -> float | None:
    left = math.ceil(sum(latency.values()) * share)
    for index in sorted(latency):
        left -= latency[index]
        if left <= 0:
            return round(_SHORTEST * math.exp((index + 0.5) * _GROWTH) * 1000, 3)
    return None
