"""A server takes what its cgroup grants, not what its host has."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from sixways_bundle.runtime import base, llm
from sixways_server import sizing
from sixways_server.config import ModelConfig, ServerConfig
from tests.unit.bundle.encoder_tiny import write_tokenizer
from tests.unit.server.conftest import Process

Launch = Callable[..., Process]
MODELS = (ModelConfig(name="mini", path="dummy:embeddings"),)
NAMES = (*sizing._PER_MODEL, *sizing._IDLE)
ONE_BY_QUOTA = "import sixways_bundle.runtime.base as b; b._cgroup_quota = lambda: 1.0"
ONE_BY_AFFINITY = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a variable of ours, and as it was again afterwards."""
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is put back, whatever the test does
        del os.environ[name]


def of(**settings: Any) -> ServerConfig:
    return ServerConfig(models=MODELS, keys_file=Path("keys.json"), **settings)


@pytest.mark.parametrize(
    ("usable", "workers", "asked", "threads"),
    [(8, 1, None, 8), (8, 3, None, 2), (2, 4, None, 1), (8, 4, 5, 5), (8, 1, 99, 99)],
)
def test_processors_are_divided_among_the_workers_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
    environment: None,
    usable: int,
    workers: int,
    asked: int | None,
    threads: int,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(base, "_cgroup_quota", lambda: float(usable))
    assert sizing.fit(of(workers=workers, threads=asked)).threads == threads
    assert {os.environ[name] for name in sizing._PER_MODEL} == {str(threads)}
    assert {os.environ[name] for name in sizing._IDLE} == {"1"}


def test_an_engine_chooses_itself_where_nothing_leaves_it_less_than_it_sees(
    environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setattr(base, "_cgroup_quota", lambda: None)
    assert sizing.fit(of()).threads is None
    assert {os.environ[name] for name in sizing._PER_MODEL} == {"6"}
    assert sizing.fit(of(workers=2)).threads == 3


def test_what_a_user_has_set_stays(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYON_NUM_THREADS", "7")
    sizing.fit(of())
    assert os.environ["RAYON_NUM_THREADS"] == "7"


def test_memory_for_keys_and_values_is_divided_among_the_workers(
    environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm, "memory_available", lambda: 8 * 10**9)
    assert sizing.fit(of(workers=1)).cache_gb is None  # the engine asks when it opens
    assert sizing.fit(of(workers=4)).cache_gb == 0.5
    assert sizing.fit(of(workers=4, cache_gb=3)).cache_gb == 3


async def test_the_event_loops_own_threads_follow_the_quota(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(base, "_cgroup_quota", lambda: 1.0)
    made: list[ThreadPoolExecutor] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "set_default_executor", made.append)
    sizing.limit_default_executor(loop)
    assert made[0]._max_workers == 5
    made[0].shutdown()


def write_model(folder: Path) -> None:
    """A sentence encoder that only looks like one: the mean of the ids, over the real runtime."""
    ids, mask = (
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask")
    )
    out = helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", 1])
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["kept"]),
        helper.make_node("Cast", ["kept"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers"], ["sentence_embedding"], axes=[1]),
    ]
    graph = helper.make_graph(nodes, "tiny", [ids, mask], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    write_tokenizer(folder)


@pytest.mark.parametrize("limit", [ONE_BY_QUOTA, ONE_BY_AFFINITY])
def test_a_server_with_one_processor_keeps_few_threads(
    launch: Launch, tmp_path: Path, limit: str
) -> None:
    write_model(tmp_path)
    prelude = f"""{limit}
import pathlib, sixways_server.serving as s
def open_model(model, config):
    from sixways_server.engines.base import ModelInfo
    from sixways_server.engines.encoder import EncoderEngine
    folder = pathlib.Path({str(tmp_path)!r})
    info = ModelInfo("mini", "embeddings", "sha256:0", "onnx", "onnx", 48, 1)
    engine = EncoderEngine(
        info, "onnx", folder, folder / "tokenizer.json", threads=config.threads
    )
    engine.load()
    return engine
s.open_model = open_model
"""
    process = launch(prelude, models=[{"name": "mini", "path": "dummy:embeddings"}])
    url = process.wait_for("ready")["url"]
    threads = psutil.Process(process.child.pid).num_threads
    end = time.monotonic() + 5
    while threads() > 1 and time.monotonic() < end:  # those that opened the model end by and by
        time.sleep(0.05)
    assert threads() == 1, "threads that nobody has needed yet"
    headers = {"x-api-key": launch.key}  # type: ignore[attr-defined]
    with httpx.Client(base_url=url, headers=headers) as client:
        for _ in range(20):
            body = {"model": "mini", "input": ["a b c"] * 16}
            assert client.post("/v1/embeddings", json=body).status_code == 200
            assert client.get("/metrics").status_code == 200
    # The event loop, 2 that tokenize, 1 of their library, 1 that computes, at most 5 of asyncio.
    assert threads() <= 10
