"""The objective as Prometheus sees it: what to scrape, what to record, and when to alert.

Alerts look at two windows each, and at how fast the error budget is used up in both (Google, "The
Site Reliability Workbook", chapter 5, "Alerting on SLOs"): the long one says that it matters, the
short one that it still goes on, so that an alert ends soon after its cause. With the defaults (30
days, 5 minutes) windows and rates are that book's:

| severity | share of the budget | long window | short window | times too fast |
| --- | --- | --- | --- | --- |
| critical | 2 % | 1 h | 5 min | 14.4 |
| critical | 5 % | 6 h | 30 min | 6 |
| warning | 10 % | 1 d | 2 h | 3 |
| warning | 10 % | 3 d | 6 h | 1 |

Another `window_minutes` stretches all windows, another `period_days` the rates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import yaml

from sixways.observability.slo import Slo

RUNBOOK = "docs/monitoring.md"
"""Where the runbook is when nobody says otherwise: a page of this project."""

BOUNDS = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.16, 0.25, 0.32, 0.5, 0.64, 1.0, 1.28, 2.0,
          2.56, 5.0, 5.12, 10.0, 10.24, 20.48, 30.0, 40.96, 60.0, 81.92)  # fmt: skip
"""Bounds in seconds of the server's histogram of latencies (`sixways_server.metrics`)."""

LATENCY = "gen_ai_server_request_duration_seconds"
ERRORS = "sixways_request_errors_total"
NODE_EXPORTER_PORT = 9100
DCGM_EXPORTER_PORT = 9400

# Share of the budget, and windows in units of the objective's own.
_PAIRS = ((0.02, 12, 1, "critical"), (0.05, 72, 6, "critical"),
          (0.10, 288, 24, "warning"), (0.10, 864, 72, "warning"))  # fmt: skip
_BY_MODEL = "sum by (model_name)"


@dataclass(frozen=True)
class Burn:
    """One pair of windows.

    Attributes:
        long_s: seconds of the long window.
        short_s: seconds of the short window.
        rate: the alert fires where the budget is used up more than so many times too fast.
        severity: `critical` wants somebody now, `warning` within days.
    """

    long_s: float
    short_s: float
    rate: float
    severity: str


def burns(slo: Slo) -> tuple[Burn, ...]:
    """The pairs of windows of an objective.

    A rate is never below 1, since at 1 the objective is just kept: a short period with long windows
    has fewer distinct pairs.
    """
    minutes = slo.window_minutes
    period = slo.period_days * 24 * 60
    return tuple(
        Burn(long * minutes * 60, short * minutes * 60, max(1.0, share * period / (long * minutes)),
             severity)
        for share, long, short, severity in _PAIRS
    )  # fmt: skip


def threshold(rate: float, budget: float) -> float:
    """The share of bad requests above which an alert fires.

    A large budget could never be used up so many times too fast, not even with no good request at
    all; half of what is beyond the budget is enough then.
    """
    return min(rate * budget, (1 + budget) / 2)


def duration(seconds: float) -> str:
    """A duration as Prometheus writes it: 259200 is `3d`, 5400 is `90m`."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:.0f}{name}"
    return f"{seconds:.0f}s"


def share_within(seconds: float) -> tuple[tuple[float, float], ...]:
    """How many requests took at most `seconds`, as bounds of the histogram and their weights.

    Between two bounds it is interpolated, as `histogram_quantile` does.
    """
    if seconds in BOUNDS or seconds > BOUNDS[-1]:
        return ((min(seconds, BOUNDS[-1]), 1.0),)
    upper = next(bound for bound in BOUNDS if bound > seconds)
    lower = max((bound for bound in BOUNDS if bound < seconds), default=0.0)
    weight = (seconds - lower) / (upper - lower)
    return tuple(pair for pair in ((lower, 1 - weight), (upper, weight)) if pair[0] > 0)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the rules say, as text: values of an objective, or a chart's placeholders.

    Attributes:
        name: names the objective in the label `slo`, so that several stand beside each other.
        selector: which series are meant, as in PromQL's braces.
        pairs: of each pair of windows long and short, severity, and the thresholds of errors and
            latency.
        within: PromQL that counts the requests in time of a window.
        quantile: `latency_quantile`.
        milliseconds: `latency_ms`.
        errors_percent: `error_rate` in percent.
        down_for: how long a server may be silent.
        runbook: the page to whose sections alerts lead.
    """

    name: str
    selector: str
    pairs: tuple[tuple[str, str, str, str, str], ...]
    within: Callable[[str], str]
    quantile: str
    milliseconds: str
    errors_percent: str
    down_for: str
    runbook: str = RUNBOOK

    @classmethod
    def of(
        cls,
        slo: Slo,
        *,
        name: str,
        selector: str,
        runbook: str = RUNBOOK,
        windows: Sequence[Burn] | None = None,
    ) -> Self:
        """Those of an objective; `windows` instead of its own."""
        pairs = tuple(
            (duration(burn.long_s), duration(burn.short_s), burn.severity,
             number(threshold(burn.rate, slo.error_rate)),
             number(threshold(burn.rate, slo.latency_budget)))
            for burn in (windows or burns(slo))
        )  # fmt: skip
        return cls(
            name=name,
            selector=selector,
            pairs=pairs,
            within=lambda window: _within(slo.latency_ms / 1000, selector, window),
            quantile=number(slo.latency_quantile),
            milliseconds=number(slo.latency_ms),
            errors_percent=number(slo.error_rate * 100),
            down_for=pairs[0][1],
            runbook=runbook,
        )


