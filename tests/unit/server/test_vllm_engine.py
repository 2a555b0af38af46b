"""The engine on vLLM against a stand-in of vLLM: see `fake_vllm` for what that cannot show."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import sys
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from sixways_bundle.errors import BundleError, MissingExtra
from sixways_bundle.quantize.llm import LlmFamily
from sixways_server.config import ModelConfig, ServerConfig
from sixways_server.engines.base import Chunk, ModelInfo, Sampling
from sixways_server.engines.vllm import VLLMTextEngine
from sixways_server.errors import BadRequest, NotReady, PromptTooLong, RequestError, TooBusy
from tests.unit.bundle.llm_tiny import CONTEXT, EOS, write_gguf
from tests.unit.server import fake_vllm

INFO = ModelInfo("tiny", "chat", "sha256:0", "vllm-bf16", "vllm", CONTEXT)
LONG = "hello hello hello"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    LlmFamily(write_gguf(folder / "tiny.gguf")).write_tokenizer(folder)
    return folder


def make(tokenizer: Path, *, queue_limit: int = 256) -> VLLMTextEngine:
    return VLLMTextEngine(
        INFO, Path("/variant"), tokenizer, eos_token_ids=(EOS, 0), queue_limit=queue_limit
    )


@pytest.fixture
async def engine(tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[VLLMTextEngine]:
    monkeypatch.setenv("VLLM_NO_USAGE_STATS", "")
    monkeypatch.delenv("VLLM_NO_USAGE_STATS")
    fake_vllm.install(monkeypatch)
    engine = make(tokenizer)
    engine.load()
    yield engine
    if engine._engine is not None:
        engine._engine.gate.set()
    await engine.close()


def vllm(engine: VLLMTextEngine) -> fake_vllm.AsyncLLM:
    opened: fake_vllm.AsyncLLM = engine._engine
    return opened


async def collect(engine: VLLMTextEngine, text: str, sampling: Sampling) -> list[Chunk]:
    prompt = engine.text_prompt(text, sampling)
    return [chunk async for chunk in engine.generate(prompt, sampling)]


def joined(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


async def test_a_generation_comes_in_pieces_and_counts_its_tokens(engine: VLLMTextEngine) -> None:
    chunks = await collect(engine, LONG, Sampling())
    assert joined(chunks) == LONG
    assert chunks[-1].finish_reason == "length"
    assert len(chunks) > 4
    asked = vllm(engine).asked[0][0]["prompt_token_ids"]
    assert sum(chunk.tokens for chunk in chunks) == len(asked)


async def test_vllm_is_told_what_the_request_asked_for(engine: VLLMTextEngine) -> None:
    wanted = Sampling(max_tokens=3, temperature=0.5, top_p=0.9, top_k=7, seed=-1,
                      frequency_penalty=0.1, presence_penalty=-0.2, stop=("x",))  # fmt: skip
    await collect(engine, LONG, wanted)
    await collect(engine, LONG, Sampling(temperature=1e-9, top_p=1e-9))
    (_, told, one), (_, greedy, other) = vllm(engine).asked
    assert dataclasses.asdict(told) == {
        "max_tokens": 3, "temperature": 0.5, "top_p": 0.9, "top_k": 7, "seed": 2**32 - 1,
        "frequency_penalty": 0.1, "presence_penalty": -0.2, "stop_token_ids": [EOS, 0],
        "detokenize": False, "output_kind": fake_vllm.RequestOutputKind.DELTA,
    }  # fmt: skip
    assert (greedy.temperature, greedy.top_p, greedy.top_k, greedy.seed) == (0.0, 1e-5, 0, None)
    assert greedy.max_tokens == CONTEXT - len(vllm(engine).asked[1][0]["prompt_token_ids"])
    assert one != other


async def test_the_model_is_opened_without_its_own_defaults_or_foreign_code(
    engine: VLLMTextEngine,
) -> None:
    arguments = vllm(engine).arguments
    assert (arguments.model, arguments.dtype) == ("/variant", "bfloat16")
    assert (arguments.generation_config, arguments.trust_remote_code) == ("vllm", False)
    assert arguments.skip_tokenizer_init
    assert arguments.max_model_len == CONTEXT
    import os

    assert os.environ["VLLM_NO_USAGE_STATS"] == "1"
    assert engine.info.details["device"] == "CUDA"


async def test_a_token_that_ends_is_not_in_the_text(engine: VLLMTextEngine) -> None:
    chunks = await collect(engine, "hell<|im_end|>hell", Sampling())
    assert (joined(chunks), chunks[-1].finish_reason) == ("hell", "stop")


async def test_a_stop_string_ends_the_text_and_vllms_work(engine: VLLMTextEngine) -> None:
    chunks = await collect(engine, LONG, Sampling(stop=("o h",)))
    assert (joined(chunks), chunks[-1].finish_reason) == ("hell", "stop")
    assert vllm(engine).aborted == [vllm(engine).asked[0][2]]


async def test_a_client_that_leaves_stops_vllms_work(engine: VLLMTextEngine) -> None:
    generation: Any = engine.generate(engine.text_prompt(LONG, Sampling()), Sampling())
    await anext(generation)
    await generation.aclose()
    assert vllm(engine).aborted == [vllm(engine).asked[0][2]]
    vllm(engine).gate.clear()
    waiting = asyncio.create_task(collect(engine, LONG, Sampling()))
    await asyncio.sleep(0.02)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(vllm(engine).aborted) == 2
    assert engine._in_flight.count == 0


async def test_chat_and_limits_are_those_of_every_text_engine(engine: VLLMTextEngine) -> None:
    prompt = engine.chat_prompt([{"role": "user", "content": "hell"}], Sampling())
    assert prompt.token_ids[0] == 1
    with pytest.raises(PromptTooLong):
        engine.text_prompt("hell", Sampling(max_tokens=CONTEXT))
    with pytest.raises(BadRequest):
        await collect(engine, LONG, Sampling(temperature=3.0))


async def test_over_the_limit_is_too_busy_before_vllm_hears_of_it(
    tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_vllm.install(monkeypatch)
    engine = make(tokenizer, queue_limit=2)
    engine.load()
    vllm(engine).gate.clear()
    waiting = [
        asyncio.create_task(collect(engine, "hell", Sampling())) for _ in range(engine.most_prompts)
    ]
    await asyncio.sleep(0.1)
    assert engine.queue_depth == 2
    with pytest.raises(TooBusy) as refused:
        await collect(engine, "hell", Sampling())
    assert refused.value.retry_after
    assert len(vllm(engine).asked) == engine.most_prompts
    vllm(engine).gate.set()
    await asyncio.gather(*waiting)
    await collect(engine, "hell", Sampling())
    await engine.close()


@pytest.mark.parametrize(
    ("failure", "kind", "status"),
    [
        (fake_vllm.VLLMClientError("secret"), BadRequest, 400),
        (fake_vllm.EngineGenerateError("secret"), RequestError, 500),
        (fake_vllm.EngineDeadError("secret"), RequestError, 500),
    ],
)
async def test_what_vllm_raises_becomes_an_answer_without_its_words(
    engine: VLLMTextEngine, failure: Exception, kind: type[RequestError], status: int
) -> None:
    vllm(engine).fails = failure
    with pytest.raises(kind) as caught:
        await collect(engine, LONG, Sampling())
    assert caught.value.status == status
    assert "secret" not in caught.value.message


async def test_an_engine_that_died_is_not_ready(engine: VLLMTextEngine) -> None:
    assert engine.ready
    vllm(engine).errored = True
    assert not engine.ready
    with pytest.raises(NotReady):
        await collect(engine, LONG, Sampling())


async def test_close_waits_for_what_runs_and_ends_vllm(engine: VLLMTextEngine) -> None:
    inner = vllm(engine)
    inner.gate.clear()
    running = asyncio.create_task(collect(engine, "hell", Sampling()))
    await asyncio.sleep(0.02)
    closing = asyncio.create_task(engine.close())
    await asyncio.sleep(0.02)
    assert not inner.ended
    with pytest.raises(NotReady):
        await collect(engine, LONG, Sampling())
    inner.gate.set()
    await closing
    assert joined(await running) == "hell"
    assert inner.ended


def test_a_model_that_cannot_be_opened_says_why(
    tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_vllm.install(monkeypatch)
    engine = VLLMTextEngine(INFO, Path("/broken"), tokenizer, eos_token_ids=(EOS,))
    with pytest.raises(BundleError, match="vLLM cannot open tiny: RuntimeError: CUDA out of mem"):
        engine.load()


def test_without_vllm_the_extra_is_named(tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtra, match=r"pip install 'sixways\[vllm\]'"):
        make(tokenizer).load()


def test_a_bundle_with_a_gpu_variant_is_served_by_vllm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sixways_bundle.build import Request, build
    from sixways_server import choice
    from sixways_server.load import open_model

    gguf = write_gguf(tmp_path / "tiny.gguf")
    names = ("openvino-int8", "vllm-bf16")
    request = Request(name="tiny", source=f"file:{gguf}", variants=names)
    result = build(request, cache_dir=tmp_path / "cache")
    fake_vllm.install(monkeypatch)
    monkeypatch.setattr(choice, "find_spec", lambda name: object())
    monkeypatch.setattr(choice, "cuda_gpus", lambda: ("Some GPU",))
    model = ModelConfig(name="tiny", path=str(result.path))
    engine = open_model(model, ServerConfig(models=(), keys_file=tmp_path))
    assert isinstance(engine, VLLMTextEngine)
    folder = Path(vllm(engine).arguments.model)
    assert {"config.json", "model.safetensors"} <= {path.name for path in folder.iterdir()}


@pytest.mark.skipif(find_spec("vllm") is None, reason="needs vllm: pip install 'sixways[vllm]'")
def test_the_stand_in_has_the_names_of_the_real_one() -> None:
    from vllm import AsyncEngineArgs  # type: ignore[import-not-found, unused-ignore]
    from vllm.sampling_params import SamplingParams  # type: ignore[import-not-found, unused-ignore]
    from vllm.v1.engine.async_llm import AsyncLLM  # type: ignore[import-not-found, unused-ignore]

    for fake, real in (
        (fake_vllm.AsyncEngineArgs, AsyncEngineArgs),
        (fake_vllm.SamplingParams, SamplingParams),
    ):
        assert (
            inspect.signature(fake).parameters.keys() <= inspect.signature(real).parameters.keys()
        )
    for name in ("generate", "shutdown", "from_engine_args"):
        ours = inspect.signature(getattr(fake_vllm.AsyncLLM, name)).parameters
        assert ours.keys() <= inspect.signature(getattr(AsyncLLM, name)).parameters.keys()
