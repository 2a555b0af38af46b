"""A stand-in that computes nothing, for tests of everything around an engine.

Served only where a configuration asks for it by name: `dummy:embeddings`, `dummy:chat` or
`dummy:tensor`, with options behind a question mark: `delay` (seconds a word or a batch takes),
`load` (seconds it takes to load), `max_tokens`.
An embedding comes from the SHA-256 of its text; a chat repeats the last message word by word; a
prediction is the sum of its row's features.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from sixways_bundle.errors import BundleError, Problem
from sixways_bundle.runtime.base import TensorSpec
from sixways_server.engines.base import (
    Chunk,
    EmbeddingEngine,
    Embeddings,
    ModelInfo,
    Prompt,
    Sampling,
    TensorEngine,
    TextEngine,
)
from sixways_server.errors import PromptTooLong, TooBusy

DIMENSIONS = 8
FEATURES = 4


@dataclass(frozen=True)
class _Options:
    delay: float = 0.0
    load: float = 0.0
    max_tokens: int = 512


def open_dummy(
    name: str, path: str, *, queue_limit: int
) -> DummyEmbeddings | DummyChat | DummyTensor:
    """The stand-in that `path` names (`dummy:chat?delay=0.01`).

    Raises:
        BundleError: there is none of that name, or an option is wrong.
    """
    kind, _, query = path.removeprefix("dummy:").partition("?")
    try:
        values = dict(parse_qsl(query, strict_parsing=bool(query)))
        options = _Options(
            delay=float(values.pop("delay", "0")),
            load=float(values.pop("load", "0")),
            max_tokens=int(values.pop("max_tokens", "512")),
        )
        if values:
            raise ValueError
        if kind == "embeddings":
            return DummyEmbeddings(name, options, queue_limit)
        if kind == "chat":
            return DummyChat(name, options, queue_limit)
        if kind == "tensor":
            return DummyTensor(name, options, queue_limit)
    except ValueError:
        pass
    accepted = (
        "dummy:embeddings, dummy:chat or dummy:tensor, then ?delay=SECONDS&load=SECONDS&"
        "max_tokens=N if wanted"
    )
    raise BundleError("no such stand-in", [Problem("path", path, accepted)])


def _info(name: str, task: str, options: _Options, dimensions: int = 0) -> ModelInfo:
    return ModelInfo(
        name=name,
        task=task,
        digest="sha256:" + hashlib.sha256(f"dummy {task}".encode()).hexdigest(),
        variant="dummy",
        engine="dummy",
        max_tokens=options.max_tokens,
        dimensions=dimensions,
        details={"note": "a stand-in for tests: it computes nothing"},
    )


class _Slots:
    """Counts what runs and refuses what is over the limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.active = 0

    def __enter__(self) -> None:
        if self.active >= self.limit:
            raise TooBusy(f"{self.active} requests run; at most {self.limit}", retry_after=1)
        self.active += 1

    def __exit__(self, *_: object) -> None:
        self.active -= 1


class _Dummy:
    """What all stand-ins have in common."""

    _options: _Options

    def load(self) -> None:
        """Takes its time."""
        time.sleep(self._options.load)

    async def close(self) -> None:
        """Nothing to give back."""

    @property
    def queue_depth(self) -> int:
        """Nothing waits here."""
        return 0


class DummyEmbeddings(_Dummy, EmbeddingEngine):
    """Vectors from hashes; a token is a word."""

    def __init__(self, name: str, options: _Options, queue_limit: int) -> None:
        self.info = _info(name, "embeddings", options, DIMENSIONS)
        self._options = options
        self.slots = _Slots(queue_limit)

    async def embed(self, inputs: Sequence[str | Sequence[int]]) -> Embeddings:
        """See `EmbeddingEngine.embed`."""
        counts = [len(one.split()) if isinstance(one, str) else len(one) for one in inputs]
        for index, count in enumerate(counts):
            _check_length(count, self.info.max_tokens, f"input[{index}]")
        with self.slots:
            await asyncio.sleep(self._options.delay)
        vectors = np.stack([_vector(one) for one in inputs])
        return Embeddings(vectors, sum(counts))


def _vector(one: str | Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    text = one if isinstance(one, str) else " ".join(map(str, one))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    raw = np.frombuffer(digest, dtype="<i4").astype(np.float32)
    return raw / np.float32(np.linalg.norm(raw))


class DummyTensor(_Dummy, TensorEngine):
    """FP32 `features` (n, 4) to FP32 `prediction` (n, 1)."""

    inputs = (TensorSpec("features", "float32", (-1, FEATURES)),)
    outputs = (TensorSpec("prediction", "float32", (-1, 1)),)

    def __init__(self, name: str, options: _Options, queue_limit: int) -> None:
        self.info = _info(name, "tensor", options)
        self._options = options
        self.slots = _Slots(queue_limit)

    async def infer(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """See `TensorEngine.infer`."""
        with self.slots:
            await asyncio.sleep(self._options.delay)
        return {"prediction": tensors["features"].sum(axis=1, keepdims=True)}


@dataclass(frozen=True)
class _Words(Prompt):
    words: tuple[str, ...] = ()


class DummyChat(_Dummy, TextEngine):
    """Repeats what it was told; a token is a word."""

    def __init__(self, name: str, options: _Options, queue_limit: int) -> None:
        self.info = _info(name, "chat", options)
        self.most_prompts = queue_limit
        self._options = options
        self.slots = _Slots(queue_limit)

    def chat_prompt(self, messages: Sequence[Mapping[str, str]], sampling: Sampling) -> Prompt:
        """See `TextEngine.chat_prompt`."""
        count = sum(len(message["content"].split()) for message in messages)
        return self._prompt(messages[-1]["content"], count, "messages", sampling)

    def text_prompt(self, prompt: str | Sequence[int], sampling: Sampling) -> Prompt:
        """See `TextEngine.text_prompt`."""
        text = prompt if isinstance(prompt, str) else " ".join(map(str, prompt))
        return self._prompt(text, len(text.split()), "prompt", sampling)

    def _prompt(self, text: str, count: int, field: str, sampling: Sampling) -> Prompt:
        _check_length(count + (sampling.max_tokens or 0), self.info.max_tokens, field)
        return _Words(range(count), tuple(re.findall(r"\S+\s*", text)))

    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        """See `TextEngine.generate`."""
        words = prompt.words if isinstance(prompt, _Words) else ()
        limit = sampling.max_tokens or len(words)
        with self.slots:
            said = ""
            for word in words[:limit]:
                await asyncio.sleep(self._options.delay)
                cut = _before_stop(said + word, sampling.stop)
                if cut is not None:
                    yield Chunk(cut[len(said) :], 1, "stop")
                    return
                said += word
                yield Chunk(word, 1)
        yield Chunk("", 0, "length" if len(words) > limit else "stop")


def _before_stop(text: str, stops: Sequence[str]) -> str | None:
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else None


def _check_length(count: int, limit: int, field: str) -> None:
    if count > limit:
        raise PromptTooLong(
            f"{field}: {count} tokens (with those to be made); this model takes {limit}",
            field=field,
        )
