"""A plan in Kong's words.

Kong's open-source `rate-limiting` counts requests in windows of the clock: a second, minute, hour,
day, month. It knows no bucket that refills, so a plan becomes windows: `burst` is what one second
may bring, and the steady rate what the shortest window may bring in which it is 10 requests or
more, or a whole number. A caller may so take a window's requests at the burst's pace, and then
waits for the window's end, which Retry-After names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sixways.api import defaults

_SECONDS = {"minute": 60, "hour": 3600, "day": 86_400}
_ORDER = ("month", "day", "hour", "minute", "second")
PERIODS = ("day", "month")
"""Kong's windows among the vocabulary's quota periods."""


def windows(plan: Mapping[str, Any], pods: int) -> dict[str, int]:
    """Requests that a pod lets through in each window; empty for a plan of tokens alone.

    Args:
        plan: `PlanArgs`, all known.
        pods: how many share the limit, each counting for itself; 1 where they count together.
    """
    found: dict[str, int] = {}
    if plan.get("requests_per_second") is not None:
        period, most = _steady(plan["requests_per_second"])
        found = {period: most, "second": int(defaults.burst(plan))}  # type: ignore[arg-type]
    if plan.get("quota") is not None:
        period = plan.get("quota_period") or defaults.QUOTA_PERIOD
        found[period] = min(plan["quota"], found.get(period, plan["quota"]))
    # Kong refuses a shorter window that lets more through than a longer one.
    least = math.inf
    for period in _ORDER:
        if period in found:
            least = found[period] = int(min(found[period], least))
    return {period: share(most, pods) for period, most in found.items()}


def share(limit: int, pods: int) -> int:
    """One pod's part of a limit, rounded up."""
    return -(-limit // pods)


def _steady(rate: float) -> tuple[str, int]:
    for period, seconds in _SECONDS.items():
        most = rate * seconds
        if most >= 10 or (most >= 1 and math.isclose(most, round(most))):
            return period, math.floor(most + 1e-6)
    return "day", max(1, math.floor(rate * _SECONDS["day"]))
