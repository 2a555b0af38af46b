"""A Ray Serve application that runs `vllm serve` on its Ray cluster and passes requests on.

Ray Serve has no API keys; vLLM's server behind it has the gate (`sixways_gate`). Serve gives what
a KubeRay `RayService` wants: health, and a new cluster that takes over once it answers.
`SIXWAYS_VLLM` holds vLLM's arguments as JSON. It runs in the image of vLLM and Ray.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator

import httpx
import ray
from ray import serve
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse

_PORT = 8001
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "host"}
_END_SECONDS = 30.0


class VLLM:
    """One `vllm serve` on the head node, which vLLM wants to hold GPUs of the model too."""

    async def __init__(self) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
        # Ray hides all GPUs from an actor that asked for none.
        for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
            if not environment.get(name):
                environment.pop(name, None)
        arguments = json.loads(os.environ["SIXWAYS_VLLM"])
        command = ["vllm", "serve", *arguments, "--host", "127.0.0.1", "--port", str(_PORT)]
        # Not asyncio's: `__del__` ends it, where no loop runs.
        self._child = subprocess.Popen(command, env=environment)  # noqa: ASYNC220
        self._client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{_PORT}",
            timeout=httpx.Timeout(None, connect=5.0),
            limits=httpx.Limits(max_connections=None),
        )
        while not await self._answers():
            self._check_child()
            await asyncio.sleep(1.0)

    async def check_health(self) -> None:
        """Raises where vLLM is gone or does not answer; Serve then starts another."""
        self._check_child()
        if not await self._answers():
            raise RuntimeError("vLLM does not answer /health")

    async def __call__(self, request: Request) -> StreamingResponse:
        """Passes one request on, and its answer back as it comes."""
        sent = self._client.build_request(
            request.method,
            httpx.URL(path=request.url.path, query=request.url.query.encode()),
            headers=[(k, v) for k, v in request.headers.items() if k not in _HOP_BY_HOP],
            content=await request.body(),
        )
        answer = await self._client.send(sent, stream=True)
        return StreamingResponse(
            _bytes_of(answer),
            status_code=answer.status_code,
            headers={k: v for k, v in answer.headers.items() if k not in _HOP_BY_HOP},
            background=BackgroundTask(answer.aclose),
        )

    def __del__(self) -> None:
        child = getattr(self, "_child", None)
        if child is None or child.poll() is not None:
            return
        child.terminate()
        try:
            child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()

    async def _answers(self) -> bool:
        try:
            return (await self._client.get("/health", timeout=10.0)).status_code == 200
        except httpx.TransportError:
            return False

    def _check_child(self) -> None:
        if self._child.poll() is not None:
            raise RuntimeError(f"vLLM ended with {self._child.returncode}; see its log above")


async def _bytes_of(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in answer.aiter_raw():
            yield part
    finally:
        # The caller may have left: vLLM then stops as well.
        await answer.aclose()


app = serve.deployment(VLLM).bind()
