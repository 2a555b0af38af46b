"""The chat engine on torch, with a small random model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sixways_bundle.quantize.llm import LLM_RECIPES, LlmFamily
from sixways_server.engines.base import Chunk, ModelInfo, Sampling
from sixways_server.engines.torch_text import TorchTextEngine
from sixways_server.errors import BadRequest, NotReady, TooBusy
from tests.unit.bundle.llm_tiny import CONTEXT, EOS, write_gguf

GREEDY = Sampling(max_tokens=12, temperature=0)
INFO = ModelInfo("tiny", "chat", "sha256:0", "torch-bf16", "torch", CONTEXT)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `tokenizer` and `variant` of a small model, and `exact`: the same in float32.

    In bfloat16 a random model's best tokens are often equally good, and then chance decides.
    """
    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("bundle")
    family = LlmFamily(write_gguf(folder / "tiny.gguf"))
    (folder / "tokenizer").mkdir()
    family.write_tokenizer(folder / "tokenizer")
    (recipe,) = (recipe for recipe in LLM_RECIPES if recipe.name == "torch-bf16")
    family.make(recipe, folder / "variant", folder, lambda fraction, message: None)
    model: Any = AutoModelForCausalLM.from_pretrained(str(folder / "variant"), dtype=torch.float32)
    model.save_pretrained(str(folder / "exact"))
    return folder


def make(bundle: Path, variant: str = "variant", **options: Any) -> TorchTextEngine:
    return TorchTextEngine(
        INFO, bundle / variant, bundle / "tokenizer", eos_token_ids=(EOS,), threads=1, **options
    )


@pytest.fixture
async def engine(bundle: Path) -> AsyncIterator[TorchTextEngine]:
    engine = make(bundle, "exact", queue_limit=2)
    await asyncio.to_thread(engine.load)
    yield engine
    await engine.close()


async def collect(engine: TorchTextEngine, text: str, sampling: Sampling) -> list[Chunk]:
    prompt = engine.text_prompt(text, sampling)
    return [chunk async for chunk in engine.generate(prompt, sampling)]


def joined(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


async def test_greedy_tokens_are_those_of_the_model_alone_and_together(
    engine: TorchTextEngine, bundle: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(str(bundle / "exact"), dtype=torch.float32)
    texts = [f"{number} hello" for number in range(6)]
    expected = []
    for text in texts:
        ids = list(engine.text_prompt(text, GREEDY).token_ids)
        start = len(ids)
        with torch.inference_mode():
            while len(ids) < start + 12 and (len(ids) == start or ids[-1] != EOS):
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        tokenizer = engine.loaded_tokenizer()
        expected.append(tokenizer.decode([one for one in ids[start:] if one != EOS]))
    alone = [joined(await collect(engine, text, GREEDY)) for text in texts]
    together = await asyncio.gather(*(collect(engine, text, GREEDY) for text in texts))
    assert len(set(expected)) > 1
    assert alone == expected
    assert [joined(one) for one in together] == expected


async def test_a_generation_comes_in_pieces_and_counts_its_tokens(
    engine: TorchTextEngine,
) -> None:
    sampling = Sampling(max_tokens=20, temperature=1.5)
    chunks = await collect(engine, "hello", sampling)
    assert chunks[-1].finish_reason in ("length", "stop")
    assert all(chunk.finish_reason is None for chunk in chunks[:-1])
    total = sum(chunk.tokens for chunk in chunks)
    assert total == 20 or (chunks[-1].finish_reason == "stop" and total < 20)
    assert len(chunks) > 2


async def test_sampling_is_the_requests_own(engine: TorchTextEngine) -> None:
    wild = Sampling(max_tokens=12, temperature=2.0)
    several = [joined(await collect(engine, "hello", wild)) for _ in range(5)]
    assert len(set(several)) > 1
    narrow = replace(wild, top_k=1)
    same = [joined(await collect(engine, "hello", narrow)) for _ in range(3)]
    assert same == [joined(await collect(engine, "hello", GREEDY))] * 3


async def test_a_stop_string_and_a_client_that_leaves_end_the_work(
    engine: TorchTextEngine,
) -> None:
    text = joined(await collect(engine, "hello", GREEDY))
    stop = text[len(text) // 2 :][:2]
    chunks = await collect(engine, "hello", replace(GREEDY, stop=(stop,)))
    assert joined(chunks) == text[: text.index(stop)]
    assert chunks[-1].finish_reason == "stop"
    long = Sampling(max_tokens=200, temperature=1.0)
    generation: Any = engine.generate(engine.text_prompt("hello", long), long)
    await anext(generation)
    await generation.aclose()
    assert engine._in_flight.count == 0
    assert engine._manager.output_router.result_handlers == {}
    assert joined(await collect(engine, "hello", GREEDY)) == text


@pytest.mark.parametrize(
    ("field", "value"), [("seed", 5), ("frequency_penalty", 0.5), ("presence_penalty", -1.0)]
)
async def test_what_the_engine_does_not_have_is_refused_not_ignored(
    bundle: Path, field: str, value: float
) -> None:
    engine = make(bundle)
    engine.open_texts()
    with pytest.raises(BadRequest, match=f"{field}: .*the torch engine") as refused:
        await collect(engine, "hello", replace(GREEDY, **{field: value}))
    assert refused.value.field == field


async def test_over_the_limit_is_too_busy(engine: TorchTextEngine) -> None:
    long = Sampling(max_tokens=60, temperature=1.0)
    waiting = [
        asyncio.create_task(collect(engine, "hello", long)) for _ in range(engine.most_prompts)
    ]
    await asyncio.sleep(0)
    with pytest.raises(TooBusy) as refused:
        await collect(engine, "hello", GREEDY)
    assert refused.value.retry_after
    assert len(await asyncio.gather(*waiting)) == 18


async def test_close_answers_what_runs_and_takes_no_more(bundle: Path) -> None:
    engine = make(bundle)
    assert not engine.ready
    await asyncio.to_thread(engine.load)
    assert engine.info.details["device"] == "CPU"
    running = asyncio.create_task(collect(engine, "hello", GREEDY))
    await asyncio.sleep(0)
    await engine.close()
    assert (await running)[-1].finish_reason
    assert not engine.ready
    with pytest.raises(NotReady):
        await collect(engine, "hello", GREEDY)
