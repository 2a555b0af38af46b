"""A live server over the stand-in engines, in a thread, and processes of the real program."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop
from starlette.applications import Starlette

from sixways_server.app import create_app
from sixways_server.auth import KeyStore, add_key
from sixways_server.drain import DrainingServer
from sixways_server.engines.base import Engine
from sixways_server.engines.dummy import open_dummy
from sixways_server.metrics import Metrics
from sixways_server.registry import Registry

MAX_BODY = 1024 * 1024


@dataclass
class Live:
    """A running server: where it is, its key, and its parts to look into."""

    url: str
    key: str
    keys_file: Path
    app: Starlette
    registry: Registry
    metrics: Metrics

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=20, **options)

    def raw(self) -> socket.socket:
        """A connection without any HTTP."""
        url = httpx.URL(self.url)
        return socket.create_connection((url.host, url.port or 80), timeout=10)


@contextlib.contextmanager
def live_server(
    folder: Path, options: dict[str, Any] | None = None, **models: str | Engine
) -> Generator[Live, None, None]:
    """Serves `models` (name to `dummy:…` or an engine) on a free port of the loopback address.

    `options` are further ones of `create_app`.
    """
    keys_file = folder / "keys.json"
    key = add_key(keys_file)
    registry, metrics = Registry(models), Metrics()
    for name, model in models.items():
        engine = model
        if isinstance(engine, str):
            engine = open_dummy(name, engine, queue_limit=64)
        registry.add(name, engine)
        metrics.watch(engine)
    settings = {
        "max_body_bytes": MAX_BODY,
        "max_inputs": 64,
        "with_graphql": True,
        **(options or {}),
    }
    app = create_app(registry, KeyStore(keys_file), metrics, **settings)
    server = DrainingServer(app, drain_seconds=5, linger_seconds=0, max_body_bytes=MAX_BODY)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve([listener]))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        yield Live(f"http://127.0.0.1:{port}", key, keys_file, app, registry, metrics)
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive(), "the server did not end"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """An encoder `mini`, a language model `echo` and a model over tensors `sum`."""
    models = {
        "mini": "dummy:embeddings?max_tokens=32",
        "echo": "dummy:chat?max_tokens=64",
        "sum": "dummy:tensor",
    }
    with live_server(tmp_path_factory.mktemp("live"), **models) as server:
        yield server


@pytest.fixture
def client(live: Live) -> Iterator[httpx.Client]:
    """A client with the right key."""
    with live.client() as client:
        yield client


@dataclass
class Process:
    """One `python -m sixways_server`."""

    child: subprocess.Popen[bytes]
    status_file: Path
    log: Path

    @property
    def status(self) -> dict[str, Any]:
        if not self.status_file.is_file():
            return {"state": "none"}
        status: dict[str, Any] = json.loads(self.status_file.read_bytes())
        return status

    def wait_for(self, state: str, seconds: float = 20) -> dict[str, Any]:
        """The status once it is `state`."""
        end = time.monotonic() + seconds
        while (status := self.status)["state"] != state:
            assert time.monotonic() < end, f"{status}\n{self.log.read_text()}"
            assert status["state"] != "failed", status
            time.sleep(0.02)
        return status


@dataclass
class Launcher:
    """Starts processes in one folder; what still runs at the end of the test is killed."""

    folder: Path
    key: str
    started: list[Process] = field(default_factory=list)

    def __call__(self, prelude: str = "", **config: Any) -> Process:
        """`prelude` is Python that runs first, to change what a test cannot wait for."""
        number = len(self.started)
        status = self.folder / f"status-{number}.json"
        path = self.folder / f"server-{number}.json"
        given = {
            "models": [
                {"name": "mini", "path": "dummy:embeddings"},
                {"name": "echo", "path": "dummy:chat?delay=0.05"},
            ],
            "keys_file": "keys.json",
            "port": 0,
            "status_file": status.name,
            **config,
        }
        path.write_text(json.dumps({k: v for k, v in given.items() if v is not None}))
        log = self.folder / f"log-{number}"
        program = ["-m", "sixways_server"]
        if prelude:
            start = "import sys; from sixways_server.serve import main; sys.exit(main())"
            program = ["-c", f"{prelude}\n{start}"]
        with log.open("wb") as file:
            child = subprocess.Popen(
                [sys.executable, *program, "--config", str(path)],
                stdout=file,
                stderr=file,
            )
        process = Process(child, status, log)
        self.started.append(process)
        return process


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts the real program."""
    launcher = Launcher(tmp_path, add_key(tmp_path / "keys.json"))
    yield launcher
    for process in launcher.started:
        if process.child.poll() is None:
            process.child.kill()
        process.child.wait(10)
