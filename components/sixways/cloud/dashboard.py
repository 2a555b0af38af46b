"""The dashboard of an endpoint in CloudWatch: every alarm's own metric with its threshold.

Source of the format: AWS's page "Dashboard body structure and syntax" (a grid of 24 columns).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi

from sixways.cloud.alarms import Graph, Section
from sixways.cloud.console import console_page
from sixways.observability.cloudwatch import AlarmSpec, Metric
from sixways.observability.slo import Slo

COLUMNS = 24
_WIDTH, _HEIGHT = 8, 6


def dashboard_body(
    title: str,
    slo: Slo,
    sections: Sequence[Section],
    alarm_arns: Sequence[pulumi.Input[str]],
    region: pulumi.Input[str],
    runbook_url: str,
) -> dict[str, Any]:
    """The dashboard, as CloudWatch wants it; what is an output in the arguments stays one.

    Args:
        title: names the endpoint.
        slo: the objective, which the dashboard states.
        sections: what is shown.
        alarm_arns: the alarms whose state is shown.
        region: where the metrics are.
        runbook_url: the page of the alarms' runbook.
    """
    keys = sorted({spec.key for section in sections for spec in section.alarms})
    rows: list[list[dict[str, Any]]] = [
        [
            _text(_introduction(title, slo, keys, runbook_url), 12, 4),
            {
                "type": "alarm",
                "width": 12,
                "height": 4,
                "properties": {"title": "Alarms", "alarms": list(alarm_arns)},
            },
        ]
    ]
    for section in sections:
        if section.name:
            rows.append([_text(f"## Variant {section.name}", COLUMNS, 1)])
        graphs = [_alarm_graph(spec, region) for spec in section.alarms]
        graphs += [_graph(graph, region) for graph in section.graphs]
        per_row = COLUMNS // _WIDTH
        rows += [graphs[i : i + per_row] for i in range(0, len(graphs), per_row)]
    return {"start": "-PT3H", "widgets": _placed(rows)}


def console_url(region: str, dashboard_name: str) -> str:
    """The page of a dashboard in the console of the region's partition."""
    return console_page(region, "cloudwatch", f"dashboards/dashboard/{dashboard_name}")


def _placed(rows: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    widgets, y = [], 0
    for row in rows:
        x = 0
        for widget in row:
            widgets.append({"x": x, "y": y, **widget})
            x += widget["width"]
        y += max((widget["height"] for widget in row), default=0)
    return widgets


def _introduction(title: str, slo: Slo, keys: list[str], runbook_url: str) -> str:
    where = (
        ", ".join(f"[{key}]({runbook_url}#runbook-{key})" for key in keys)
        if runbook_url.startswith(("http://", "https://"))
        else f"`{runbook_url}`, sections {', '.join(keys)}"
    )
    return (
        f"# {title}\n"
        f"Objective: {slo.latency_quantile * 100:.4g} % of the requests within "
        f"{slo.latency_ms:g} ms, at most {slo.error_rate * 100:.4g} % of them failing.\n\n"
        f"Runbook: {where}"
    )


def _text(markdown: str, width: int, height: int) -> dict[str, Any]:
    properties = {"markdown": markdown}
    return {"type": "text", "width": width, "height": height, "properties": properties}


def _alarm_graph(spec: AlarmSpec, region: pulumi.Input[str]) -> dict[str, Any]:
    graph = Graph(spec.title or spec.key, spec.unit, spec.metrics, spec.expression, spec.scale)
    widget = _graph(graph, region)
    # Six digits: 500 ms of 500000 µs must not read 500.00000000000006.
    value = float(f"{spec.threshold * spec.scale:.6g}")
    widget["properties"]["annotations"] = {
        "horizontal": [{"label": f"alarm above {value:g} {spec.unit}", "value": value}]
    }
    return widget


def _graph(graph: Graph, region: pulumi.Input[str]) -> dict[str, Any]:
    hidden = bool(graph.expression) or graph.scale != 1
    lines: list[list[Any]] = [_line(metric, not hidden) for metric in graph.metrics]
    if hidden:
        formulas = [graph.expression] if graph.expression else [m.id for m in graph.metrics]
        for index, formula in enumerate(formulas):
            scaled = formula if graph.scale == 1 else f"({formula}) * {graph.scale:.10g}"
            lines.append([{"expression": scaled, "id": f"shown{index}", "label": graph.title}])
    return {
        "type": "metric",
        "width": _WIDTH,
        "height": _HEIGHT,
        "properties": {
            "title": graph.title,
            "view": "timeSeries",
            "stacked": False,
            "region": region,
            "metrics": lines,
            "yAxis": {"left": {"min": 0, "label": graph.unit, "showUnits": False}},
        },
    }


def _line(metric: Metric, visible: bool) -> list[Any]:
    dimensions = [part for pair in metric.dimensions.items() for part in pair]
    options = {
        "id": metric.id,
        "stat": metric.statistic,
        "period": metric.period_s,
        "visible": visible,
    }
    return [metric.namespace, metric.name, *dimensions, options]
