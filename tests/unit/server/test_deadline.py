"""A request that takes longer than it may is ended, and its work with it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sixways_server import deadline
from sixways_server.engines.dummy import DummyChat, DummyEmbeddings, _Options
from tests.unit.server.conftest import Live, live_server
from tests.unit.server.test_limits import Mute, Sleeps, Slow, wait_until

ASKED = {"x-request-timeout": "0.2"}
EMBED = ("/v1/embeddings", {"model": "sleeps", "input": "a"})
INFER = (
    "/v2/models/sleeps/infer",
    {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]},
)
COMPLETE = ("/v1/completions", {"model": "mute", "prompt": "a"})
CHAT = ("/v1/chat/completions", {"model": "mute", "messages": [{"role": "user", "content": "a"}]})
STREAM = ("/v1/completions", {"model": "mute", "prompt": "a", "stream": True})


class Queue(DummyEmbeddings):
    """Takes one request at a time, and long."""


def engines() -> dict[str, Any]:
    return {
        "sleeps": Sleeps("sleeps", _Options(), 4),
        "mute": Mute("mute", _Options(), 4),
        "slow": Slow("slow", _Options(), 4),
        "mini": DummyEmbeddings("mini", _Options(), 4),
        "echo": DummyChat("echo", _Options(delay=0.05), 4),
        "busy": Queue("busy", _Options(delay=30), 1),
    }


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[tuple[Live, dict[str, Any]]]:
    made = engines()
    with live_server(tmp_path, **made) as live:
        yield live, made


@pytest.mark.parametrize(("path", "body"), [EMBED, INFER, COMPLETE, CHAT, STREAM])
def test_what_takes_longer_than_asked_is_504_in_the_protocols_shape_and_its_work_ends(
    odd: tuple[Live, dict[str, Any]], path: str, body: dict[str, Any]
) -> None:
    live, made = odd
    model = body.get("model", "sleeps")
    with live.client() as client:
        began = time.monotonic()
        response = client.post(path, json=body, headers=ASKED)
        assert 0.15 < time.monotonic() - began < 2
    assert response.status_code == 504
    content = response.json()
    if path.startswith("/v2/"):
        assert content["error"].startswith("the request took longer than 0.2 s")
    else:
        assert content["error"]["code"] == "deadline_exceeded"
        assert content["error"]["type"] == "server_error"
        assert "x-request-timeout" in content["error"]["message"]
    wait_until(lambda: made[model].stopped)
    wait_until(lambda: live.metrics.in_flight == 0)
    assert f'model_name="{model}"' in live.metrics.text().decode()
    assert 'status="504"' in live.metrics.text().decode()


def test_the_servers_own_limit_holds_without_a_header_and_cannot_be_raised(
    tmp_path: Path,
) -> None:
    options = {"request_seconds": 0.2}
    with live_server(tmp_path, options, **engines()) as live, live.client() as client:
        for headers in ({}, {"x-request-timeout": "60"}):
            began = time.monotonic()
            assert client.post(EMBED[0], json=EMBED[1], headers=headers).status_code == 504
            assert time.monotonic() - began < 2


def test_a_place_in_the_queue_is_free_again(odd: tuple[Live, dict[str, Any]]) -> None:
    live, made = odd
    body = {"model": "busy", "input": "a"}
    with live.client() as client:
        assert client.post("/v1/embeddings", json=body, headers=ASKED).status_code == 504
        wait_until(lambda: made["busy"].slots.active == 0)
        # Another 504, not a 429: it got the one place.
        assert client.post("/v1/embeddings", json=body, headers=ASKED).status_code == 504


@pytest.mark.parametrize("model", ["slow", "echo"])
def test_a_stream_that_has_begun_ends_with_an_error_in_it(
    odd: tuple[Live, dict[str, Any]], model: str
) -> None:
    live, _ = odd
    body = {"model": model, "prompt": "word " * 40, "stream": True}
    with live.client() as client:
        response = client.post("/v1/completions", json=body, headers={"x-request-timeout": "0.5"})
    assert response.status_code == 200
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert len(lines) > 3
    assert json.loads(lines[0])["choices"][0]["text"] == "word "
    assert json.loads(lines[-1])["error"]["code"] == "deadline_exceeded"
    wait_until(lambda: live.metrics.in_flight == 0)
    assert 'status="504"' in live.metrics.text().decode()


def test_a_stream_whose_client_does_not_read_is_cut_off(
    odd: tuple[Live, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "_UNREAD_SECONDS", 0.2)
    live, made = odd

    class Flood(Slow):
        async def generate(self, prompt: Any, sampling: Any) -> Any:
            async for chunk in super().generate(prompt, sampling):
                yield type(chunk)(chunk.text * 100_000, 1)

    made["slow"].__class__ = Flood
    body = json.dumps({"model": "slow", "prompt": "a", "stream": True}).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nx-api-key: {live.key}\r\n"
        f"x-request-timeout: 0.3\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with live.raw() as raw:
        raw.sendall(head.encode() + body)
        wait_until(lambda: live.metrics.in_flight == 1)
        wait_until(lambda: live.metrics.in_flight == 0)
        assert made["slow"].stopped


def test_a_body_that_comes_too_slowly_is_answered_and_the_connection_ends(
    odd: tuple[Live, dict[str, Any]],
) -> None:
    live, _ = odd
    head = (
        f"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nx-api-key: {live.key}\r\n"
        "x-request-timeout: 0.2\r\ncontent-length: 100\r\n\r\n{"
    )
    with live.raw() as raw:
        raw.sendall(head.encode())
        answer = b""
        while data := raw.recv(4096):
            answer += data
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert b"deadline_exceeded" in answer


@pytest.mark.parametrize("value", ["0", "-1", "soon", "", "nan", "inf", "2s"])
def test_a_wrong_header_is_named(odd: tuple[Live, dict[str, Any]], value: str) -> None:
    with odd[0].client() as client:
        body = {"model": "mini", "input": "a"}
        response = client.post("/v1/embeddings", json=body, headers={"x-request-timeout": value})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == "x-request-timeout"
    assert repr(value) in error["message"]


def test_what_is_in_time_is_answered_as_ever(odd: tuple[Live, dict[str, Any]]) -> None:
    live, _ = odd
    with live.client() as client:
        headers = {"x-request-timeout": "20"}
        body = {"model": "mini", "input": "a"}
        assert client.post("/v1/embeddings", json=body, headers=headers).status_code == 200
        words = {"model": "echo", "prompt": "a b c", "stream": True}
        stream = client.post("/v1/completions", json=words, headers=headers)
        assert stream.text.endswith("data: [DONE]\n\n")
        assert httpx.get(f"{live.url}/healthz", headers=headers).status_code == 200
