"""MiniLM behind Ray Serve, with its dynamic request batching."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

# As its performance guide recommends; read when Ray Serve is imported.
os.environ["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from ray import serve
from starlette.requests import Request

from bench.peers.engine import MAX_BATCH, Peer, open_encoder

_BATCH_WAIT = 0.002


@serve.deployment(max_ongoing_requests=4 * MAX_BATCH)
class MiniLM:
    """Texts in, embeddings out."""

    def __init__(self, peer: Peer) -> None:
        self._encode = open_encoder(peer)

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=_BATCH_WAIT)
    async def _batch(self, texts: list[str]) -> list[Any]:
        return list(await asyncio.to_thread(self._encode, texts))

    async def __call__(self, request: Request) -> dict[str, list[float]]:
        vector = await self._batch((await request.json())["input"])
        return {"embedding": vector.tolist()}


if __name__ == "__main__":
    peer = Peer.told()
    ray.init(
        num_cpus=peer.threads,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 1024 * 1024,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": peer.port})
    serve.run(MiniLM.bind(peer))
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
