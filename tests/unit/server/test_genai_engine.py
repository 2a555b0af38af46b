"""The chat engine on OpenVINO GenAI, with a small random model in a real decoding process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tokenizers import Tokenizer

from sixways_bundle.errors import BundleError
from sixways_bundle.quantize.llm import LLM_RECIPES, LlmFamily
from sixways_server.engines import openvino_genai as module
from sixways_server.engines import openvino_genai_generation as generation
from sixways_server.engines import openvino_genai_process as process_module
from sixways_server.engines.base import Chunk, ModelInfo, Prompt, Sampling
from sixways_server.engines.openvino_genai import OpenVINOTextEngine
from sixways_server.errors import BadRequest, NotReady, PromptTooLong, RequestError, TooBusy
from tests.unit.bundle.llm_tiny import CONTEXT, EOS, VOCABULARY, write_gguf

GREEDY = Sampling(max_tokens=24, temperature=0)
LONG = Sampling(max_tokens=CONTEXT - 20, temperature=0)
INFO = ModelInfo("tiny", "chat", "sha256:0", "openvino-int8", "openvino", CONTEXT)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `tokenizer` and `variant` of a small model that never ends by itself."""
    folder = tmp_path_factory.mktemp("bundle")
    family = LlmFamily(write_gguf(folder / "tiny.gguf"))
    (folder / "tokenizer").mkdir()
    family.write_tokenizer(folder / "tokenizer")
    (recipe,) = (recipe for recipe in LLM_RECIPES if recipe.name == "openvino-int8")
    family.make(recipe, folder / "variant", folder, lambda fraction, message: None)
    return folder


def make(
    bundle: Path,
    *,
    queue_limit: int = 256,
    ends: tuple[int, ...] = (EOS,),
    cache_gb: float = 0.05,
) -> OpenVINOTextEngine:
    return OpenVINOTextEngine(
        INFO,
        bundle / "variant",
        bundle / "tokenizer",
        eos_token_ids=ends,
        threads=1,
        queue_limit=queue_limit,
        cache_gb=cache_gb,
    )


@pytest.fixture(scope="module")
def engine(bundle: Path) -> Iterator[OpenVINOTextEngine]:
    """One engine for many tests, each with an event loop of its own."""
    opened = make(bundle)
    opened.load()
    yield opened
    asyncio.run(opened.close())


async def collect(engine: OpenVINOTextEngine, text: str, sampling: Sampling) -> list[Chunk]:
    prompt = engine.text_prompt(text, sampling)
    return [chunk async for chunk in engine.generate(prompt, sampling)]


