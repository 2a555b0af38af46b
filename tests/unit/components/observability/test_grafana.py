"""The dashboard; that its queries answer is in tests/host/test_prometheus.py."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from prometheus_client.registry import Collector

from sixways.observability.grafana import dashboard
from sixways.observability.prometheus import Terms, rule_groups
from sixways.observability.slo import Slo
from sixways_server.metrics import Metrics
from sixways_server.utilisation import Gpus
from tests.unit.server.test_utilisation import fake_nvml

_SLO = Slo(latency_ms=250, latency_quantile=0.99, error_rate=0.02)
_METRIC = re.compile(r"\b((?:gen_ai|sixways|process|system|hw)_[a-z0-9_]+|up)\{")


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    text = dashboard(_SLO, name="shop", selector='job="shop"', title="Shop",
                     runbook="https://example.com/runbook")  # fmt: skip
    found: dict[str, Any] = json.loads(text)
    return found


def _queries(board: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]


def _names() -> set[str]:
    """What the server's `/metrics` tells, with a GPU."""
    families = re.findall(r"^# TYPE (\S+) (\S+)$", Metrics().text().decode(), re.M)
    gpus: Collector = Gpus(fake_nvml())
    families += [(family.name, family.type) for family in gpus.collect()]
    ends = {"histogram": ("_bucket", "_sum", "_count")}
    return {name + end for name, kind in families for end in ends.get(kind, ("",))}


def test_every_metric_of_a_query_is_one_that_the_server_tells(board: dict[str, Any]) -> None:
    names = {*_names(), "up"}
    for query in _queries(board):
        used = set(_METRIC.findall(query))
        assert used or "ratio_rate" in query, query
        assert used <= names, query


def test_rules_use_metrics_that_the_server_tells() -> None:
    names = {*_names(), "up"}
    for group in rule_groups(Terms.of(_SLO, name="shop", selector='job="shop"')):
        for rule in group["rules"]:
            used = set(_METRIC.findall(rule["expr"]))
            assert used or "ratio_rate" in rule["expr"]
            assert used <= names, rule["expr"]


def test_every_recorded_series_of_a_query_is_recorded(board: dict[str, Any]) -> None:
    groups = rule_groups(Terms.of(_SLO, name="shop", selector='job="shop"'))
    recorded = {rule.get("record") for group in groups for rule in group["rules"]}
    used = {name for query in _queries(board) for name in re.findall(r"sixways:[a-z0-9:_]+", query)}
    assert used
    assert used <= recorded


def test_every_query_is_about_this_server(board: dict[str, Any]) -> None:
    for query in _queries(board):
        assert query.count("{") == query.count('job="shop"') + query.count('slo="shop"')


def test_it_shows_latency_errors_saturation_tokens_gpu_and_fleet(board: dict[str, Any]) -> None:
    titles = " ".join(panel["title"] for panel in board["panels"])
    for word in ("Latency L", "Error rate E", "waiting", "Tokens", "GPU power", "Servers"):
        assert word in titles
    used = {name for query in _queries(board) for name in _METRIC.findall(query)}
    gpus: Collector = Gpus(fake_nvml())
    assert {family.name for family in gpus.collect()} <= used, "all that a GPU tells"


def test_red_lines_are_the_objectives(board: dict[str, Any]) -> None:
    lines = {
        panel["title"]: panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1]["value"]
        for panel in board["panels"]
        if "thresholds" in panel.get("fieldConfig", {}).get("defaults", {})
    }
    assert lines["Latency L (quantile 0.99)"] == 0.25
    assert lines["Error rate E"] == 0.02
    assert board["links"][0]["url"] == "https://example.com/runbook"


def test_panels_have_a_number_each_and_do_not_overlap(board: dict[str, Any]) -> None:
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_grafanas_own_types_know_every_field(board: dict[str, Any]) -> None:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    read = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(board)))
    _assert_kept(board, read, "")


def _assert_kept(ours: Any, read: Any, where: str) -> None:
    """A field that Grafana's types do not know is lost when they read it."""
    if isinstance(ours, dict):
        for name, value in ours.items():
            assert name in read, f"{where}.{name}"
            _assert_kept(value, read[name], f"{where}.{name}")
    elif isinstance(ours, list):
        assert len(ours) == len(read), where
        for index, (one, other) in enumerate(zip(ours, read, strict=True)):
            _assert_kept(one, other, f"{where}[{index}]")
    else:
        assert ours == read, where
