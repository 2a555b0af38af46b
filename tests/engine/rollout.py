"""A rolling update with real servers in the place of pods, and a stand-in for Kubernetes.

The servers start as in the image, with the variables that the chart sets. The rest is what the
cluster does: endpoints (ready ones, known to the balancer a moment late), connections passed to one
of them as kube-proxy does, and the order of a Deployment with maxSurge 1 and maxUnavailable 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.ports import free_port

LAG = 1.0
"""Seconds until the balancer has heard that a pod ends; the chart's preStop outlasts it."""
PRE_STOP = 2.0
_PERIOD = 0.2
_START_SECONDS = 90.0


@dataclass
class Pod:
    """One server process."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    ready: bool = False
    ending: bool = False
    connections: int = 0

    def said(self) -> str:
        """What it wrote."""
        return self.log.read_text(errors="replace")


@dataclass
class Cluster:
    """Pods of one Deployment, and the Service in front of them."""

    folder: Path
    environment: dict[str, str]
    pods: list[Pod] = field(default_factory=list)
    address: str = ""
    _names: itertools.count[int] = field(default_factory=itertools.count)
    _turns: itertools.count[int] = field(default_factory=itertools.count)
    _piping: set[asyncio.Task[None]] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def running(self, replicas: int) -> AsyncIterator[None]:
        """The Service and so many ready pods for the block; at the end nothing is left."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        probing = asyncio.create_task(self._probe())
        try:
            await asyncio.gather(*(self.start() for _ in range(replicas)))
            yield
        finally:
            probing.cancel()
            for pod in self.pods:
                if pod.process.poll() is None:
                    pod.process.kill()
                pod.process.wait(10)
            server.close()
            # Nobody is left at their other ends.
            await asyncio.wait_for(asyncio.gather(*self._piping), 10)
            await asyncio.gather(probing, return_exceptions=True)

    async def start(self) -> Pod:
        """A new pod; returns once it is ready."""
        port = free_port()
        name = f"pod-{next(self._names)}"
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
                [sys.executable, "-m", "sixways_server.container"],
                env={**os.environ, **self.environment, "SIXWAYS_PORT": str(port)},
                stdout=output,
                stderr=output,
            )
        pod = Pod(name, port, process, log)
        self.pods.append(pod)
        async with asyncio.timeout(_START_SECONDS):
            while not pod.ready:
                assert process.poll() is None, pod.said()
                await asyncio.sleep(0.05)
        return pod

    async def end(self, pod: Pod, *, pre_stop: float, how: signal.Signals) -> int:
        """Deletes a pod as a kubelet does; returns the process' status.

        Args:
            pod: the pod.
            pre_stop: seconds between its end being announced and the signal.
            how: SIGTERM, or SIGKILL for what a kubelet does to a pod without grace.
        """
        announced = asyncio.create_task(self._announce(pod))
        await asyncio.sleep(pre_stop)
        pod.process.send_signal(how)
        status = await asyncio.to_thread(pod.process.wait, 60)
        await announced
        return status

    async def _announce(self, pod: Pod) -> None:
        await asyncio.sleep(LAG)
        pod.ending = True

    async def _probe(self) -> None:
        """The readiness probes, until a pod is ready.

        That one is no longer, a kubelet notices after the chart's two times five seconds: too late
        to be of help in a release, so here it does not.
        """
        async with httpx.AsyncClient(timeout=3) as client:
            while True:
                for pod in self.pods:
                    pod.ready = pod.ready or await _is_ready(client, pod)
                await asyncio.sleep(_PERIOD)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._piping.add(task)
        try:
            await self._connect(reader, writer)
        finally:
            self._piping.discard(task)
            writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        endpoints = [pod for pod in self.pods if pod.ready and not pod.ending]
        if not endpoints:
            return
        pod = endpoints[next(self._turns) % len(endpoints)]
        pod.connections += 1
        try:
            there, back = await asyncio.open_connection("127.0.0.1", pod.port)
        except OSError:
            return  # the caller sees a connection that ends without an answer
        try:
            await asyncio.gather(_pipe(reader, back), _pipe(there, writer))
        finally:
            back.close()


async def _is_ready(client: httpx.AsyncClient, pod: Pod) -> bool:
    try:
        answer = await client.get(f"http://127.0.0.1:{pod.port}/readyz")
    except httpx.TransportError:
        return False
    return answer.status_code == 200


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        if writer.can_write_eof():
            writer.write_eof()


@dataclass
class Load:
    """Callers that never pause: some keep their connection, some open one for every request."""

    url: str
    key: str
    done: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """For the block; ends with the last request that was begun in it."""
        stop = asyncio.Event()
        kept = httpx.Limits(max_connections=8, max_keepalive_connections=8)
        fresh = httpx.Limits(max_keepalive_connections=0)
        async with self._client(kept) as keeping, self._client(fresh) as opening:
            tasks = [
                asyncio.create_task(self._call(stop, client, kind, texts))
                for client, kind, texts in (
                    (keeping, "kept", 1),
                    (keeping, "kept", 1),
                    (keeping, "long", 48),
                    (opening, "fresh", 1),
                    (opening, "fresh", 1),
                    (opening, "fresh", 2),
                )
            ]
            try:
                yield
            finally:
                stop.set()
                await asyncio.gather(*tasks)

    def _client(self, limits: httpx.Limits) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, limits=limits, timeout=60)

    async def _call(
        self, stop: asyncio.Event, client: httpx.AsyncClient, kind: str, texts: int
    ) -> None:
        body = {"model": "minilm", "input": ["The harbour was quiet. " * 8] * texts}
        while not stop.is_set():
            try:
                answer = await client.post("/v1/embeddings", json=body)
                assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
                assert len(answer.json()["data"]) == texts
                self.done[kind] += 1
            except Exception as error:  # whatever it is, this caller has no answer
                self.failed.append(f"{kind}: {type(error).__name__}: {error}")
                await asyncio.sleep(0.05)


def environment(bundle: Path, keys: Path) -> dict[str, str]:
    """What the chart tells the server, with shorter times."""
    models = [{"name": "minilm", "path": str(bundle)}]
    return {
        "SIXWAYS_MODELS": json.dumps(models),
        "SIXWAYS_KEYS_FILE": str(keys),
        "SIXWAYS_DRAIN_SECONDS": "20",
        "SIXWAYS_LINGER_SECONDS": "3",
    }
