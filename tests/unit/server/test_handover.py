"""Not one request fails while one process takes the place of another."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from sixways_bundle import BundleError
from sixways_server import handover
from tests.ports import free_port
from tests.unit.server.conftest import Process

Launch = Callable[..., Process]


class Hammer:
    """Threads with keep-alive clients that ask without a pause and note every failure."""

    def __init__(self, url: str, key: str, threads: int) -> None:
        self.failures: list[str] = []
        self.answered = 0
        self._stop = threading.Event()
        self._url, self._key = url, key
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(threads)]

    def __enter__(self) -> Hammer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self, number: int) -> None:
        with httpx.Client(headers={"x-api-key": self._key}, timeout=20) as client:
            while not self._stop.is_set():
                try:
                    response = client.post(
                        f"{self._url}/v1/embeddings", json={"model": "mini", "input": "a b"}
                    )
                    if response.status_code != 200:
                        self.failures.append(response.text)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                self.answered += 1
                # Some clients pause, so that idle connections are about when a server ends.
                time.sleep(0.002 if number % 2 else 0.2)


def stream_words(url: str, key: str, count: int, result: list[str]) -> None:
    body = {
        "model": "echo",
        "stream": True,
        "messages": [{"role": "user", "content": " ".join(["word"] * count)}],
    }
    headers = {"x-api-key": key}
    with (
        httpx.Client(headers=headers, timeout=30) as client,
        client.stream("POST", f"{url}/v1/chat/completions", json=body) as response,
    ):
        result.extend(line for line in response.iter_lines() if line)


@pytest.mark.parametrize("workers", [1, 2])
def test_two_handovers_under_load_lose_nothing(launch: Launch, workers: int) -> None:
    key: str = launch.key  # type: ignore[attr-defined]
    settings: dict[str, Any] = {
        "handover": "next.sock", "port": free_port(), "workers": workers
    }  # fmt: skip
    running = launch(**settings)
    url = running.wait_for("ready")["url"]
    ended: list[int] = []
    with Hammer(url, key, 6) as hammer:
        for _ in range(2):
            streamed: list[str] = []
            stream = threading.Thread(target=stream_words, args=(url, key, 60, streamed))
            stream.start()
            time.sleep(0.3)
            successor = launch(**settings)
            successor.wait_for("ready")
            before = hammer.answered
            running.child.terminate()
            assert running.child.wait(20) == 0
            ended.append(running.child.pid)
            running = successor
            stream.join(20)
            # The stream began in the process that ended, and was answered to its end there.
            assert streamed[-1] == "data: [DONE]"
            assert len(streamed) == 62
            assert hammer.answered > before + 100
    assert hammer.failures == []
    assert hammer.answered > 500
    assert not any(psutil.pid_exists(pid) for pid in ended)
    running.child.terminate()
    assert running.child.wait(20) == 0


def test_without_a_connection_the_process_ends_at_once(launch: Launch, tmp_path: Path) -> None:
    process = launch(handover="next.sock")
    process.wait_for("ready")
    assert stat.S_IMODE((tmp_path / "next.sock").stat().st_mode) == 0o600
    began = time.monotonic()
    process.child.terminate()
    assert process.child.wait(10) == 0
    assert time.monotonic() - began < 1.5
    assert process.status["state"] == "stopped"
    assert not (tmp_path / "next.sock").exists()


def test_a_request_on_an_open_connection_is_answered_and_told_to_close(launch: Launch) -> None:
    process = launch()
    url = process.wait_for("ready")["url"]
    with httpx.Client(base_url=url) as client:
        assert "connection" not in client.get("/healthz").headers
        process.child.terminate()
        process.wait_for("draining")
        response = client.get("/readyz")
        assert (response.status_code, response.text) == (503, "draining\n")
        assert response.headers["connection"] == "close"
        with pytest.raises(httpx.ConnectError):
            client.get("/readyz")
    assert process.child.wait(5) == 0


def test_an_idle_connection_is_closed_after_the_time_to_linger(launch: Launch) -> None:
    process = launch(linger_seconds=0.5)
    url = process.wait_for("ready")["url"]
    with httpx.Client(base_url=url) as client:
        client.get("/healthz")
        began = time.monotonic()
        process.child.terminate()
        assert process.child.wait(5) == 0
    assert 0.4 < time.monotonic() - began < 3


def test_what_is_not_answered_in_time_is_cut_off(launch: Launch) -> None:
    process = launch(drain_seconds=0.3)
    url = process.wait_for("ready")["url"]
    words: list[str] = []

    def ask() -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            stream_words(url, launch.key, 500, words)  # type: ignore[attr-defined]

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.3)
    process.child.terminate()
    assert process.child.wait(5) == 0
    thread.join(5)
    assert words == [] or words[-1] != "data: [DONE]"
    assert "cut off" in process.log.read_text()


def test_a_second_signal_ends_it_now(launch: Launch) -> None:
    process = launch(linger_seconds=20)
    url = process.wait_for("ready")["url"]
    with httpx.Client(base_url=url) as client:
        client.get("/healthz")
        process.child.terminate()
        process.wait_for("draining")
        process.child.terminate()
        assert process.child.wait(3) == 0


def test_a_successor_that_cannot_start_leaves_the_running_one(launch: Launch) -> None:
    port = free_port()
    first = launch(handover="next.sock", port=port)
    url = first.wait_for("ready")["url"]
    wrong = [{"name": "mini", "path": "dummy:nothing"}]
    second = launch(handover="next.sock", port=port, models=wrong)
    assert second.child.wait(20) == 1
    assert second.status["state"] == "failed"
    assert "dummy:nothing" in second.status["error"]
    for _ in range(5):
        assert httpx.get(f"{url}/readyz").status_code == 200


def test_a_taken_port_is_named_with_its_holder(launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = launch(port=port)
        assert process.child.wait(20) == 1
    error = process.status["error"]
    assert f"port {port} is taken by " in error
    assert f"pid {os.getpid()}" in error


def test_a_dead_predecessor_is_no_obstacle(launch: Launch) -> None:
    settings: dict[str, Any] = {"handover": "next.sock", "port": free_port()}
    first = launch(**settings)
    first.wait_for("ready")
    first.child.kill()
    first.child.wait()
    assert launch(**settings).wait_for("ready")["port"] == settings["port"]


def test_another_port_than_the_predecessors_is_opened_anew(launch: Launch) -> None:
    first = launch(handover="next.sock", port=free_port()).wait_for("ready")
    second = launch(handover="next.sock", port=free_port()).wait_for("ready")
    assert first["port"] != second["port"]
    for status in (first, second):
        assert httpx.get(f"{status['url']}/readyz").status_code == 200


def test_a_wrong_configuration_is_told_on_both_channels(launch: Launch) -> None:
    process = launch(prt=1, port=70000, queue_limit="many")
    assert process.child.wait(20) == 1
    assert process.status["state"] == "failed"
    for text in (process.status["error"], process.log.read_text()):
        assert "prt" in text
        assert "queue_limit" in text


def test_while_models_load_the_server_answers_that_it_is_not_ready(launch: Launch) -> None:
    port = free_port()
    models = [
        {"name": "mini", "path": "dummy:embeddings"},
        {"name": "echo", "path": "dummy:chat?load=2"},
    ]
    process = launch(port=port, models=models)
    headers = {"x-api-key": launch.key}  # type: ignore[attr-defined]
    transport = httpx.HTTPTransport(retries=5)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=transport) as client:
        assert client.get("/healthz").status_code == 200
        assert (client.get("/readyz").status_code, client.get("/readyz").text) == (503, "loading\n")
        early = client.post(
            "/v1/completions", json={"model": "echo", "prompt": "a"}, headers=headers
        )
        assert (early.status_code, early.headers["retry-after"]) == (503, "1")
        assert process.status["message"] == "mini is loaded; loading echo"
        process.wait_for("ready")
        assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize(("signals", "code"), [(1, 0), (2, 1)])
def test_a_signal_while_models_load_ends_it_without_being_ready(
    launch: Launch, signals: int, code: int
) -> None:
    port = free_port()
    process = launch(port=port, models=[{"name": "echo", "path": "dummy:chat?load=2"}])
    with httpx.Client(transport=httpx.HTTPTransport(retries=5)) as client:
        client.get(f"http://127.0.0.1:{port}/healthz")
    for _ in range(signals):
        process.child.terminate()
        time.sleep(0.2)
    assert process.child.wait(10) == code
    assert process.status["state"] != "ready"


def test_a_signal_while_modules_are_imported_ends_it_quietly(launch: Launch) -> None:
    process = launch(models=[{"name": "echo", "path": "dummy:chat?load=1"}])
    process.wait_for("starting")
    process.child.terminate()
    assert process.child.wait(10) == 0
    assert "Traceback" not in process.log.read_text()


def test_nobody_at_the_path_is_no_socket(tmp_path: Path) -> None:
    assert handover.receive(tmp_path / "nobody", "127.0.0.1", 0) is None


def test_a_path_of_any_length_will_do(tmp_path: Path, launch: Launch) -> None:
    deep = tmp_path / ("x" * 100) / ("y" * 100)
    deep.mkdir(parents=True)
    settings: dict[str, Any] = {"handover": str(deep / "s"), "port": 0}
    port = launch(**settings).wait_for("ready")["port"]
    successor = launch(**settings)
    # Port 0 is any port, so the predecessor's is best: the URL stays.
    assert successor.wait_for("ready")["port"] == port
    assert "took over" in successor.log.read_text()


def test_a_host_that_is_not_ours_is_refused() -> None:
    with pytest.raises(BundleError, match="host"):
        handover.listen("203.0.113.7", 0)


def test_the_log_has_a_line_for_each_request_and_no_secret(launch: Launch) -> None:
    process = launch()
    url = process.wait_for("ready")["url"]
    key: str = launch.key  # type: ignore[attr-defined]
    headers = {"x-api-key": key, "x-request-id": "abc-1"}
    body = {"model": "mini", "input": "private words"}
    response = httpx.post(f"{url}/v1/embeddings", json=body, headers=headers)
    assert response.headers["x-request-id"] == "abc-1"
    forged = httpx.get(f"{url}/v1/models/private", headers={**headers, "x-request-id": "a b"})
    assert forged.headers["x-request-id"] not in ("abc-1", "a b")
    process.child.terminate()
    process.child.wait(10)
    text = process.log.read_text()
    assert key not in text
    assert "private" not in text
    lines = [json.loads(line) for line in text.splitlines()]
    requests = [line for line in lines if line["message"] == "request"]
    assert [line["status"] for line in requests] == [200, 404]
    assert requests[0]["request_id"] == "abc-1"
    assert requests[0]["model"] == "mini"
    assert requests[0]["tokens_in"] == 2
    assert requests[0]["key"] == "default"
