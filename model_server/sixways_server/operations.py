"""What every protocol asks of an engine, with the record kept; protocols add only their words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sixways_server.deadline import InTime
from sixways_server.engines.base import (
    Chunk,
    EmbeddingEngine,
    Embeddings,
    FinishReason,
    Prompt,
    Sampling,
    TensorEngine,
    TextEngine,
)
from sixways_server.errors import BadRequest
from sixways_server.record import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sixways_bundle.runtime.base import TensorSpec


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


async def infer(
    record: Record, engine: TensorEngine, tensors: Mapping[str, NDArray[Any]]
) -> Mapping[str, NDArray[Any]]:
    """Every output of a model over tensors, once its inputs are looked at.

    Raises:
        BadRequest: an input is missing or unknown, of another type, of a shape that does not
            fit or is empty, or holds a number that is not finite; `field` names it.
        TooBusy: as the engine.
    """
    record.operation = "infer"
    record.begin(engine.info.name)
    specs = {spec.name: spec for spec in engine.inputs}
    if tensors.keys() != specs.keys():
        raise BadRequest(
            f"inputs: {', '.join(sorted(tensors)) or 'nothing'} given; {engine.info.name} takes "
            + ", ".join(map(_described, engine.inputs)),
            field="inputs",
        )
    for name, array in tensors.items():
        _check_tensor(specs[name], array)
    return await engine.infer(tensors)


def _check_tensor(spec: TensorSpec, array: NDArray[Any]) -> None:
    dtype = "str" if array.dtype.kind == "O" else array.dtype.name
    fits = len(array.shape) == len(spec.shape) and all(
        given > 0 and wanted in (-1, given)
        for wanted, given in zip(spec.shape, array.shape, strict=True)
    )
    if dtype != spec.dtype or not fits:
        raise BadRequest(
            f"{spec.name}: {dtype} of shape {list(array.shape)} is not accepted; accepted: "
            f"{_described(spec)}",
            field=spec.name,
        )
    if array.dtype.kind == "f":
        import numpy as np

        if not np.isfinite(array).all():
            raise BadRequest(
                f"{spec.name}: holds a number that is not finite (NaN or infinity); accepted: "
                "finite numbers",
                field=spec.name,
            )


def _described(spec: TensorSpec) -> str:
    shape = ", ".join("any" if axis < 0 else str(axis) for axis in spec.shape)
    return f"{spec.name} ({spec.dtype} [{shape}])"


async def chat_prompt(
    engine: TextEngine, messages: Sequence[Mapping[str, str]], sampling: Sampling
) -> Prompt:
    """The chat's prompt; made off the event loop, as a long one takes a while."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(engine.tokenizing, engine.chat_prompt, messages, sampling)


async def chat_prompts(
    engine: TextEngine,
    chats: Sequence[Sequence[Mapping[str, str]]],
    sampling: Sampling,
    max_inputs: int,
) -> list[Prompt]:
    """Prompts of several chats; raises as `text_prompts`."""
    _check_prompts(engine, len(chats), max_inputs)
    return [await chat_prompt(engine, one, sampling) for one in chats]


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
    _check_prompts(engine, len(prompts), max_inputs)
    loop = asyncio.get_running_loop()
    return [
        await loop.run_in_executor(engine.tokenizing, engine.text_prompt, one, sampling)
        for one in prompts
    ]


def _check_prompts(engine: TextEngine, count: int, max_inputs: int) -> None:
    most = min(max_inputs, engine.most_prompts)
    if not 1 <= count <= most:
        raise BadRequest(
            f"prompt: {count} prompts; accepted are at least 1 and at most {most} a request; "
            "send several requests",
            field="prompt",
        )


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
