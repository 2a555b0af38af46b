"""The dashboard for Grafana, the same on every way that Prometheus watches.

It is written as plain JSON by a few functions here. Grafana's own builders (PyPI
`grafana-foundation-sdk`) hold it against Grafana's schema in the tests, and are not needed to make
it: their versions carry a date as epoch (`1769699520!11.6.0`), so that no range of them can be
asked for, and a Helm chart needs placeholders where they have numbers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sixways.observability.prometheus import (
    LATENCY,
    Terms,
    errors_ratio,
)
from sixways.observability.slo import Slo

_SCHEMA = 39
"""Grafana's version of the format: that of Grafana 10; newer ones bring it to theirs."""
_WIDTH, _HEIGHT = 12, 8
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_FIRST = "gen_ai_server_time_to_first_token_seconds"
_EACH = "gen_ai_server_time_per_output_token_seconds"
_RATE = "$__rate_interval"


@dataclass(frozen=True)
class Query:
    """A line, or several of one kind.

    Attributes:
        expression: PromQL.
        legend: what the lines are called; `{{LABEL}}` stands for a label's value.
    """

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One graph.

    Attributes:
        title: its heading.
        unit: Grafana's name of the unit.
        queries: what it shows.
        limit: where its red line is; a number, or a placeholder.
        description: shown at its heading.
        most: the end of its axis; None: of itself.
    """

    title: str
    unit: str
    queries: tuple[Query, ...]
    limit: float | str | None = None
    description: str = ""
    most: float | None = None


@dataclass(frozen=True)
class Row:
    """Panels below one heading."""

    title: str
    panels: tuple[Panel, ...] = field(default_factory=tuple)


def dashboard(slo: Slo, *, name: str, selector: str, title: str, runbook: str = "") -> str:
    """The dashboard as a file for Grafana.

    Args:
        slo: the objective, whose limits are the red lines.
        name: the objective's name in the rules (label `slo`).
        selector: which series are meant, as in PromQL's braces.
        title: its title.
        runbook: URL of the runbook; empty: no link.
    """
    terms = Terms.of(slo, name=name, selector=selector)
    link = runbook if runbook.startswith(("https://", "http://")) else ""
    board = render(terms, title=title, seconds=slo.latency_ms / 1000, errors=slo.error_rate,
                   longest=terms.pairs[-1][0], link=link)  # fmt: skip
    return json.dumps(board, indent=2) + "\n"


def render(
    terms: Terms,
    *,
    title: str,
    seconds: float | str,
    errors: float | str,
    longest: str,
    link: str = "",
) -> dict[str, Any]:
    """The dashboard's objects. Numbers may be a chart's placeholders, as text."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row in _rows(terms, seconds, errors, longest):
        number_ = len(panels) + 1
        panels.append({"id": number_, "type": "row", "title": row.title, "collapsed": False,
                       "gridPos": _place(top, 0, 1, 2 * _WIDTH), "panels": []})  # fmt: skip
        top += 1
        for index, panel in enumerate(row.panels):
            place = _place(top + index // 2 * _HEIGHT, index % 2 * _WIDTH, _HEIGHT, _WIDTH)
            panels.append(_panel(panel, len(panels) + 1, place))
        top += -(-len(row.panels) // 2) * _HEIGHT
    source = {"name": "datasource", "label": "Data source", "type": "datasource",
              "query": "prometheus"}  # fmt: skip
    links = [{"title": "Runbook", "type": "link", "url": link, "targetBlank": True}]
    return {
        "title": title,
        "tags": ["sixways"],
        "editable": False,
        "refresh": "30s",
        "schemaVersion": _SCHEMA,
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source]},
        "links": links if link else [],
        "panels": panels,
    }


def _rows(terms: Terms, seconds: float | str, errors: float | str, longest: str) -> Sequence[Row]:
    return (
        Row("Objective", _objective(terms, seconds, errors, longest)),
        Row("Load", _load(terms.selector)),
        Row("Tokens", _tokens(terms)),
        Row("GPU", _gpu(terms.selector)),
        Row("Machine and fleet", _machine(terms.selector)),
    )


def _objective(
    terms: Terms, seconds: float | str, errors: float | str, longest: str
) -> tuple[Panel, ...]:
    of = f'{{slo="{terms.name}"}}'
    return (
        Panel(
            f"Latency L (quantile {terms.quantile})", "s",
            (Query(_quantile(terms.quantile, LATENCY, terms.selector), "{{model_name}}"),), seconds,
        ),
        Panel(
            "Error rate E", "percentunit",
            (Query(errors_ratio(terms.selector, _RATE), "{{model_name}}"),), errors,
        ),
        Panel(
            f"Share of slow answers, over {longest}", "percentunit",
            (Query(f"sixways:slow:ratio_rate{longest}{of}", "{{model_name}}"),),
            description="As the alerts see it: recorded by the rules.",
        ),
        Panel(
            f"Share of server errors, over {longest}", "percentunit",
            (Query(f"sixways:errors:ratio_rate{longest}{of}", "{{model_name}}"),), errors,
            description="As the alerts see it: recorded by the rules.",
        ),
    )  # fmt: skip


