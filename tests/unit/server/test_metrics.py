"""Metrics, the console's figures and the page."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sixways_server import console, utilisation
from sixways_server.app import create_app
from sixways_server.auth import KeyStore, add_key
from sixways_server.engines.dummy import DummyEmbeddings, open_dummy
from sixways_server.metrics import Metrics
from sixways_server.registry import Registry
from sixways_server.rolling import Rolling
from tests.unit.server.conftest import live_server


def values(url: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return samples(httpx.get(f"{url}/metrics").text)


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_requests_errors_and_tokens_are_counted_by_model_protocol_and_status(
    tmp_path: Path,
) -> None:
    models = {"mini": "dummy:embeddings", "echo": "dummy:chat?delay=0.01"}
    with live_server(tmp_path, **models) as live, live.client() as client:
        client.post("/v1/embeddings", json={"model": "mini", "input": ["a b", "c"]})
        client.post("/v1/embeddings", json={"model": "none", "input": "a"})
        client.post("/v1/embeddings", content=b"{")
        client.post("/v1/completions", json={"model": "echo", "prompt": "a b c"})
        found = values(live.url)
        figures = client.get("/console.json").json()

    def of(name: str, **labels: str) -> float:
        return found[name, tuple(sorted(labels.items()))]

    mini = {"model_name": "mini", "protocol": "openai", "operation": "embeddings"}
    assert of("gen_ai_server_request_duration_seconds_count", status="200", **mini) == 1
    unknown = {**mini, "model_name": "unknown"}
    assert of("sixways_request_errors_total", status="404", **unknown) == 1
    assert of("sixways_request_errors_total", status="400", **{**unknown, "operation": ""}) == 1
    assert of("sixways_prompt_tokens_total", model_name="mini") == 3
    assert of("sixways_generation_tokens_total", model_name="echo") == 3
    first = {"model_name": "echo", "protocol": "openai"}
    assert of("gen_ai_server_time_to_first_token_seconds_count", **first) == 1
    assert of("gen_ai_server_time_per_output_token_seconds_sum", **first) >= 0.009
    assert of("sixways_num_requests_running", model_name="mini") == 0
    assert of("sixways_num_requests_waiting", model_name="echo") == 0

    minute = figures["windows"]["1m"]
    assert minute["requests"] == 4
    assert minute["refused_rate"] == 0.5
    assert minute["error_rate"] == 0
    assert minute["tokens_out_per_second"] > 0
    assert figures["state"] == "ready"
    assert [model["name"] for model in figures["models"]] == ["mini", "echo"]
    assert figures["models"][0]["details"]["note"].startswith("a stand-in")


def test_a_model_that_loads_is_shown_as_not_ready() -> None:
    registry = Registry(["mini"])
    shown = console.snapshot(registry, Metrics())
    assert shown["state"] == "loading"
    assert shown["models"] == [{"name": "mini", "ready": False}]


def test_batches_of_an_engine_that_tells_are_counted() -> None:
    class Encoder(DummyEmbeddings):
        on_batch: Callable[[int, float], None] | None = None

    engine = open_dummy("mini", "dummy:embeddings", queue_limit=1)
    engine.__class__ = Encoder
    metrics = Metrics()
    metrics.watch(engine)
    assert isinstance(engine, Encoder)
    assert engine.on_batch is not None
    engine.on_batch(7, 0.1)
    assert b'sixways_batch_size_bucket{le="8.0",model_name="mini"} 1.0' in metrics.text()


def test_rates_and_quantiles_are_those_of_the_window() -> None:
    now = 1000.0
    rolling = Rolling(clock=lambda: now)
    now += 400
    for index in range(100):
        rolling.add(0.010 if index < 99 else 1.0, 200, 5, 2)
    now += 30
    rolling.add(0.020, 503, 0, 0)
    minute = rolling.window(60)
    assert minute.requests == 101
    assert minute.requests_per_second == pytest.approx(101 / 60, abs=0.001)
    assert minute.error_rate == pytest.approx(1 / 101, abs=1e-5)
    assert minute.tokens_in_per_second == pytest.approx(500 / 60, abs=0.001)
    assert minute.p50_ms == pytest.approx(10, rel=0.08)
    assert minute.p99_ms == pytest.approx(10, rel=0.08)
    now += 40
    assert rolling.window(60).requests == 1
    assert rolling.window(60).p50_ms is None
    assert rolling.window(300).requests == 101
    now += 300
    assert rolling.window(300).requests == 0


def test_the_page_may_run_its_own_script_and_nothing_else() -> None:
    script, style = b"let a = 1;", b"p { color: red }"
    page = b"<html><style>" + style + b'</style><script type="module">' + script + b"</script>"
    policy = console.content_security_policy(page)
    for content in (script, style):
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_the_page_is_served_with_its_policy_and_never_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "console.html"
    page.write_text("<!doctype html><script>1</script>")
    monkeypatch.setattr(console, "PAGE", page)
    with live_server(tmp_path, mini="dummy:embeddings") as live:
        response = httpx.get(live.url)
    assert response.text == page.read_text()
    assert response.headers["content-type"].startswith("text/html")
    assert response.headers["cache-control"] == "no-store"
    assert "sha256-" in response.headers["content-security-policy"]


def test_the_real_page_asks_for_nothing_from_elsewhere() -> None:
    if not console.PAGE.is_file():
        pytest.skip("no page in this checkout")
    text = console.PAGE.read_text()
    for sign in ("http://", "https://", "//cdn", "@import", ' style="', " onclick="):
        assert sign not in text.replace("http://www.w3.org/", ""), sign


def test_without_the_console_neither_page_nor_figures_are_open(tmp_path: Path) -> None:
    keys_file = tmp_path / "keys.json"
    add_key(keys_file)
    registry = Registry([])
    app = create_app(
        registry, KeyStore(keys_file), Metrics(), max_body_bytes=1, max_inputs=1,
        with_console=False,
    )  # fmt: skip
    paths = {getattr(route, "path", "") for route in app.routes}
    assert "/healthz" in paths
    assert not paths & {"/", "/console.json"}


def test_every_metric_is_in_the_catalogue_and_of_its_type(tmp_path: Path) -> None:
    catalogue = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    listed = dict(re.findall(r"^\| `(\w+?)(?:_total)?` \| (\w+) \|", catalogue, re.MULTILINE))
    with live_server(tmp_path, mini="dummy:embeddings", echo="dummy:chat") as live:
        text = httpx.get(f"{live.url}/metrics").text
    told = {family.name: family.type for family in text_string_to_metric_families(text)}
    told = {name: kind for name, kind in told.items() if not name.endswith("_created")}
    told |= {name: "gauge" for name, _, _ in utilisation._READINGS}
    told |= {"sixways_npu_busy_seconds": "counter", "sixways_npu_memory_usage_bytes": "gauge"}
    assert listed == told
