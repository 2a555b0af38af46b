"""The dashboard: a body that CloudWatch takes, with every alarm's metric and threshold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sixways.cloud.alarms import Section
from sixways.cloud.dashboard import COLUMNS, console_url, dashboard_body
from sixways.observability.cloudwatch import RUNBOOK
from sixways.observability.slo import Slo
from tests.unit.components.cloud.watched import EVERY, alarms, sagemaker
from tests.unit.components.observability.metric_math import names

_ARNS = ["arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a"]
every_kind = pytest.mark.parametrize("sections", EVERY.values(), ids=EVERY)


def widgets(sections: list[Section], runbook: str = RUNBOOK) -> list[dict[str, Any]]:
    body = dashboard_body("shop", Slo(), sections, _ARNS, "eu-west-1", runbook)
    found: list[dict[str, Any]] = json.loads(json.dumps(body))["widgets"]
    return found


def graphs(sections: list[Section]) -> list[dict[str, Any]]:
    return [w["properties"] for w in widgets(sections) if w["type"] == "metric"]


@every_kind
def test_no_widget_leaves_the_grid_or_covers_another(sections: list[Section]) -> None:
    taken: set[tuple[int, int]] = set()
    for widget in widgets(sections):
        x, y, width, height = (widget[key] for key in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= 0
        assert x + width <= COLUMNS
        cells = {(i, j) for i in range(x, x + width) for j in range(y, y + height)}
        assert not cells & taken
        taken |= cells


@every_kind
def test_every_line_of_a_graph_is_a_metric_or_an_expression_over_them(
    sections: list[Section],
) -> None:
    for graph in graphs(sections):
        ids: set[str] = set()
        shown = 0
        for line in graph["metrics"]:
            *metric, options = line
            assert options["id"] not in ids
            if metric:
                # Namespace, name, and dimensions in pairs.
                assert len(metric) >= 4
                assert len(metric) % 2 == 0
                assert all(isinstance(part, str) and part for part in metric)
                assert options["stat"]
                assert options["period"] % 60 == 0
            else:
                assert names(options["expression"]) <= ids
                assert "e-" not in options["expression"]
            ids.add(options["id"])
            shown += options.get("visible", True)
        assert shown
        assert graph["region"] == "eu-west-1"
        assert graph["yAxis"]["left"]["label"]


@every_kind
def test_every_alarm_has_a_graph_with_its_threshold(sections: list[Section]) -> None:
    lines = [graph for graph in graphs(sections) if "annotations" in graph]
    specs = alarms(sections)
    assert [graph["title"] for graph in lines] == [spec.title for spec in specs]
    for graph, spec in zip(lines, specs, strict=True):
        (line,) = graph["annotations"]["horizontal"]
        assert line["value"] == pytest.approx(spec.threshold * spec.scale)
    (states,) = (w for w in widgets(sections) if w["type"] == "alarm")
    assert states["properties"]["alarms"] == _ARNS


@every_kind
def test_latency_is_shown_in_milliseconds(sections: list[Section]) -> None:
    for graph in graphs(sections):
        if graph["title"].startswith("Latency"):
            assert graph["annotations"]["horizontal"][0]["value"] == 500
            assert graph["yAxis"]["left"]["label"] == "ms"
            factor = "0.001" if graph["metrics"][0][0] == "AWS/SageMaker" else "1000"
            assert graph["metrics"][-1][0]["expression"] == f"(latency) * {factor}"


def test_the_dashboard_states_the_objective_and_links_to_the_runbook() -> None:
    text = widgets(sagemaker(), "https://wiki.example.org/cloud")[0]["properties"]["markdown"]
    assert "95 % of the requests within 500 ms, at most 1 % of them failing" in text
    assert "[latency](https://wiki.example.org/cloud#runbook-latency)" in text
    # A page of the repository is no link that the console could follow.
    assert "](" not in widgets(sagemaker())[0]["properties"]["markdown"]


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-1", "eu-west-1.console.aws.amazon.com"),
        ("cn-north-1", "cn-north-1.console.amazonaws.cn"),
        ("us-gov-west-1", "us-gov-west-1.console.amazonaws-us-gov.com"),
    ],
)
def test_the_console_is_that_of_the_regions_partition(region: str, host: str) -> None:
    assert console_url(region, "shop") == (
        f"https://{host}/cloudwatch/home?region={region}#dashboards/dashboard/shop"
    )
