"""The application of the runtime `ray`: with Ray in name only, and a small server called vllm."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import stat
import sys
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from sixways.container.distributed import pods
from tests.ports import free_port

_VLLM = """#!{python}
import asyncio
import json
import os
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route


async def stream(request):
    body = await request.json()

    async def parts():
        for index in range(body["parts"]):
            yield f"data: {{index}}\\n\\n"

    return StreamingResponse(parts(), media_type="text/event-stream")


async def echo(request):
    told = {{"query": request.url.query, "key": request.headers.get("x-api-key"),
             "arguments": sys.argv[1:], "ray": os.environ["RAY_ADDRESS"],
             "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}}
    return JSONResponse(told, 418)


routes = [Route("/health", lambda _: PlainTextResponse("")), Route("/echo", echo),
          Route("/v1/completions", stream, methods=["POST"])]
port = int(sys.argv[sys.argv.index("--port") + 1])
uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="error")
"""


@pytest.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """The deployment's one replica, whose vLLM answers."""
    program = tmp_path / "vllm"
    program.write_text(_VLLM.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SIXWAYS_VLLM", json.dumps(["acme/large", "--max-model-len", "8"]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    ray, serve = types.ModuleType("ray"), types.ModuleType("ray.serve")
    context = types.SimpleNamespace(gcs_address="192.0.2.1:6379")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context, raising=False)
    monkeypatch.setattr(ray, "serve", serve, raising=False)
    bound = types.SimpleNamespace(bind=lambda: None)
    monkeypatch.setattr(serve, "deployment", lambda _: bound, raising=False)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.serve", serve)
    path = Path(pods.__file__).parent / "files" / "sixways_serve.py"
    spec = importlib.util.spec_from_file_location("sixways_serve", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "_PORT", free_port())
    replica = module.VLLM.__new__(module.VLLM)
    try:
        await asyncio.wait_for(replica.__init__(), 30)
        yield replica
    finally:
        replica.__del__()
        await replica._client.aclose()


def through(engine: Any) -> httpx.AsyncClient:
    """A client whose requests Ray Serve would hand to the replica."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        answer = await engine(Request(scope, receive))
        await answer(scope, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(app=serve), base_url="http://model")


async def test_requests_and_answers_pass_as_they_are(engine: Any) -> None:
    async with through(engine) as client:
        answer = await client.get("/echo", params={"q": "a b&c"}, headers={"x-api-key": "sk"})
        assert answer.status_code == 418
        told = answer.json()
        assert (told["query"], told["key"]) == ("q=a+b%26c", "sk")
        assert told["arguments"][:4] == ["serve", "acme/large", "--max-model-len", "8"]
        assert told["arguments"][4:6] == ["--host", "127.0.0.1"], "the gate cannot be passed by"
        assert told["ray"] == "192.0.2.1:6379"
        assert told["gpus"] is None, "Ray hides all GPUs from who asked for none"
        answer = await client.post("/v1/completions", json={"parts": 3})
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"


async def test_a_vllm_that_is_gone_is_not_healthy(engine: Any) -> None:
    await engine.check_health()
    engine._child.kill()
    engine._child.wait(10)
    with pytest.raises(RuntimeError, match="vLLM ended with -9"):
        await engine.check_health()


async def test_the_end_of_the_replica_is_that_of_its_vllm(engine: Any) -> None:
    engine.__del__()
    assert engine._child.poll() is not None