def joined(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def test_a_generation_ends_with_its_length_and_counts_its_tokens(
    engine: OpenVINOTextEngine,
) -> None:
    chunks = await collect(engine, "hello", GREEDY)
    assert chunks[-1].finish_reason == "length"
    assert all(chunk.finish_reason is None for chunk in chunks[:-1])
    assert sum(chunk.tokens for chunk in chunks) == 24
    assert len(chunks) > 4  # as they come, not at the end
    assert engine.running == engine.queue_depth == 0


async def test_greedy_answers_are_the_same_alone_and_together(engine: OpenVINOTextEngine) -> None:
    prompts = [f"{number} hello" for number in range(8)]
    alone = [joined(await collect(engine, text, GREEDY)) for text in prompts]
    together = await asyncio.gather(*(collect(engine, text, GREEDY) for text in prompts))
    assert [joined(chunks) for chunks in together] == alone
    assert len(set(alone)) > 1


async def test_a_seed_repeats_a_sample_and_another_changes_it(engine: OpenVINOTextEngine) -> None:
    warm = Sampling(max_tokens=24, temperature=1.5, seed=5)
    first, again, other = [
        joined(await collect(engine, "hello", sampling))
        for sampling in (warm, warm, replace(warm, seed=-6))
    ]
    assert first == again
    assert first != other


async def test_a_token_that_ends_is_not_in_the_text(bundle: Path) -> None:
    plain = make(bundle)
    await asyncio.to_thread(plain.load)
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer" / "tokenizer.json"))
    sampling = Sampling(max_tokens=60, temperature=1.8, seed=3)
    prompt = plain.text_prompt("hello", sampling)
    text = "".join([chunk.text async for chunk in plain.generate(prompt, sampling)])
    await plain.close()
    # Taken as the end: a letter the model says by itself, not at once.
    letter = next(one for one in text[4:] if one.isascii() and one.isalpha())
    ends = (VOCABULARY.index(letter),)
    assert tokenizer.encode(letter).ids == list(ends)
    engine = make(bundle, ends=ends)
    await asyncio.to_thread(engine.load)
    chunks = [chunk async for chunk in engine.generate(prompt, sampling)]
    await engine.close()
    assert chunks[-1].finish_reason == "stop"
    assert letter not in joined(chunks)
    assert sum(chunk.tokens for chunk in chunks) < 60


async def test_a_stop_string_ends_the_text_before_it(engine: OpenVINOTextEngine) -> None:
    whole = joined(await collect(engine, "hello", GREEDY))
    stop = whole[5:9]
    chunks = await collect(engine, "hello", replace(GREEDY, stop=(stop,)))
    assert chunks[-1].finish_reason == "stop"
    assert joined(chunks) == whole[: whole.index(stop)]
    await until(lambda: engine.running == 0)


async def test_who_goes_away_frees_the_place(engine: OpenVINOTextEngine) -> None:
    stream = engine.generate(engine.text_prompt("hello", LONG), LONG)
    await anext(stream)
    assert engine.running == 1
    await stream.aclose()
    assert engine.running == 0
    # The process knows it too: the next request has the machine for itself and is answered.
    assert sum(chunk.tokens for chunk in await collect(engine, "he", GREEDY)) == 24


async def test_a_cancelled_task_frees_the_place(engine: OpenVINOTextEngine) -> None:
    task = asyncio.create_task(collect(engine, "hello", LONG))
    await until(lambda: engine.running == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.running == 0


async def test_more_requests_than_places_wait_and_more_than_that_are_refused(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_RUNNING", 1)
    engine = make(bundle, queue_limit=1)
    await asyncio.to_thread(engine.load)
    running = asyncio.create_task(collect(engine, "hello", LONG))
    await until(lambda: engine.running == 1)
    waiting = asyncio.create_task(collect(engine, "he", GREEDY))
    await until(lambda: engine.queue_depth == 1)
    with pytest.raises(TooBusy) as caught:
        await collect(engine, "he", GREEDY)
    assert caught.value.retry_after
    assert caught.value.retry_after >= 1
    assert sum(chunk.tokens for chunk in await running) == LONG.max_tokens
    assert sum(chunk.tokens for chunk in await waiting) == 24
    await engine.close()


async def test_closing_lets_what_runs_finish_and_refuses_the_rest(bundle: Path) -> None:
    engine = make(bundle)
    await asyncio.to_thread(engine.load)
    pid = engine.worker_pid
    running = asyncio.create_task(collect(engine, "hello", LONG))
    await until(lambda: engine.running == 1)
    closing = asyncio.create_task(engine.close())
    await asyncio.sleep(0)
    with pytest.raises(NotReady):
        await collect(engine, "he", GREEDY)
    await closing
    assert (await running)[-1].finish_reason == "length"
    assert pid is not None
    assert not psutil.pid_exists(pid)


async def test_requests_fail_with_their_process_and_the_next_are_answered(bundle: Path) -> None:
    engine = make(bundle)
    await asyncio.to_thread(engine.load)
    task = asyncio.create_task(collect(engine, "hello", LONG))
    await until(lambda: engine.running == 1)
    first = engine.worker_pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    with pytest.raises(RequestError) as caught:
        await task
    assert caught.value.status == 500
    assert caught.value.code == "engine_error"
    assert "exit code" not in caught.value.message  # that is for the log
    assert sum(chunk.tokens for chunk in await collect(engine, "he", GREEDY)) == 24
    assert engine.ready
    assert engine.worker_pid != first
    await engine.close()


async def test_an_order_that_cannot_be_written_leaves_nothing_behind(
    engine: OpenVINOTextEngine,
) -> None:
    with pytest.raises(OverflowError):
        [chunk async for chunk in engine.generate(Prompt([2**70]), GREEDY)]
    assert engine.running == engine.queue_depth == 0
    assert sum(chunk.tokens for chunk in await collect(engine, "he", GREEDY)) == 24


async def test_an_error_in_the_reader_ends_the_process_and_a_new_one_serves(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make(bundle)
    await asyncio.to_thread(engine.load)
    first = engine.worker_pid
    deliver = generation.deliver

    def breaks_once(arrived: Any) -> None:
        monkeypatch.setattr(module, "deliver", deliver)
        raise OverflowError

    monkeypatch.setattr(module, "deliver", breaks_once)
    with pytest.raises(RequestError) as caught:
        await asyncio.wait_for(collect(engine, "hello", GREEDY), 20)
    assert caught.value.status == 500
    assert sum(chunk.tokens for chunk in await collect(engine, "he", GREEDY)) == 24
    assert engine.worker_pid != first
    await engine.close()


async def test_closing_does_not_wait_for_ever(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FINISH_SECONDS", 0.1)
    monkeypatch.setattr(process_module, "_END_SECONDS", 0.1)
    engine = make(bundle)
    await asyncio.to_thread(engine.load)
    assert engine.worker_pid is not None
    os.kill(engine.worker_pid, signal.SIGSTOP)
    task = asyncio.create_task(collect(engine, "hello", GREEDY))
    await until(lambda: engine.running == 1)
    await asyncio.wait_for(engine.close(), 10)
    with pytest.raises(NotReady):
        await task


async def test_a_process_that_dies_again_and_again_is_given_up(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RESTARTS", 1)
    engine = make(bundle)
    await asyncio.to_thread(engine.load)
    for _ in range(2):
        await until(lambda: engine.worker_pid is not None)
        assert engine.worker_pid is not None
        os.kill(engine.worker_pid, signal.SIGKILL)
        await until(lambda: engine.worker_pid is None)
    await until(lambda: not engine.ready)
    with pytest.raises(NotReady, match="started again"):
        await collect(engine, "he", GREEDY)
    closing = time.monotonic()
    await engine.close()
    assert time.monotonic() - closing < 5  # not the whole pause


async def test_a_broken_engine_tries_again_after_a_pause(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.2)
    engine = make(bundle)
    await asyncio.to_thread(engine.load)
    start = engine._start

    def fails_once() -> Any:
        monkeypatch.setattr(engine, "_start", start)
        raise OSError("no memory")

    monkeypatch.setattr(engine, "_start", fails_once)
    assert engine.worker_pid is not None
    os.kill(engine.worker_pid, signal.SIGKILL)
    await until(lambda: not engine.ready)
    await until(lambda: engine.ready)
    assert sum(chunk.tokens for chunk in await collect(engine, "he", GREEDY)) == 24
    await engine.close()


async def test_a_request_that_memory_cannot_hold_is_refused_and_others_are_answered(
    bundle: Path,
) -> None:
    engine = make(bundle, cache_gb=3e-5)  # five blocks of 32 tokens
    await asyncio.to_thread(engine.load)
    prompt = engine.text_prompt([5] * 200, GREEDY)
    with pytest.raises(PromptTooLong, match="memory"):
        [chunk async for chunk in engine.generate(prompt, GREEDY)]
    assert sum(chunk.tokens for chunk in await collect(engine, "he", GREEDY)) == 24
    await engine.close()


def test_a_server_that_is_killed_takes_its_process_with_it(bundle: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from tests.unit.server.test_genai_engine import make\n"
        "engine = make(Path(sys.argv[1])); engine.load()\n"
        "print(engine.worker_pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(bundle)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as server:
        assert server.stdout is not None
        worker = psutil.Process(int(server.stdout.readline()))
        server.kill()
    worker.wait(10)
    assert not worker.is_running()


async def test_a_chat_is_written_by_the_models_own_template(engine: OpenVINOTextEngine) -> None:
    prompt = engine.chat_prompt([{"role": "user", "content": "he"}], GREEDY)
    tokenizer = engine._tokenizer
    assert tokenizer is not None
    assert tokenizer.decode(list(prompt.token_ids), skip_special_tokens=False) == (
        "<|im_start|>user\nhe<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("messages", [[], [{"role": "tool", "content": "x"}]])
async def test_messages_that_the_template_refuses_are_a_bad_request(
    engine: OpenVINOTextEngine, messages: list[dict[str, str]]
) -> None:
    with pytest.raises(BadRequest) as caught:
        engine.chat_prompt(messages, GREEDY)
    assert caught.value.field == "messages"


async def test_a_prompt_over_the_context_is_refused_with_both_figures(
    engine: OpenVINOTextEngine,
) -> None:
    with pytest.raises(PromptTooLong) as caught:
        engine.text_prompt([5] * 250, replace(GREEDY, max_tokens=10))
    assert caught.value.field == "prompt"
    assert "250 tokens" in caught.value.message
    assert "256 in all" in caught.value.message
    assert "lower max_tokens to 6" in caught.value.message
    with pytest.raises(PromptTooLong):
        engine.text_prompt([5] * CONTEXT, replace(GREEDY, max_tokens=None))


async def test_a_text_that_is_surely_too_long_is_not_tokenized(
    engine: OpenVINOTextEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Untouched:
        def encode(self, *_: Any, **__: Any) -> Any:
            pytest.fail("tokenized")

    monkeypatch.setattr(engine, "_tokenizer", Untouched())
    text = "a" * (CONTEXT * 64 + 1)
    with pytest.raises(PromptTooLong, match="characters") as caught:
        engine.text_prompt(text, GREEDY)
    assert caught.value.field == "prompt"
    with pytest.raises(PromptTooLong, match="characters"):
        engine.chat_prompt([{"role": "user", "content": text}], GREEDY)


async def test_without_a_limit_a_text_may_fill_the_context(engine: OpenVINOTextEngine) -> None:
    sampling = Sampling(temperature=0)
    prompt = engine.text_prompt([5] * 246, sampling)
    chunks = [chunk async for chunk in engine.generate(prompt, sampling)]
    assert sum(chunk.tokens for chunk in chunks) == 10
    assert chunks[-1].finish_reason == "length"


@pytest.mark.parametrize("prompt", ["", [], [5, len(VOCABULARY)], [-1]])
async def test_a_prompt_of_no_or_unknown_tokens_is_refused(
    engine: OpenVINOTextEngine, prompt: str | list[int]
) -> None:
    with pytest.raises(BadRequest) as caught:
        engine.text_prompt(prompt, GREEDY)
    assert caught.value.field == "prompt"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.5),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", 0),
        ("top_k", 2**64),
        ("max_tokens", 0),
        ("max_tokens", 2**31),
        ("frequency_penalty", 2.1),
        ("presence_penalty", -2.1),
        ("stop", ("",)),
        ("stop", ("x",) * 17),
    ],
)
async def test_sampling_out_of_range_names_the_field(
    engine: OpenVINOTextEngine, field: str, value: object
) -> None:
    with pytest.raises(BadRequest) as caught:
        engine.text_prompt("he", replace(GREEDY, **{field: value}))  # type: ignore[arg-type]
    assert caught.value.field == field
    assert "accepted" in caught.value.message


async def test_the_edges_of_sampling_are_accepted_by_the_pipeline(
    engine: OpenVINOTextEngine,
) -> None:
    edges = Sampling(
        max_tokens=4, temperature=2.0, top_p=0.01, top_k=1, seed=-1,
        frequency_penalty=-2.0, presence_penalty=2.0, stop=("\x00",) * 16,
    )  # fmt: skip
    assert sum(chunk.tokens for chunk in await collect(engine, "he", edges)) == 4


@pytest.mark.parametrize("field", ["temperature", "top_p"])
async def test_values_next_to_zero_are_taken_as_the_most_likely_token(
    engine: OpenVINOTextEngine, field: str
) -> None:
    warm = replace(GREEDY, temperature=1.0)
    least = replace(warm, **{field: 1e-300})  # type: ignore[arg-type]
    assert joined(await collect(engine, "hello", least)) == joined(
        await collect(engine, "hello", GREEDY)
    )


async def test_what_the_library_refuses_is_a_bad_request_in_our_words(
    engine: OpenVINOTextEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sixways_server.engines.text._LEAST", 1e-300)
    tiny = replace(GREEDY, temperature=1.0, top_p=1e-300)
    with pytest.raises(BadRequest) as caught:
        await collect(engine, "hello", tiny)
    assert caught.value.status == 400
    assert "the engine does not take this request" in caught.value.message


async def test_an_engine_that_was_not_loaded_is_not_ready(bundle: Path) -> None:
    engine = make(bundle)
    with pytest.raises(NotReady):
        engine.text_prompt("he", GREEDY)
    await engine.close()


def test_a_variant_that_cannot_be_opened_is_refused(bundle: Path, tmp_path: Path) -> None:
    engine = OpenVINOTextEngine(
        INFO, tmp_path, bundle / "tokenizer", eos_token_ids=(EOS,), threads=1
    )
    with pytest.raises(BundleError, match=r"openvino_model\.xml"):
        engine.load()


def test_a_folder_without_a_tokenizer_is_refused(bundle: Path, tmp_path: Path) -> None:
    engine = OpenVINOTextEngine(INFO, bundle / "variant", tmp_path, eos_token_ids=(EOS,), threads=1)
    with pytest.raises(BundleError, match="tokenizer"):
        engine.load()
