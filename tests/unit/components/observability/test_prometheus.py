"""The objective as rules; Prometheus' own word on them is in tests/host/test_prometheus.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sixways.observability.prometheus import (
    BOUNDS,
    RUNBOOK,
    Target,
    Terms,
    burns,
    configuration,
    duration,
    rule_groups,
    rules_file,
    scrape_configs,
    scrape_file,
    share_within,
    threshold,
)
from sixways.observability.slo import Slo
from sixways_server.metrics import SECONDS

_ROOT = Path(__file__).parents[4]


def _rules(slo: Slo, **options: Any) -> list[dict[str, Any]]:
    terms = Terms.of(slo, name="shop", selector='job="shop"')
    return [rule for group in rule_groups(terms, **options) for rule in group["rules"]]


def test_by_default_windows_and_rates_are_the_workbooks() -> None:
    found = [(duration(b.long_s), duration(b.short_s), b.rate, b.severity) for b in burns(Slo())]
    assert found == [
        ("1h", "5m", pytest.approx(14.4), "critical"),
        ("6h", "30m", pytest.approx(6), "critical"),
        ("1d", "2h", pytest.approx(3), "warning"),
        ("3d", "6h", pytest.approx(1), "warning"),
    ]


def test_an_objective_that_is_kept_never_alerts() -> None:
    for slo in (Slo(period_days=1), Slo(window_minutes=60), Slo(period_days=90)):
        for burn in burns(slo):
            assert burn.rate >= 1


@pytest.mark.parametrize("budget", [0.00001, 0.01, 0.05, 0.2, 0.5, 0.99])
def test_an_outage_always_alerts(budget: float) -> None:
    for burn in burns(Slo()):
        assert budget <= threshold(burn.rate, budget) < 1


def test_the_share_of_requests_in_time_is_exact_at_a_bound_and_interpolated_between() -> None:
    assert BOUNDS == SECONDS, "the server's histogram"
    assert share_within(0.5) == ((0.5, 1.0),)
    (lower, some), (upper, rest) = share_within(0.3)
    assert (lower, upper) == (0.25, 0.32)
    assert some + rest == pytest.approx(1)
    assert lower * some + upper * rest == pytest.approx(0.3)
    ((bound, weight),) = share_within(0.001)
    assert (bound, weight) == (0.002, 0.5), "none took no time at all"


def test_each_window_of_an_alert_is_recorded() -> None:
    rules = _rules(Slo(window_minutes=7))
    recorded = {rule["record"] for rule in rules if "record" in rule}
    assert len(recorded) == 14
    for rule in rules:
        if rule.get("alert") in ("SixwaysLatency", "SixwaysErrors"):
            kind = {"SixwaysLatency": "slow", "SixwaysErrors": "errors"}[rule["alert"]]
            used = {word.lstrip("(").partition("{")[0] for word in rule["expr"].split()
                    if "ratio_rate" in word}  # fmt: skip
            assert len(used) == 4
            assert used <= recorded
            assert all(name.startswith(f"sixways:{kind}:") for name in used)


def test_objectives_stand_beside_each_other() -> None:
    for rule in _rules(Slo()):
        assert rule["labels"]["slo"] == "shop"


def test_every_alert_leads_to_a_section_of_the_runbook() -> None:
    page = (_ROOT / RUNBOOK).read_text()
    alerts = [rule for rule in _rules(Slo()) if "alert" in rule]
    assert {rule["labels"]["severity"] for rule in alerts} == {"critical", "warning"}
    for rule in alerts:
        link = rule["annotations"]["runbook_url"]
        key = rule["alert"].removeprefix("Sixways").lower()
        assert link == f"{RUNBOOK}#runbook-{key}"
        assert f"\n## Runbook: {key}\n" in page


def test_nodes_of_a_cluster_are_somebody_elses_to_watch() -> None:
    alerts = {rule.get("alert") for rule in _rules(Slo(), machines=False)}
    assert not alerts & {"SixwaysDisk", "SixwaysMemory"}
    assert alerts <= {rule.get("alert") for rule in _rules(Slo())}


def test_each_host_is_scraped_over_https_with_its_name_as_label() -> None:
    targets = [Target(name="a", address="10.0.0.1"), Target(name="b", address="fd00::2", port=8443)]
    server, node, gpu = scrape_configs(
        "shop", targets, ca_file="ca.pem", server_name="shop.example",
        node_exporter_port=9100, dcgm_exporter_port=9400,
    )  # fmt: skip
    assert server["scheme"] == "https"
    assert server["tls_config"] == {"ca_file": "ca.pem", "server_name": "shop.example"}
    assert server["static_configs"] == [
        {"targets": ["10.0.0.1:443"], "labels": {"host": "a"}},
        {"targets": ["[fd00::2]:8443"], "labels": {"host": "b"}},
    ]
    assert node["job_name"] == "shop-node"
    assert node["static_configs"][1]["targets"] == ["[fd00::2]:9100"]
    assert gpu["static_configs"][0]["targets"] == ["10.0.0.1:9400"]
    assert "tls_config" not in scrape_configs("shop", targets)[0], "the system's certificates"


def test_the_files_are_what_prometheus_reads() -> None:
    jobs = scrape_configs("shop", [Target(name="a", address="10.0.0.1")])
    whole = yaml.safe_load(configuration(jobs, scrape_seconds=5, alertmanagers=["alerts:9093"]))
    assert whole["global"] == {
        "scrape_interval": "5s", "evaluation_interval": "5s", "scrape_timeout": "5s",
    }  # fmt: skip
    assert whole["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] == ["alerts:9093"]
    assert whole["scrape_configs"] == yaml.safe_load(scrape_file(jobs))["scrape_configs"] == jobs
    groups = rule_groups(Terms.of(Slo(), name="shop", selector='job="shop"'))
    assert yaml.safe_load(rules_file(groups)) == {"groups": groups}
    assert "alerting" not in yaml.safe_load(configuration(jobs))