def rule_groups(terms: Terms, *, machines: bool = True) -> list[dict[str, Any]]:
    """Recording and alert rules, in Prometheus' form.

    Args:
        terms: what they say.
        machines: whether alerts look at disks and memory too; where servers run in containers,
            somebody else watches the nodes.
    """
    windows = dict.fromkeys(
        window for long, short, *_ in terms.pairs for window in (short, long)
    )  # in order, each once
    recorded = [rule for window in windows for rule in _recorded(terms, window)]
    alerts = [
        rule
        for severity in dict.fromkeys(pair[2] for pair in terms.pairs)
        for rule in (_slow(terms, severity), _failing(terms, severity))
    ]
    alerts.append(_down(terms))
    if machines:
        alerts += _machines(terms)
    return [
        {"name": f"sixways-slo:{terms.name}", "rules": recorded},
        {"name": f"sixways-alerts:{terms.name}", "rules": alerts},
    ]


def rules_file(groups: list[dict[str, Any]]) -> str:
    """A file for Prometheus' `rule_files`."""
    return _yaml({"groups": groups})


@dataclass(frozen=True, kw_only=True)
class Target:
    """One host that is scraped.

    Attributes:
        name: its label `host`.
        address: IP address or name.
        port: of its https.
    """

    name: str
    address: str
    port: int = 443

    def at(self, port: int) -> str:
        """`ADDRESS:PORT`; an IPv6 address in brackets."""
        return f"[{self.address}]:{port}" if ":" in self.address else f"{self.address}:{port}"


def scrape_configs(
    name: str,
    targets: Sequence[Target],
    *,
    ca_file: str | None = None,
    server_name: str | None = None,
    scheme: str = "https",
    node_exporter_port: int | None = None,
    dcgm_exporter_port: int | None = None,
) -> list[dict[str, Any]]:
    """The jobs: the servers' own `/metrics`, and the exporters that run beside them.

    Args:
        name: the job; others are called `NAME-node` and `NAME-gpu`.
        targets: the hosts.
        ca_file: certificates (PEM) that the hosts' are trusted by; None: the system's.
        server_name: the name in the hosts' certificates, where they are scraped by another.
        scheme: `http` for servers that nothing stands in front of.
        node_exporter_port: of Prometheus' node-exporter; None: not scraped.
        dcgm_exporter_port: of NVIDIA's dcgm-exporter; None: not scraped.
    """
    tls = {"ca_file": ca_file, "server_name": server_name}
    jobs: list[dict[str, Any]] = [
        {
            "job_name": name,
            "scheme": scheme,
            "metrics_path": "/metrics",
            "tls_config": {key: value for key, value in tls.items() if value},
            "static_configs": _static(targets),
        }
    ]
    if scheme == "http" or not jobs[0]["tls_config"]:
        del jobs[0]["tls_config"]
    exporters = {"node": node_exporter_port, "gpu": dcgm_exporter_port}
    jobs += [
        {"job_name": f"{name}-{kind}", "static_configs": _static(targets, port)}
        for kind, port in exporters.items()
        if port
    ]
    return jobs


def scrape_file(jobs: list[dict[str, Any]]) -> str:
    """The jobs alone: to be added to a Prometheus that runs already (`scrape_config_files`)."""
    return _yaml({"scrape_configs": jobs})


def configuration(
    jobs: list[dict[str, Any]],
    *,
    scrape_seconds: int = 15,
    rule_files: Sequence[str] = ("rules.yml",),
    alertmanagers: Sequence[str] = (),
) -> str:
    """A whole configuration of a Prometheus of its own.

    Args:
        jobs: see `scrape_configs`.
        scrape_seconds: pause between two scrapes, and between two looks at the rules.
        rule_files: paths, relative to the configuration.
        alertmanagers: `ADDRESS:PORT` of whoever is told of alerts.
    """
    every = f"{scrape_seconds}s"
    whole: dict[str, Any] = {
        "global": {"scrape_interval": every, "evaluation_interval": every},
        "rule_files": list(rule_files),
    }
    if scrape_seconds < 10:
        whole["global"]["scrape_timeout"] = every
    if alertmanagers:
        whole["alerting"] = {
            "alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}]
        }
    return _yaml({**whole, "scrape_configs": jobs})


def number(value: float) -> str:
    """Six digits, as Helm's `%.6g` writes it."""
    return f"{value:.6g}"


