"""The engine of models over tensors: its queue, its batches, what it refuses."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sixways_bundle.runtime import TENSORS, InputRefused, TensorRuntime, TensorSpec
from sixways_server.engines import tensor as module
from sixways_server.engines.base import ModelInfo
from sixways_server.engines.tensor import TensorModelEngine
from sixways_server.errors import BadRequest, NotReady, TooBusy
from tests.unit.bundle import tensor_tiny as tiny

INFO = ModelInfo("tiny", "tensor", "sha256:0", "onnx-original", "onnx", 0, details={"size": 1})


class Runtime(TensorRuntime):
    """Adds one to `x`; waits for `gate`; refuses a row that begins with 13, fails at 666."""

    device = "Abacus"
    inputs = (TensorSpec("x", "float32", (-1, -1)),)
    outputs = (TensorSpec("y", "float32", (-1, -1)),)

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False
        self.shapes: list[tuple[int, ...]] = []

    def infer(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        assert self.gate.wait(10)
        assert not self.closed
        x = tensors["x"]
        self.shapes.append(x.shape)
        if (x[:, 0] == 13).any():
            raise InputRefused("node /secret/place failed")
        if (x[:, 0] == 666).any():
            raise MemoryError("out of memory")
        return {"y": x + 1}

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    runtime = Runtime()
    monkeypatch.setattr(module, "open_tensor", lambda *_, **__: runtime)
    return runtime


@pytest.fixture
async def engine(runtime: Runtime, tmp_path: Path) -> AsyncIterator[TensorModelEngine]:
    engine = TensorModelEngine(INFO, "onnx", tmp_path, batching=True, queue_limit=8, max_rows=6)
    engine.load()
    runtime.shapes.clear()
    yield engine
    runtime.gate.set()
    await engine.close()


def x(*rows: float, width: int = 2) -> dict[str, Any]:
    return {"x": np.array([[row] * width for row in rows], np.float32)}


async def behind_a_closed_gate(
    engine: TensorModelEngine, runtime: Runtime, *requests: Mapping[str, Any]
) -> list[Any]:
    """Answers, or errors, of `requests` that gathered while another one was computed."""
    runtime.gate.clear()
    first = asyncio.create_task(engine.infer(x(0)))
    await asyncio.sleep(0.05)
    others = [asyncio.create_task(engine.infer(one)) for one in requests]
    await asyncio.sleep(0.05)
    assert engine.queue_depth == len(requests)
    runtime.gate.set()
    await first
    return await asyncio.gather(*others, return_exceptions=True)


async def test_what_waits_is_computed_together_and_each_gets_its_own_rows(
    engine: TensorModelEngine, runtime: Runtime
) -> None:
    told: list[int] = []
    engine.on_batch = lambda size, seconds: told.append(size)
    answers = await behind_a_closed_gate(engine, runtime, x(1), x(2, 3), x(4))
    assert [answer["y"][:, 0].tolist() for answer in answers] == [[2], [3, 4], [5]]
    assert runtime.shapes == [(1, 2), (4, 2)]
    await asyncio.sleep(0)
    assert told == [1, 3]


async def test_a_single_request_does_not_wait_for_company(
    engine: TensorModelEngine, runtime: Runtime
) -> None:
    answer = await asyncio.wait_for(engine.infer(x(1)), 1)
    assert answer["y"].tolist() == [[2, 2]]
    assert runtime.shapes == [(1, 2)]


async def test_only_shapes_that_agree_behind_the_first_axis_share_a_batch(
    engine: TensorModelEngine, runtime: Runtime
) -> None:
    answers = await behind_a_closed_gate(engine, runtime, x(1), x(2, width=3), x(3), x(4, width=3))
    assert [answer["y"].shape for answer in answers] == [(1, 2), (1, 3), (1, 2), (1, 3)]
    assert runtime.shapes == [(1, 2), (2, 2), (2, 3)]


async def test_a_batch_has_no_more_rows_than_it_may(
    engine: TensorModelEngine, runtime: Runtime
) -> None:
    await behind_a_closed_gate(engine, runtime, x(*range(4)), x(1, 2, 3), x(5), x(*range(9)))
    assert runtime.shapes == [(1, 2), (5, 2), (3, 2), (9, 2)]


async def test_a_model_whose_rows_depend_on_each_other_gets_one_request_at_a_time(
    runtime: Runtime, tmp_path: Path
) -> None:
    engine = TensorModelEngine(INFO, "onnx", tmp_path)
    engine.load()
    runtime.shapes.clear()
    await behind_a_closed_gate(engine, runtime, x(1), x(2))
    assert runtime.shapes == [(1, 2)] * 3
    await engine.close()


async def test_only_the_request_that_is_at_fault_is_refused_and_nothing_is_given_away(
    engine: TensorModelEngine, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        good, refused, failed = await behind_a_closed_gate(engine, runtime, x(1), x(13), x(666))
    assert good["y"].tolist() == [[2, 2]]
    assert isinstance(refused, BadRequest)
    assert "x [1, 2]" in refused.message
    assert "secret" not in refused.message
    assert "secret" in caplog.text
    assert isinstance(failed, MemoryError)
    assert (await engine.infer(x(7)))["y"].tolist() == [[8, 8]]


async def test_a_full_queue_says_when_to_try_again(
    engine: TensorModelEngine, runtime: Runtime
) -> None:
    runtime.gate.clear()
    waiting = [asyncio.create_task(engine.infer(x(1))) for _ in range(8)]
    await asyncio.sleep(0.05)
    with pytest.raises(TooBusy) as refused:
        await engine.infer(x(1))
    assert refused.value.retry_after
    runtime.gate.set()
    await asyncio.gather(*waiting)
    await engine.infer(x(1))


async def test_a_caller_that_goes_away_frees_its_place_and_is_not_computed(
    engine: TensorModelEngine, runtime: Runtime
) -> None:
    runtime.gate.clear()
    running = asyncio.create_task(engine.infer(x(1)))
    await asyncio.sleep(0.05)
    gone = [asyncio.create_task(engine.infer(x(2))) for _ in range(7)]
    await asyncio.sleep(0.05)
    for task in gone:
        task.cancel()
    await asyncio.sleep(0)
    kept = asyncio.create_task(engine.infer(x(3)))
    await asyncio.sleep(0.05)
    runtime.gate.set()
    await asyncio.gather(running, kept)
    assert runtime.shapes == [(1, 2), (1, 2)]


async def test_an_axis_without_entries_is_refused(engine: TensorModelEngine) -> None:
    with pytest.raises(BadRequest, match=r"x \[0, 2\] hold no numbers"):
        await engine.infer({"x": np.zeros((0, 2), np.float32)})


async def test_close_answers_what_runs_and_frees_the_runtime(
    engine: TensorModelEngine, runtime: Runtime
) -> None:
    runtime.gate.clear()
    running = asyncio.create_task(engine.infer(x(1)))
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(engine.close())
    await asyncio.sleep(0)
    with pytest.raises(NotReady):
        await engine.infer(x(1))
    assert not runtime.closed
    runtime.gate.set()
    await closing
    assert (await running)["y"].tolist() == [[2, 2]]
    assert runtime.closed


async def test_an_engine_that_is_not_loaded_says_not_ready(tmp_path: Path) -> None:
    engine = TensorModelEngine(INFO, "onnx", tmp_path)
    with pytest.raises(NotReady):
        await engine.infer(x(1))
    await engine.close()


def test_loading_warms_up_and_tells_the_device(runtime: Runtime, tmp_path: Path) -> None:
    engine = TensorModelEngine(INFO, "onnx", tmp_path)
    engine.load()
    assert runtime.shapes == [(1, 1)]
    assert engine.info.details == {"size": 1, "device": "Abacus"}
    assert engine.inputs == Runtime.inputs


@pytest.mark.parametrize("kind", TENSORS)
async def test_every_engine_answers_many_clients_as_its_model_computes(
    kind: str, tmp_path: Path
) -> None:
    name, write = tiny.WRITERS[kind]
    write(tmp_path / name)
    engine = TensorModelEngine(INFO, kind, tmp_path, batching=True, threads=1)
    engine.load()
    sizes: list[int] = []
    engine.on_batch = lambda size, seconds: sizes.append(size)
    generator = np.random.default_rng(5)
    given = [
        generator.normal(size=(1 + index % 3, tiny.WIDTH)).astype(np.float32) for index in range(40)
    ]
    answers = await asyncio.gather(*(engine.infer({"x": one}) for one in given))
    for one, answer in zip(given, answers, strict=True):
        assert np.allclose(answer["y"], tiny.expected(one), atol=tiny.SAME)
    assert max(sizes) > 1
    await engine.close()


async def test_axes_that_do_not_fit_each_other_are_a_bad_request(tmp_path: Path) -> None:
    tiny.write_sum(tmp_path / "model.onnx")
    engine = TensorModelEngine(INFO, "onnx", tmp_path, threads=1)
    engine.load()
    two, three = np.ones((1, 2), np.float32), np.ones((1, 3), np.float32)
    with pytest.raises(BadRequest, match=r"does not compute a \[1, 2\], b \[1, 3\]") as refused:
        await engine.infer({"a": two, "b": three})
    assert "Add" not in refused.value.message
    assert (await engine.infer({"a": two, "b": two}))["c"].tolist() == [[2, 2]]
    await engine.close()
