"""Several servers behind a gateway, and callers that never pause."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from sixways_server.auth import add_key
from tests.ports import free_port

CHAT_DELAY = 0.1
"""Seconds that the stand-in for chat takes for a word."""


@dataclass
class Instance:
    """One server process."""

    folder: Path
    port: int
    models: list[dict[str, Any]]
    keys_file: Path
    host: str = "127.0.0.1"
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Starts it, and returns at once."""
        self.folder.mkdir(exist_ok=True)
        config = {
            "models": self.models,
            "keys_file": str(self.keys_file),
            "host": self.host,
            "port": self.port,
        }
        (self.folder / "server.json").write_text(json.dumps(config))
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sixways_server", "--config", "server.json"],
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )

    def wait(self, seconds: float = 60) -> None:
        """Waits until it is ready."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert self.process is not None
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            time.sleep(0.05)
        raise AssertionError((self.folder / "server.log").read_text())

    def kill(self) -> None:
        """Ends it without a drain."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@dataclass
class Fleet:
    """Instances with one key."""

    instances: list[Instance]
    key: str


@contextmanager
def fleet(
    folder: Path, models: Sequence[dict[str, Any]], count: int = 3, host: str = "127.0.0.1"
) -> Iterator[Fleet]:
    """So many instances of the same models, all ready; gone at the end."""
    keys_file = folder / "upstream-keys.json"
    key = add_key(keys_file)
    instances = [
        Instance(folder / f"instance-{index}", free_port(), list(models), keys_file, host)
        for index in range(count)
    ]
    with ExitStack() as stack:
        for instance in instances:
            instance.start()
            stack.callback(instance.kill)
        for instance in instances:
            instance.wait()
        yield Fleet(instances, key)


@dataclass
class Load:
    """What callers without a pause have seen."""

    statuses: Counter[int] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    _running: bool = True

    @property
    def done(self) -> int:
        return self.statuses.total() + len(self.failed)

    async def more(self, count: int) -> None:
        """Until so many further requests have ended."""
        target = self.done + count
        async with asyncio.timeout(120):
            while self.done < target:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@asynccontextmanager
async def load(
    url: str, key: str, *, callers: int = 8, kept: bool = True, verify: Any = True
) -> AsyncIterator[Load]:
    """Callers of embeddings, for as long as this lasts.

    Args:
        url: the gateway.
        key: theirs.
        callers: how many.
        kept: whether they keep their connections.
        verify: as httpx takes it.
    """
    seen = Load()
    headers = {"authorization": f"Bearer {key}"} | ({} if kept else {"connection": "close"})

    async def caller(client: httpx.AsyncClient) -> None:
        while seen._running:
            try:
                answer = await client.post("/v1/embeddings", json={"model": "e", "input": "a"})
                seen.statuses[answer.status_code] += 1
            except httpx.HTTPError as error:
                seen.failed.append(repr(error))

    async with (
        httpx.AsyncClient(base_url=url, headers=headers, timeout=60, verify=verify) as client,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(callers):
            group.create_task(caller(client))
        try:
            yield seen
        finally:
            seen._running = False