def _load(of: str) -> tuple[Panel, ...]:
    requests = f"sum by (model_name, status) (rate({LATENCY}_count{{{of}}}[{_RATE}]))"
    return (
        Panel("Requests a second", "reqps", (Query(requests, "{{model_name}} {{status}}"),)),
        Panel(
            "In flight and waiting", "short",
            (Query(f"sum by (model_name) (sixways_num_requests_running{{{of}}})",
                   "{{model_name}} in flight"),
             Query(f"sum by (model_name) (sixways_num_requests_waiting{{{of}}})",
                   "{{model_name}} waiting")),
            description="What waits for minutes is saturation: more replicas, or a faster variant.",
        ),
        Panel(
            "Inputs computed together, mean", "short",
            (Query(f"sum by (model_name) (rate(sixways_batch_size_sum{{{of}}}[{_RATE}]))"
                   f" / sum by (model_name) (rate(sixways_batch_size_count{{{of}}}[{_RATE}]))",
                   "{{model_name}}"),),
        ),
        Panel(
            "Processes: processor time and memory", "short",
            (Query(f"rate(process_cpu_seconds_total{{{of}}}[{_RATE}])",
                   "{{instance}} processors in use"),
             Query(f"process_resident_memory_bytes{{{of}}} / 1e9", "{{instance}} GB")),
        ),
    )  # fmt: skip


def _tokens(terms: Terms) -> tuple[Panel, ...]:
    of = terms.selector
    return (
        Panel(
            f"Time to the first token (quantile {terms.quantile})", "s",
            (Query(_quantile(terms.quantile, _FIRST, of), "{{model_name}}"),),
        ),
        Panel(
            f"Time of each further token (quantile {terms.quantile})", "s",
            (Query(_quantile(terms.quantile, _EACH, of), "{{model_name}}"),),
        ),
        Panel(
            "Tokens a second", "short",
            tuple(
                Query(f"sum by (model_name) (rate(sixways_{kind}_tokens_total{{{of}}}[{_RATE}]))",
                      f"{{{{model_name}}}} {word}")
                for kind, word in (("prompt", "read"), ("generation", "made"))
            ),
        ),
    )  # fmt: skip


def _gpu(of: str) -> tuple[Panel, ...]:
    legend = "{{instance}} {{hw_name}} {{hw_id}}"
    memory = f"hw_gpu_memory_usage_bytes{{{of}}} / hw_gpu_memory_limit_bytes{{{of}}}"
    return (
        Panel("GPU in use", "percentunit", (Query(f"hw_gpu_utilization_ratio{{{of}}}", legend),),
              most=1),
        Panel("GPU memory in use", "percentunit", (Query(memory, legend),), most=1),
        Panel("GPU temperature", "celsius", (Query(f"hw_temperature_celsius{{{of}}}", legend),)),
        Panel("GPU power", "watt", (Query(f"hw_power_watts{{{of}}}", legend),)),
    )  # fmt: skip


def _machine(of: str) -> tuple[Panel, ...]:
    idle = f'system_cpu_time_seconds_total{{{of}, cpu_mode="idle"}}'
    busy = (
        f"1 - sum by (instance) (rate({idle}[{_RATE}]))"
        f" / sum by (instance) (system_cpu_logical_count{{{of}}})"
    )
    memory = f"1 - system_linux_memory_available_bytes{{{of}}} / system_memory_limit_bytes{{{of}}}"
    free = (
        f'system_filesystem_usage_bytes{{{of}, system_filesystem_state="free"}}'
        f" / ignoring (system_filesystem_state) system_filesystem_limit_bytes{{{of}}}"
    )
    disk = (
        f"sum by (instance, disk_io_direction) (rate(system_disk_io_bytes_total{{{of}}}[{_RATE}]))"
    )
    return (
        Panel("Servers that answer", "short",
              (Query(f"sum(up{{{of}}})", "answer"), Query(f"count(up{{{of}}})", "there are"))),
        Panel("Processors in use", "percentunit", (Query(busy, "{{instance}}"),), most=1),
        Panel("Memory in use", "percentunit", (Query(memory, "{{instance}}"),), most=1),
        Panel("Free on each disk", "percentunit",
              (Query(free, "{{instance}} {{system_filesystem_mountpoint}}"),), most=1),
        Panel("To and from the disks", "Bps", (Query(disk, "{{instance}} {{disk_io_direction}}"),)),
    )  # fmt: skip


def _quantile(quantile: str, metric: str, selector: str) -> str:
    buckets = f"sum by (le, model_name) (rate({metric}_bucket{{{selector}}}[{_RATE}]))"
    return f"histogram_quantile({quantile}, {buckets})"


def _place(top: int, left: int, height: int, width: int) -> dict[str, int]:
    return {"h": height, "w": width, "x": left, "y": top}


def _panel(panel: Panel, number_: int, place: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.limit is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.limit}]
        defaults["custom"] = {"thresholdsStyle": {"mode": "line"}}
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    return {
        "id": number_,
        "title": panel.title,
        **({"description": panel.description} if panel.description else {}),
        "type": "timeseries",
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": query.expression,
             "legendFormat": query.legend}
            for index, query in enumerate(panel.queries)
        ],
    }  # fmt: skip
