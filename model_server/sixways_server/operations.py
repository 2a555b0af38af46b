"""What every protocol asks of an engine, with the record kept; protocols add only their words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

from sixways_server.deadline import InTime
from sixways_server.engines.base import (
    Chunk,
    EmbeddingEngine,
    Embeddings,
    FinishReason,
    Prompt,
    Sampling,
    TextEngine,
)
from sixways_server.errors import BadRequest
from sixways_server.record import Record


@dataclass(frozen=True)
class Completion:
    """A whole generation: its text, its tokens, why it ended."""

    text: str
    tokens: int
    finish_reason: FinishReason


async def embed(
    record: Record, engine: EmbeddingEngine, inputs: Sequence[str | Sequence[int]], max_inputs: int
) -> Embeddings:
    """One vector an input.

    Raises:
        BadRequest: no input, or more than `max_inputs`.
        PromptTooLong, TooBusy: as the engine.
    """
    record.begin(engine.info.name)
    if not 1 <= len(inputs) <= max_inputs:
        raise BadRequest(
            f"input: {len(inputs)} inputs; accepted are 1 to {max_inputs} a request", field="input"
        )
    result = await engine.embed(inputs)
    record.tokens_in = result.tokens
    return result


async def chat_prompt(
    engine: TextEngine, messages: Sequence[Mapping[str, str]], sampling: Sampling
) -> Prompt:
    """The chat's prompt; made off the event loop, as a long one takes a while."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(engine.tokenizing, engine.chat_prompt, messages, sampling)


async def text_prompts(
    engine: TextEngine,
    prompts: Sequence[str | Sequence[int]],
    sampling: Sampling,
    max_inputs: int,
) -> list[Prompt]:
    """Plain prompts; made off the event loop.

    Raises:
        BadRequest: none, or more than `max_inputs` or than the engine ever holds.
        PromptTooLong: as the engine.
    """
    most = min(max_inputs, engine.most_prompts)
    if not 1 <= len(prompts) <= most:
        raise BadRequest(
            f"prompt: {len(prompts)} prompts; accepted are at least 1 and at most {most} a "
            "request; send several requests",
            field="prompt",
        )
    loop = asyncio.get_running_loop()
    return [
        await loop.run_in_executor(engine.tokenizing, engine.text_prompt, one, sampling)
        for one in prompts
    ]


async def generate(
    record: Record, engine: TextEngine, prompt: Prompt, sampling: Sampling
) -> AsyncGenerator[Chunk, None]:
    """The generation chunk by chunk. Closing it stops the engine's work on it."""
    chunks = cast("AsyncGenerator[Chunk, None]", engine.generate(prompt, sampling))
    async with aclosing(chunks):
        accepted = False
        async for chunk in InTime(chunks, record):
            if not accepted:
                accepted = True
                record.tokens_in += len(prompt.token_ids)
            if chunk.tokens:
                record.tokens(chunk.tokens)
            yield chunk


async def complete(
    record: Record, engine: TextEngine, prompt: Prompt, sampling: Sampling
) -> Completion:
    """The whole generation at once."""
    pieces: list[str] = []
    tokens = 0
    finish: FinishReason = "stop"
    async with aclosing(generate(record, engine, prompt, sampling)) as chunks:
        async for chunk in chunks:
            pieces.append(chunk.text)
            tokens += chunk.tokens
            finish = chunk.finish_reason or finish
    return Completion("".join(pieces), tokens, finish)


async def complete_all(
    record: Record, engine: TextEngine, prompts: Sequence[Prompt], sampling: Sampling
) -> list[Completion]:
    """All generations, side by side. The first that fails ends the others and is raised."""
    tasks = [asyncio.ensure_future(complete(record, engine, p, sampling)) for p in prompts]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
