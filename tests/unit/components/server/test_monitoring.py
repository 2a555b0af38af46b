"""What the plugin takes for `Monitoring`, and what follows from it; hosts are in tests/host."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sixways.observability.prometheus import Target
from sixways.observability.slo import Slo
from sixways.plugin.monitoring import MonitoringResource
from sixways.plugin.resource import Call
from sixways.plugin.values import UNKNOWN
from sixways.server.watching import FOLDER, UNIT_FILE, Watch

_CALL = Call("urn:pulumi:prod::shop::sixways:server:Monitoring::watch", lambda *_: None)
_INPUTS: dict[str, Any] = {
    "address": "10.0.0.9",
    "hostKey": "ssh-ed25519 AAAA",
    "owner": "shop/prod",
    "name": "shop",
    "targets": [{"name": "a", "address": "10.0.0.1"}],
}


def _check(**changes: Any) -> tuple[dict[str, Any], dict[str, str]]:
    given = {name: value for name, value in {**_INPUTS, **changes}.items() if value is not None}
    checked, problems = MonitoringResource().check(_CALL, given)
    return checked, {problem.field: str(problem) for problem in problems}


def test_little_is_needed() -> None:
    checked, problems = _check()
    assert not problems
    assert (checked["prometheusPort"], checked["retentionDays"]) == (9090, 15)
    identity, outputs = MonitoringResource().create(_CALL, checked, preview=True)
    assert identity == ""
    assert outputs["url"] == "http://127.0.0.1:9090"
    assert outputs["grafanaUrl"] == ""
    assert yaml.safe_load(outputs["scrape"])["scrape_configs"][0]["scheme"] == "https"
    assert json.loads(outputs["dashboard"])["title"] == "Sixways: shop"


@pytest.mark.parametrize(
    ("changes", "field", "word"),
    [
        ({"targets": []}, "targets", "add one"),
        ({"targets": [{"name": "a", "address": "a b"}]}, "targets[0].address", "IP address"),
        ({"targets": [{"name": "a", "address": "b", "prot": 1}]}, "targets[0].prot", "correct"),
        ({"targets": [{"name": "a", "address": "b"}] * 2}, "targets[1].name", "once"),
        ({"name": "a b"}, "name", "letters"),
        ({"name": None}, "name", "letters"),
        ({"owner": ""}, "owner", "project and stack"),
        ({"prometheusPort": 80}, "prometheusPort", "1024"),
        ({"retentionDays": 2}, "retentionDays", "3 or more"),
        ({"slo": {"latencyMs": 90_000}}, "slo.latency_ms", "81920"),
        ({"slo": {"latency": 1}}, "slo.latency", "latency_ms"),
        ({"ca": "/etc/ca.pem"}, "ca", "PEM"),
        ({"alertmanagers": ["a"]}, "alertmanagers[0]", "ADDRESS:PORT"),
        ({"grafana": True}, "grafanaPassword", "give one"),
        ({"grafana": True, "grafanaPassword": "short"}, "grafanaPassword", "(not shown)"),
        ({"grafana": "yes"}, "grafana", "true or false"),
        ({"serverNames": "a"}, "serverNames", "correct or remove"),
        ({"runbookUrl": "a 'b'"}, "runbookUrl", "page"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], field: str, word: str) -> None:
    _, problems = _check(**changes)
    assert list(problems) == [field]
    assert word in problems[field]


def test_what_is_not_known_yet_is_passed_over() -> None:
    checked, problems = _check(targets=UNKNOWN, ca=UNKNOWN, slo=UNKNOWN)
    assert not problems
    _, outputs = MonitoringResource().create(_CALL, checked, preview=True)
    assert outputs["rules"] is UNKNOWN


def test_a_change_is_told_before_the_update() -> None:
    checked, _ = _check()
    _, made = MonitoringResource().create(_CALL, checked, preview=True)
    assert not MonitoringResource().diff(_CALL, made, checked)
    longer = {**checked, "retentionDays": 30}
    assert MonitoringResource().diff(_CALL, made, longer).update == ["retentionDays"]
    stopped = MonitoringResource().diff(_CALL, {**made, "status": "stopped"}, checked)
    assert stopped.update == ["status"]
    older = MonitoringResource().diff(_CALL, {**made, "filesSha256": "0"}, checked)
    assert older.update == ["filesSha256"], "another version wrote other files"
    moved = MonitoringResource().diff(_CALL, made, {**checked, "address": "10.0.0.8"})
    assert moved.replace == ["address"]


def test_the_unit_is_hardened_and_listens_on_loopback_alone(tmp_path: Path) -> None:
    watch = Watch(
        name="shop", owner="shop/prod", slo=Slo(), ca="PEM", port=9095, retention_days=20,
        storage_gb=7, targets=(Target(name="a", address="10.0.0.1"),),
    )  # fmt: skip
    files = watch.files("/usr/bin/prometheus")
    unit = files[UNIT_FILE].text
    assert "--web.listen-address=127.0.0.1:9095" in unit
    assert "--storage.tsdb.retention.time=20d" in unit
    assert "--storage.tsdb.retention.size=7GB" in unit
    whole = yaml.safe_load(files[f"{FOLDER}/prometheus.yml"].text)
    assert whole["scrape_configs"][0]["tls_config"] == {"ca_file": f"{FOLDER}/ca.pem"}
    assert whole["rule_files"] == ["rules.yml"]
    assert not any("grafana" in path for path in files)
    path = tmp_path / "sixways-prometheus.service"
    path.write_text(unit.replace("/usr/bin/prometheus", "/bin/true"))
    for command in (
        ["verify", "--man=no", str(path)],
        ["security", "--offline=true", "--threshold=30", str(path)],
    ):
        done = subprocess.run(
            ["systemd-analyze", *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_gets_data_source_and_dashboard() -> None:
    watch = Watch(
        name="shop", owner="shop/prod", slo=Slo(), grafana=True,
        grafana_password="not in these files", targets=(Target(name="a", address="10.0.0.1"),),
    )  # fmt: skip
    files = {path: file.text for path, file in watch.files("/usr/bin/prometheus").items()}
    (source,) = yaml.safe_load(files["/etc/grafana/provisioning/datasources/sixways.yaml"])[
        "datasources"
    ]
    assert source["url"] == "http://127.0.0.1:9090"
    (provider,) = yaml.safe_load(files["/etc/grafana/provisioning/dashboards/sixways.yaml"])[
        "providers"
    ]
    assert json.loads(files[f"{provider['options']['path']}/sixways.json"])["panels"]
    assert not any("not in these files" in text for text in files.values())
    assert "not in these files" not in repr(watch)