def errors_ratio(selector: str, window: str) -> str:
    """PromQL: the share of requests that ended in a server error; 0 where none did."""
    failed = f'{_BY_MODEL} (rate({ERRORS}{{{selector}, status=~"5.."}}[{window}]))'
    return f"({failed} or 0 * {_all(selector, window)}) / {_all(selector, window)}"


def _all(selector: str, window: str) -> str:
    return f"{_BY_MODEL} (rate({LATENCY}_count{{{selector}}}[{window}]))"


def within_bound(bound: str, selector: str, window: str) -> str:
    """PromQL: the rate of requests up to one bound of the histogram."""
    return f'{_BY_MODEL} (rate({LATENCY}_bucket{{{selector}, le="{bound}"}}[{window}]))'


def _within(seconds: float, selector: str, window: str) -> str:
    parts = share_within(seconds)
    if len(parts) == 1 and parts[0][1] == 1:
        return within_bound(str(parts[0][0]), selector, window)
    terms = (
        f"{number(weight)} * {within_bound(str(bound), selector, window)}"
        for bound, weight in parts
    )
    return f"({' + '.join(terms)})"


def _recorded(terms: Terms, window: str) -> list[dict[str, Any]]:
    """Names as Prometheus advises: level:metric:operations."""
    labels = {"slo": terms.name}
    slow = f"1 - {terms.within(window)} / {_all(terms.selector, window)}"
    return [
        {"record": f"sixways:errors:ratio_rate{window}",
         "expr": errors_ratio(terms.selector, window), "labels": labels},
        {"record": f"sixways:slow:ratio_rate{window}", "expr": slow, "labels": labels},
    ]  # fmt: skip


def _burning(terms: Terms, kind: str, severity: str, index: int) -> str:
    of = f'{{slo="{terms.name}"}}'
    return "\nor\n".join(
        f"(sixways:{kind}:ratio_rate{pair[0]}{of} > {pair[index]}"
        f" and sixways:{kind}:ratio_rate{pair[1]}{of} > {pair[index]})"
        for pair in terms.pairs
        if pair[2] == severity
    )


def _failing(terms: Terms, severity: str) -> dict[str, Any]:
    return _alert(
        terms, "Errors", severity, _burning(terms, "errors", severity, 3),
        "Model {{ $labels.model_name }} fails: {{ $value | humanizePercentage }} of its answers "
        f"are server errors; promised are at most {terms.errors_percent} %.",
    )  # fmt: skip


def _slow(terms: Terms, severity: str) -> dict[str, Any]:
    return _alert(
        terms, "Latency", severity, _burning(terms, "slow", severity, 4),
        "Model {{ $labels.model_name }} is slow: {{ $value | humanizePercentage }} of its answers "
        f"take longer than {terms.milliseconds} ms; promised are {terms.milliseconds} ms at "
        f"quantile {terms.quantile}.",
    )  # fmt: skip


def _down(terms: Terms) -> dict[str, Any]:
    return _alert(
        terms, "Down", "critical", f"up{{{terms.selector}}} == 0",
        "{{ $labels.instance }} does not answer Prometheus.", terms.down_for,
    )  # fmt: skip


def _machines(terms: Terms) -> list[dict[str, Any]]:
    free = (
        f'system_filesystem_usage_bytes{{{terms.selector}, system_filesystem_state="free"}}'
        " / ignoring (system_filesystem_state) "
        f"system_filesystem_limit_bytes{{{terms.selector}}}"
    )
    available = (
        f"system_linux_memory_available_bytes{{{terms.selector}}}"
        f" / system_memory_limit_bytes{{{terms.selector}}}"
    )
    return [
        _alert(terms, "Disk", "warning", f"{free} < 0.1",
               "{{ $labels.instance }}: {{ $value | humanizePercentage }} of "
               "{{ $labels.system_filesystem_mountpoint }} are free.", "10m"),
        _alert(terms, "Memory", "warning", f"{available} < 0.05",
               "{{ $labels.instance }}: {{ $value | humanizePercentage }} of its memory are free.",
               "10m"),
    ]  # fmt: skip


def _alert(
    terms: Terms, key: str, severity: str, expression: str, summary: str, hold: str | None = None
) -> dict[str, Any]:
    rule: dict[str, Any] = {"alert": f"Sixways{key}", "expr": expression}
    if hold:
        rule["for"] = hold
    rule["labels"] = {"severity": severity, "slo": terms.name}
    link = f"{terms.runbook}#runbook-{key.lower()}"
    rule["annotations"] = {"summary": summary, "runbook_url": link}
    return rule


def _static(targets: Sequence[Target], port: int | None = None) -> list[dict[str, Any]]:
    return [
        {"targets": [target.at(port or target.port)], "labels": {"host": target.name}}
        for target in targets
    ]


class _Plain(yaml.SafeDumper):
    """Repeats what stands twice, instead of pointing at it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Plain, value: str) -> yaml.Node:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Plain.add_representer(str, _text)


def _yaml(value: Mapping[str, Any]) -> str:
    return yaml.dump(value, Dumper=_Plain, sort_keys=False, width=10_000, allow_unicode=True)
