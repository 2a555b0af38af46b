"""Bodies that are too large, and clients that go away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import httpx
import psutil
import pytest

from sixways_server import drain
from sixways_server.engines.base import Chunk, Embeddings, Prompt, Sampling
from sixways_server.engines.dummy import DummyChat, DummyEmbeddings, _Options, open_dummy
from sixways_server.errors import TooBusy
from tests.unit.server.conftest import MAX_BODY, Live, Process, live_server


def test_a_body_of_100_mb_is_refused_early_and_costs_no_memory(
    launch: Callable[..., Process], tmp_path: Path
) -> None:
    process = launch()
    url = process.wait_for("ready")["url"]
    key = launch.key  # type: ignore[attr-defined]
    memory = psutil.Process(process.child.pid).memory_info
    before = memory().rss
    with httpx.Client(headers={"x-api-key": key}, timeout=20) as client:
        response = client.post(f"{url}/v1/embeddings", content=b"x" * 100_000_000)
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "body_too_large"
        assert memory().rss - before < 8_000_000
        body = {"model": "mini", "input": "a"}
        assert client.post(f"{url}/v1/embeddings", json=body).status_code == 200


def test_the_answer_to_a_large_body_comes_before_the_body(live: Live) -> None:
    head = (
        f"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nx-api-key: {live.key}\r\n"
        f"content-length: {MAX_BODY + 1}\r\n\r\n"
    )
    with live.raw() as raw:
        raw.sendall(head.encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_is_counted(client: httpx.Client) -> None:
    def pieces(size: int) -> Iterator[bytes]:
        yield b'{"model": "mini", "input": "a"'
        for _ in range(size // 65536):
            yield b" " * 65536
        yield b"}"

    fits = client.post("/v1/embeddings", content=pieces(MAX_BODY - 65536))
    over = client.post("/v1/embeddings", content=pieces(MAX_BODY + 65536))
    assert (fits.status_code, over.status_code) == (200, 413)


def test_a_head_without_end_is_cut_off(live: Live) -> None:
    with live.raw() as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nx: ")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 100_000_000:
                sent += raw.send(b"x" * 8192)
    assert sent < 50_000_000


@pytest.mark.parametrize(
    ("answered", "begun"), [(False, b""), (False, b"GET /healthz HT"), (True, b"GET /healthz HT")]
)
def test_a_head_that_does_not_come_in_time_ends_its_connection(
    live: Live, monkeypatch: pytest.MonkeyPatch, begun: bytes, answered: bool
) -> None:
    monkeypatch.setattr(drain, "_HEAD_SECONDS", 0.2)
    with live.raw() as raw:
        if answered:
            raw.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert raw.recv(1000).startswith(b"HTTP/1.1 200 ")
        raw.sendall(begun)
        raw.settimeout(5)
        while raw.recv(1000):
            pass


def test_an_idle_connection_that_had_its_answer_is_kept(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "_HEAD_SECONDS", 0.2)
    with live.raw() as raw:
        for _ in range(2):
            raw.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert raw.recv(1000).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.5)


def test_bytes_that_are_no_http_are_refused(live: Live) -> None:
    with live.raw() as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00 not http\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400 ")


class Slow(DummyChat):
    """Tells when its generation was stopped."""

    stopped = False

    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncIterator[Chunk]:  # type: ignore[override]
        try:
            while True:
                yield Chunk("word ", 1)
                await asyncio.sleep(0.01)
        finally:
            self.stopped = True


class Mute(Slow):
    """Never says anything."""

    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncIterator[Chunk]:  # type: ignore[override]
        try:
            await asyncio.sleep(60)
            yield Chunk("", 0, "stop")
        finally:
            self.stopped = True


class Busy(DummyEmbeddings):
    """Has no room, ever."""

    async def embed(self, inputs: Sequence[str | Sequence[int]]) -> Embeddings:
        raise TooBusy("the queue is full", retry_after=2.5)


class Sleeps(DummyEmbeddings):
    """Never answers."""

    stopped = False

    async def embed(self, inputs: Sequence[str | Sequence[int]]) -> Embeddings:
        try:
            await asyncio.sleep(60)
        finally:
            self.stopped = True
        return await super().embed(inputs)


class Broken(DummyChat):
    """Fails in the middle."""

    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncIterator[Chunk]:  # type: ignore[override]
        yield Chunk("fine ", 1)
        raise RuntimeError("secret internals")


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[tuple[Live, dict[str, Slow]]]:
    """Engines that misbehave."""

    def as_kind(kind: type, name: str) -> DummyChat | DummyEmbeddings:
        task = "embeddings" if issubclass(kind, DummyEmbeddings) else "chat"
        engine = open_dummy(name, f"dummy:{task}", queue_limit=4)
        engine.__class__ = kind
        return engine

    engines = {
        name: as_kind(kind, name)
        for name, kind in {
            "slow": Slow,
            "mute": Mute,
            "busy": Busy,
            "broken": Broken,
            "sleeps": Sleeps,
        }.items()
    }
    with live_server(tmp_path, **engines) as server:
        yield server, engines  # type: ignore[misc]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("name", ["slow", "mute"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_its_generation(
    odd: tuple[Live, dict[str, Slow]], name: str, stream: bool
) -> None:
    live, engines = odd
    body = json.dumps({"model": name, "prompt": "a", "stream": stream}).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nx-api-key: {live.key}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    with live.raw() as raw:
        raw.sendall(head.encode() + body)
        wait_until(lambda: live.metrics.in_flight == 1)
        time.sleep(0.05)
        assert not engines[name].stopped
    wait_until(lambda: engines[name].stopped)
    wait_until(lambda: live.metrics.in_flight == 0)
    assert 'status="499"' in live.metrics.text().decode()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": "sleeps", "input": "a"}),
        (
            "/v2/models/sleeps/infer",
            {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]},
        ),
    ],
)
def test_a_client_that_leaves_stops_its_embedding(
    odd: tuple[Live, dict[str, Slow]], path: str, body: dict[str, object]
) -> None:
    live, engines = odd
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {live.key}\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    with live.raw() as raw:
        raw.sendall(head.encode() + content)
        wait_until(lambda: live.metrics.in_flight == 1)
    wait_until(lambda: engines["sleeps"].stopped)
    wait_until(lambda: live.metrics.in_flight == 0)
    assert 'status="499"' in live.metrics.text().decode()


def test_a_client_that_leaves_within_its_body_is_no_failure_of_the_server(
    odd: tuple[Live, dict[str, Slow]], caplog: pytest.LogCaptureFixture
) -> None:
    live, _ = odd
    head = (
        f"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nx-api-key: {live.key}\r\n"
        'content-length: 100\r\n\r\n{"model"'
    )
    with live.raw() as raw:
        raw.sendall(head.encode())
        time.sleep(0.1)
    wait_until(lambda: 'status="499"' in live.metrics.text().decode())
    assert "Traceback" not in caplog.text
    assert not [line for line in caplog.records if line.levelname == "ERROR"]


def test_more_prompts_than_a_model_ever_holds_are_a_bad_request(
    odd: tuple[Live, dict[str, Slow]],
) -> None:
    live, _ = odd
    with live.client() as client:
        response = client.post("/v1/completions", json={"model": "mute", "prompt": ["a"] * 5})
    assert response.status_code == 400
    assert "5 prompts" in response.json()["error"]["message"]
    assert "at most 4" in response.json()["error"]["message"]


def test_tokens_of_a_refused_prompt_are_not_counted_as_read(tmp_path: Path) -> None:
    engine = DummyChat("echo", _Options(), 1)
    engine.slots.active = 1
    with live_server(tmp_path, echo=engine) as live, live.client() as client:
        body = {"model": "echo", "prompt": "a b c"}
        assert client.post("/v1/completions", json=body).status_code == 429
        assert "sixways_prompt_tokens_total{" not in live.metrics.text().decode()
        engine.slots.active = 0
        assert client.post("/v1/completions", json=body).status_code == 200
        wait_until(
            lambda: 'prompt_tokens_total{model_name="echo"} 3.0' in live.metrics.text().decode()
        )


def test_a_full_queue_is_429_with_the_time_to_wait(odd: tuple[Live, dict[str, Slow]]) -> None:
    with odd[0].client() as client:
        response = client.post("/v1/embeddings", json={"model": "busy", "input": "a"})
    assert response.status_code == 429
    assert response.headers["retry-after"] == "3"
    assert response.json()["error"]["type"] == "rate_limit_error"


def test_an_engine_that_fails_shows_no_internals(
    odd: tuple[Live, dict[str, Slow]], caplog: pytest.LogCaptureFixture
) -> None:
    body = {"model": "broken", "prompt": "a"}
    with odd[0].client() as client:
        whole = client.post("/v1/completions", json=body)
        stream = client.post("/v1/completions", json={**body, "stream": True})
    assert whole.status_code == 500
    assert whole.json()["error"]["code"] == "internal"
    lines = [line for line in stream.text.splitlines() if line]
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["type"] == "server_error"
    assert "secret" not in whole.text + stream.text
    assert "secret" in caplog.text
    assert odd[0].metrics.rolling.window(60).error_rate == 1
