"""A real Prometheus and its promtool: the files are right, and a fault is told and over again."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from sixways.observability.files import monitoring_files
from sixways.observability.grafana import render
from sixways.observability.prometheus import (
    Burn,
    Target,
    Terms,
    configuration,
    rule_groups,
    rules_file,
    scrape_configs,
)
from sixways.observability.slo import Slo
from tests.ports import free_port
from tests.unit.server.conftest import Launcher, Process, add_key

pytestmark = pytest.mark.host
_SELECTOR = 'job="shop"'
_SLO = Slo(latency_ms=100, latency_quantile=0.9, error_rate=0.01)
_WINDOWS = (Burn(8, 4, 2, "critical"), Burn(16, 8, 1, "warning"))
"""Hours and days as seconds."""


def _promtool(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        ["promtool", *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_finds_no_fault_in_the_files(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    targets = [Target(name="a", address="10.0.0.1"), Target(name="b", address="fd00::2")]
    for slo in (Slo(), Slo(latency_ms=300, window_minutes=7, period_days=90)):
        files = monitoring_files(
            slo, name="shop", targets=targets, ca_file="ca.pem", node_exporter_port=9100
        )
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        _promtool("check", "config", "scrape.yml", cwd=tmp_path)
        assert "21 rules found" in _promtool("check", "rules", "rules.yml", cwd=tmp_path)
        jobs = yaml.safe_load(files["scrape.yml"])["scrape_configs"]
        whole = configuration(jobs, scrape_seconds=5, alertmanagers=["10.0.0.3:9093"])
        (tmp_path / "prometheus.yml").write_text(whole)
        _promtool("check", "config", "prometheus.yml", cwd=tmp_path)


def _series(metric: str, labels: str, values: str) -> dict[str, str]:
    of = f'job="shop", model_name="mini", instance="a:443"{", " if labels else ""}{labels}'
    return {"series": f"{metric}{{{of}}}", "values": values}


def test_what_fires_follows_from_how_many_requests_are_bad(tmp_path: Path) -> None:
    slo = Slo(latency_ms=500)  # a bound of the histogram
    groups = rule_groups(Terms.of(slo, name="shop", selector=_SELECTOR))
    for group in groups:  # summaries are prose: what counts is which alert fires, and when
        for rule in group["rules"]:
            rule.pop("annotations", None)
    (tmp_path / "rules.yml").write_text(rules_file(groups))
    latency, count = (
        "gen_ai_server_request_duration_seconds" + end for end in ("_bucket", "_count")
    )

    def case(failed: int, slow: int, expected: dict[str, list[str]]) -> dict[str, Any]:
        """Of 100 requests a minute so many are bad; after an hour the server is gone."""
        fine = 100 - slow
        series = [
            _series(count, "", "0+100x60"),
            _series(latency, 'le="0.5"', f"0+{fine}x60"),
            _series("sixways_request_errors_total", 'status="500"', f"0+{failed}x60"),
            {"series": 'up{job="shop", instance="a:443"}', "values": "1x60 0x30"},
        ]  # fmt: skip
        checks = [
            {
                "eval_time": "60m",
                "alertname": name,
                "exp_alerts": [
                    {"exp_labels": {"severity": severity, "slo": "shop", "model_name": "mini"}}
                    for severity in severities
                ],
            }
            for name, severities in expected.items()
        ]
        down = {"severity": "critical", "slo": "shop", "job": "shop", "instance": "a:443"}
        checks.append({"eval_time": "64m", "alertname": "SixwaysDown", "exp_alerts": []})
        checks.append({"eval_time": "67m", "alertname": "SixwaysDown",
                       "exp_alerts": [{"exp_labels": down}]})  # fmt: skip
        return {"interval": "1m", "input_series": series, "alert_rule_test": checks}

    tests = [
        case(0, 0, {"SixwaysErrors": [], "SixwaysLatency": []}),
        case(20, 80, {"SixwaysErrors": ["critical", "warning"],
                      "SixwaysLatency": ["critical", "warning"]}),
        # Below 3 times too fast in a day, above 1 time in three: a matter of days.
        case(2, 4, {"SixwaysErrors": ["warning"], "SixwaysLatency": []}),
    ]  # fmt: skip
    whole = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(whole, width=10_000))
    _promtool("test", "rules", "test.yml", cwd=tmp_path)


@dataclass
class Watched:
    """A server, and a Prometheus that watches it."""

    url: str
    key: str
    server: Process
    prometheus: str

    def ask(self, words: int) -> int:
        """A chat whose answer has so many words, each of which takes 50 ms; returns the status."""
        body = {"model": "echo", "messages": [{"role": "user", "content": "word " * words}]}
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.post(
            f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=20
        ).status_code

    def get(self, path: str, **parameters: str) -> Any:
        """The data of Prometheus' answer."""
        answer = httpx.get(f"{self.prometheus}/api/v1/{path}", params=parameters)
        found = answer.json()
        assert found["status"] == "success", (parameters, found)
        return found["data"]

    def firing(self) -> set[tuple[str, str]]:
        """The alerts that fire, and their severities."""
        return {
            (alert["labels"]["alertname"], alert["labels"]["severity"])
            for alert in self.get("alerts")["alerts"]
            if alert["state"] == "firing"
        }

    def until(self, question: Callable[[], bool], meanwhile: Callable[[], object]) -> None:
        """Does something again and again until the answer is yes."""
        end = time.monotonic() + 60
        while not question():
            assert time.monotonic() < end, self.get("alerts")
            meanwhile()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    launcher = Launcher(tmp_path, add_key(tmp_path / "keys.json"))
    server = launcher(request_seconds=0.6)
    url = server.wait_for("ready")["url"]
    port = int(url.rpartition(":")[2])
    jobs = scrape_configs(
        "shop", [Target(name="here", address="127.0.0.1", port=port)], scheme="http"
    )
    (tmp_path / "prometheus.yml").write_text(configuration(jobs, scrape_seconds=1))
    groups = rule_groups(_terms())
    (tmp_path / "rules.yml").write_text(rules_file(groups))
    at = f"127.0.0.1:{free_port()}"
    with (tmp_path / "prometheus.log").open("wb") as log:
        child = subprocess.Popen(
            ["prometheus", f"--config.file={tmp_path}/prometheus.yml",
             f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address={at}"],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield Watched(url, launcher.key, server, f"http://{at}")
    finally:
        for process in (child, server.child):
            process.terminate()
            process.wait(20)


def _terms() -> Terms:
    return Terms.of(_SLO, name="shop", selector=_SELECTOR, windows=_WINDOWS)


def _scraped(watched: Watched) -> bool:
    try:
        found = watched.get("query", query="up")["result"]
    except (httpx.HTTPError, json.JSONDecodeError):
        return False
    return [sample["value"][1] for sample in found] == ["1"]


def test_a_fault_is_told_and_over_again(watched: Watched) -> None:
    watched.until(lambda: _scraped(watched), lambda: time.sleep(0.1))
    groups = watched.get("rules")["groups"]
    assert sum(len(group["rules"]) for group in groups) == len(
        [rule for group in rule_groups(_terms()) for rule in group["rules"]]
    )

    # All is well: a share of 0 is recorded, and nobody is told of anything.
    ratio = 'sixways:errors:ratio_rate4s{slo="shop", model_name="echo"}'

    def share() -> list[str]:
        return [one["value"][1] for one in watched.get("query", query=ratio)["result"]]

    watched.until(lambda: share() == ["0"], lambda: watched.ask(1))
    assert not watched.firing() & {("SixwaysErrors", "critical"), ("SixwaysLatency", "critical")}
    _assert_the_dashboards_queries_answer(watched)

    # Answers come, and late.
    late = {("SixwaysLatency", "critical"), ("SixwaysLatency", "warning")}
    watched.until(lambda: late <= watched.firing(), lambda: watched.ask(6))
    assert ("SixwaysErrors", "critical") not in watched.firing()

    # Answers take longer than the server lets them.
    assert watched.ask(60) == 504
    failing = {("SixwaysErrors", "critical"), ("SixwaysErrors", "warning")}
    watched.until(lambda: failing <= watched.firing(), lambda: watched.ask(60))

    # The fault is over: so are the alerts, the critical ones with the short window.
    both = late | failing
    watched.until(lambda: not both & watched.firing(), lambda: watched.ask(1))
    assert ("SixwaysDown", "critical") not in watched.firing()

    watched.server.child.kill()
    down = ("SixwaysDown", "critical")
    watched.until(lambda: down in watched.firing(), lambda: time.sleep(0.1))


def _assert_the_dashboards_queries_answer(watched: Watched) -> None:
    """Each is valid, and has an answer unless it is of what this server does not have."""
    terms = _terms()
    board = render(terms, title="", seconds=0.1, errors=0.01, longest=terms.pairs[-1][0])
    silent = set()
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$__rate_interval", "8s")
            if not watched.get("query", query=query)["result"]:
                silent.add(panel["title"])
    # No GPU, and a chat computes no batches; whole answers have no first token.
    assert all(title.startswith(("GPU", "Inputs computed", "Time ")) for title in silent), silent
