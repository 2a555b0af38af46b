"""The one service level objective (SLO): what an endpoint promises, on every way.

It says which requests are good: answered in time, and without a fault of the server. Whatever
watches a way is rendered from it: CloudWatch's alarms (`cloudwatch.py`), Prometheus' rules
(`prometheus.py`) and Grafana's dashboard (`grafana.py`).
"""

from dataclasses import dataclass
from typing import Any, NotRequired, Self, TypedDict

from sixways.checks import Checks, is_plain


class SloArgs(TypedDict):
    """A service level objective. Plain numbers, since they decide what is created."""

    latency_ms: NotRequired[float]
    """Milliseconds within which a request is answered, measured at the server: without the way of
    the request over the network. Default: 500, which an embedding keeps and a person who waits for
    it does not notice; give more for language models, whose answers take seconds."""
    latency_quantile: NotRequired[float]
    """The share of requests that keep `latency_ms`, 0.5 to 0.9999. Default: 0.95; one request a
    minute is enough to judge it, while 0.99 of few requests is the slowest one."""
    error_rate: NotRequired[float]
    """The largest share of requests that may fail by a fault of the server (status 5xx), above 0
    and below 1. What a caller did wrong (4xx) is not counted. Default: 0.01."""
    window_minutes: NotRequired[int]
    """Minutes over which an alarm judges, 1 to 60: CloudWatch's fires when three in five of them
    missed the objective; of Prometheus' windows it is the shortest. Longer is calmer and later.
    Default: 5."""
    period_days: NotRequired[int]
    """Days over which the promise holds, 1 to 90: the error budget is for this long. CloudWatch's
    alarms do not use it. Default: 30."""


@dataclass(frozen=True)
class Slo:
    """A service level objective with its defaults.

    Attributes:
        latency_ms: milliseconds within which a request is answered.
        latency_quantile: the share of requests that keep it, above 0 and below 1.
        error_rate: the largest share of requests that may fail.
        window_minutes: minutes over which an alarm judges.
        period_days: days over which the promise holds.
    """

    latency_ms: float = 500.0
    latency_quantile: float = 0.95
    error_rate: float = 0.01
    window_minutes: int = 5
    period_days: int = 30

    @classmethod
    def of(cls, args: SloArgs | None) -> Self:
        """The objective of the inputs; `check_slo` says beforehand whether they can be used."""
        return cls(**(args or {}))

    @property
    def latency_budget(self) -> float:
        """The share of requests that may be slower than `latency_ms`."""
        return 1 - self.latency_quantile

    @property
    def availability(self) -> float:
        """The share of requests that must not fail."""
        return 1 - self.error_rate

    @property
    def breaching_minutes(self) -> int:
        """Minutes of the window that must miss the objective before an alarm fires: three in five,
        so that neither one slow minute fires it nor one good minute resets it."""
        return max(1, -(-self.window_minutes * 3 // 5))


def check_slo(checks: Checks, slo: Any, prefix: str = "slo.") -> None:
    """Checks the inputs of an objective.

    Args:
        checks: collects the problems.
        slo: `SloArgs` as given, or None.
        prefix: what stands before the fields' names in messages.
    """
    if slo is None:
        return
    if not isinstance(slo, dict) or not is_plain(slo):
        checks.add(prefix.rstrip("."), type(slo).__name__, "plain numbers, known before the update")
        return
    checks.known(slo, SloArgs, prefix)
    checks.number(f"{prefix}latency_ms", slo.get("latency_ms"), 1, 3_600_000)
    checks.number(
        f"{prefix}latency_quantile",
        slo.get("latency_quantile"),
        0.5,
        0.9999,
        fix="give a share of requests: 0.95 is the 95th percentile",
    )
    checks.number(
        f"{prefix}error_rate",
        slo.get("error_rate"),
        0.00001,
        0.99,
        fix="give a share of requests: 0.01 is one in a hundred",
    )
    checks.number(f"{prefix}window_minutes", slo.get("window_minutes"), 1, 60, whole=True)
    checks.number(f"{prefix}period_days", slo.get("period_days"), 1, 90, whole=True)
