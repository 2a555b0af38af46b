"""The server as its image starts it without arguments, and the image's health check."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from sixways_server import probe
from sixways_server.container import config_file
from tests.ports import free_port

MODELS = json.dumps([{"name": "mini", "path": "dummy:embeddings"}])


def start(log: Path, **environment: str) -> subprocess.Popen[bytes]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SIXWAYS_", "SM_"))}
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "sixways_server.container"],
            env={**inherited, "PYTHONPATH": ":".join(sys.path), **environment},
            stdout=file,
            stderr=file,
        )


def wait(child: subprocess.Popen[bytes], log: Path, port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        assert child.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)


def test_it_makes_a_key_serves_and_is_healthy_until_sigterm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, log = free_port(), tmp_path / "log"
    monkeypatch.setenv("SIXWAYS_PORT", str(port))
    monkeypatch.setenv("SAGEMAKER_BIND_TO_PORT", str(free_port()))
    assert probe.main() == 1
    child = start(log, SIXWAYS_PORT=str(port), SIXWAYS_MODELS=MODELS, SIXWAYS_LINGER_SECONDS="0")
    try:
        wait(child, log, port)
        assert probe.main() == 0
        (key,) = re.findall(r"API key of this run: (\S+)", log.read_text())
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
            body = {"model": "mini", "input": "a"}
            for path in ("/v1/embeddings", "/invocations"):
                assert http.post(path, json=body).status_code == 401
                headers = {"authorization": f"Bearer {key}"}
                assert http.post(path, json=body, headers=headers).status_code == 200
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0
    finally:
        child.kill()
        child.wait()


def test_wrong_settings_are_told_and_end_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = start(log, SIXWAYS_PORT="many", SM_MODEL_DIR=str(tmp_path))
    assert child.wait(20) == 1
    assert "SIXWAYS_PORT: 'many' is not accepted" in log.read_text()
    child = start(log, SM_MODEL_DIR=str(tmp_path))
    assert child.wait(20) == 1
    assert "there is no model" in log.read_text()


def test_a_named_configuration_file_is_used_even_where_it_is_missing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    named = tmp_path / "server.json"
    assert config_file({"SIXWAYS_CONFIG": str(named)}) == named
    child = start(log, SIXWAYS_CONFIG=str(named), SIXWAYS_MODELS=MODELS)
    assert child.wait(20) == 1
    assert str(named) in log.read_text()


def test_the_health_check_asks_every_port_the_server_may_have(tmp_path: Path) -> None:
    named = tmp_path / "server.json"
    named.write_text('{"port": 7000}')
    assert list(probe.ports({})) == [5000, 8080]
    given = {"SIXWAYS_PORT": "1", "SAGEMAKER_BIND_TO_PORT": "2", "SIXWAYS_CONFIG": str(named)}
    assert list(probe.ports(given)) == [7000, 1, 2]
