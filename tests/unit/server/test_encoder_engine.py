"""The engine of encoders: texts and token ids, their limits, and who is told what."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sixways_bundle.errors import BundleError
from sixways_bundle.runtime import EncoderRuntime
from sixways_server.engines import encoder as module
from sixways_server.engines.base import ModelInfo
from sixways_server.engines.encoder import EncoderEngine
from sixways_server.errors import BadRequest, NotReady, PromptTooLong, TooBusy
from tests.unit.bundle.encoder_tiny import write_tokenizer

MAX_TOKENS = 20
INFO = ModelInfo("tiny", "embeddings", "sha256:0", "onnx-int8", "onnx", MAX_TOKENS, 2)


class Runtime(EncoderRuntime):
    """Answers (number of tokens, last token id); waits for `gate`."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False
        self.shapes: list[tuple[int, ...]] = []

    def embed(self, input_ids: Any, attention_mask: Any) -> Any:
        assert self.gate.wait(10)
        assert not self.closed
        assert input_ids.dtype == attention_mask.dtype == np.int64
        assert not (input_ids * (1 - attention_mask)).any()
        self.shapes.append(input_ids.shape)
        counts = attention_mask.sum(axis=1)
        last = input_ids[np.arange(len(counts)), counts - 1]
        return np.stack([counts, last], axis=1).astype(np.float32)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    runtime = Runtime()
    monkeypatch.setattr(module, "open_encoder", lambda *_, **__: runtime)
    return runtime


@pytest.fixture
async def engine(runtime: Runtime, tmp_path: Path) -> AsyncIterator[EncoderEngine]:
    write_tokenizer(tmp_path)
    engine = EncoderEngine(INFO, "onnx", tmp_path, tmp_path / "tokenizer.json", queue_limit=50)
    engine.load()
    yield engine
    runtime.gate.set()
    await engine.close()


async def test_a_text_is_tokenized_without_the_padding_its_tokenizer_was_saved_with(
    engine: EncoderEngine,
) -> None:
    answer = await engine.embed(["a b c"])
    assert answer.vectors.tolist() == [[5, 3]]
    assert answer.vectors.dtype == np.float32
    assert answer.tokens == 5


async def test_texts_and_token_ids_mix_and_keep_their_order(engine: EncoderEngine) -> None:
    answer = await engine.embed(["a", [2, 9, 9, 9, 3], "a b", [2, 7]])
    assert answer.vectors.tolist() == [[3, 3], [5, 3], [4, 3], [2, 7]]
    assert answer.tokens == 14


async def test_an_input_that_just_fits_is_answered(engine: EncoderEngine) -> None:
    assert (await engine.embed(["a " * 18])).tokens == MAX_TOKENS


@pytest.mark.parametrize("long", ["a " * 19, [5] * 21])
async def test_an_input_over_the_limit_names_itself_and_both_figures(
    engine: EncoderEngine, long: str | Sequence[int]
) -> None:
    with pytest.raises(PromptTooLong, match=r"input\[1\] has 21 tokens; tiny takes at most 20;"
                       " shorten") as refused:  # fmt: skip
        await engine.embed(["a", long])
    assert refused.value.field == "input[1]"
    assert refused.value.code == "context_length_exceeded"
    assert engine.queue_depth == 0


async def test_a_text_that_is_surely_too_long_is_not_tokenized(
    engine: EncoderEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Untouched:
        def encode_batch(self, texts: Any) -> Any:
            pytest.fail("tokenized")

    monkeypatch.setattr(engine, "_tokenizer", Untouched())
    with pytest.raises(PromptTooLong, match=r"has 1281 characters.*more than 1280") as refused:
        await engine.embed(["a", "a" * 1281])
    assert refused.value.field == "input[1]"


@pytest.mark.parametrize(
    ("inputs", "field", "message"),
    [
        ([], "input", "input is empty"),
        (["a", ""], "input[1]", r"input\[1\] is empty"),
        ([[]], "input[0]", r"input\[0\] is empty"),
        ([[2, -1]], "input[0][1]", "token id -1 does not exist; accepted: whole numbers from 0 to"),
        ([[2, 10**9]], "input[0][1]", "token id 1000000000 does not exist"),
        ([[True]], "input[0][0]", "True is no token id"),
        ([[2, "x"]], "input[0][1]", "'x' is no token id"),
        (["half \ud83d"], "input[0]", "half of a surrogate pair"),
        (["a"] * 51, "input", "has 51 entries; accepted: at most 50"),
    ],
)
async def test_a_wrong_input_is_refused_with_its_field(
    engine: EncoderEngine, inputs: Any, field: str, message: str
) -> None:
    with pytest.raises(BadRequest, match=message) as refused:
        await engine.embed(inputs)
    assert refused.value.field == field
    assert (await engine.embed(["a"])).tokens == 3


async def test_a_full_queue_is_refused_before_anything_is_tokenized(
    engine: EncoderEngine, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.gate.clear()
    waiting = asyncio.create_task(engine.embed(["a"] * 50))
    await asyncio.sleep(0.05)
    assert engine.queue_depth == 18  # 32 of them are in the batch that runs
    monkeypatch.setattr(engine, "_token_ids", lambda _: pytest.fail("tokenized"))
    with pytest.raises(TooBusy) as refused:
        await engine.embed(["a"])
    assert refused.value.retry_after
    runtime.gate.set()
    assert len((await waiting).vectors) == 50


async def test_a_request_of_many_lengths_pads_little(
    engine: EncoderEngine, runtime: Runtime
) -> None:
    await engine.embed(["a " * (1 + index % 18) for index in range(50)])
    padded = sum(rows * length for rows, length in runtime.shapes[1:])
    real = sum(3 + index % 18 for index in range(50))
    assert padded <= 1.25 * real + 32 * len(runtime.shapes)


async def test_batches_are_told(engine: EncoderEngine) -> None:
    told: list[int] = []
    engine.on_batch = lambda size, seconds: told.append(size)
    await engine.embed(["a"] * 40)
    await asyncio.sleep(0)
    assert told == [32, 8]


async def test_an_engine_that_is_not_loaded_says_not_ready(tmp_path: Path) -> None:
    engine = EncoderEngine(INFO, "onnx", tmp_path, tmp_path / "tokenizer.json")
    with pytest.raises(NotReady, match="not loaded"):
        await engine.embed(["a"])
    await engine.close()


async def test_close_answers_what_runs_and_frees_the_runtime(
    engine: EncoderEngine, runtime: Runtime
) -> None:
    runtime.gate.clear()
    running = asyncio.create_task(engine.embed(["a b"]))
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(engine.close())
    await asyncio.sleep(0)
    assert not runtime.closed
    runtime.gate.set()
    await closing
    assert (await running).tokens == 4
    assert runtime.closed
    with pytest.raises(NotReady):
        await engine.embed(["a"])


def test_a_broken_tokenizer_is_named(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    engine = EncoderEngine(INFO, "onnx", tmp_path, tmp_path / "tokenizer.json")
    with pytest.raises(BundleError, match=r"tokenizer\.json cannot be opened"):
        engine.load()


def test_load_computes_a_sentence_before_the_first_request(
    engine: EncoderEngine, runtime: Runtime
) -> None:
    assert len(runtime.shapes) == 1
