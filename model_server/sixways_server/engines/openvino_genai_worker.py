"""The process that decodes: `python -m sixways_server.engines.openvino_genai_worker`.

One step of OpenVINO GenAI takes 10 to 300 ms and holds Python's interpreter lock all the while.
In the server's own process it would stop the event loop for as long, and with it every other
model and every health check. So it has a process of its own, which ends when its standard input
does: with the engine, or with a server that was killed.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from openvino_genai import (  # type: ignore[import-untyped]
        ContinuousBatchingPipeline,
        GenerationHandle,
    )

_HEADER = struct.Struct("<I")
_READ = 1 << 16
NO_ROOM = "no room"
"""`Item.error` of a request that needs more memory for keys and values than there is in all."""


class Settings(msgspec.Struct, frozen=True):
    """What to open, as the first argument of the command line (JSON)."""

    directory: str
    threads: int | None
    cache_gb: float | None


class Decoding(msgspec.Struct, frozen=True, array_like=True):
    """How to choose tokens; checked already. `temperature` 0 is greedy, `top_k` 0 is all."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    frequency_penalty: float
    presence_penalty: float
    ends: tuple[int, ...]


class Add(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Begin a generation."""

    id: int
    token_ids: list[int]
    decoding: Decoding


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """End a generation that nobody waits for any more."""

    id: int


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The model is open and warm."""

    seconds: float


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The model cannot be opened, or a step failed; the process ends."""

    message: str


class Item(msgspec.Struct, frozen=True, array_like=True):
    """New tokens of one generation, and why it ended if it did (`error`: it could not be run)."""

    id: int
    tokens: list[int]
    finish: Literal["stop", "length"] | None = None
    error: str = ""


class Items(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What one step brought."""

    items: list[Item]


Order = Add | Cancel
Answer = Ready | Failed | Items


def frame(message: Order | Answer) -> bytes:
    """A message as it travels: its length, then MessagePack."""
    data = msgspec.msgpack.encode(message)
    return _HEADER.pack(len(data)) + data


class Frames:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete with `data`."""
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            (size,) = _HEADER.unpack_from(self._buffer)
            end = _HEADER.size + size
            if len(self._buffer) < end:
                return
            message = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            yield message


class _Orders:
    """Orders from standard input, without a thread: the interpreter lock is taken by steps."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._frames = Frames()
        self._decoder: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
        self.ended = False

    def read(self, wait: bool) -> list[Order]:
        """What has come; with `wait`, sleeps until something comes or the input ends."""
        orders: list[Order] = []
        while select.select([self._descriptor], [], [], None if wait and not orders else 0)[0]:
            data = os.read(self._descriptor, _READ)
            if not data:
                self.ended = True
                break
            orders.extend(map(self._decoder.decode, self._frames.feed(data)))
        return orders


class _Decoder:
    """Drives the pipeline: one step serves all generations that run."""

    def __init__(self, pipeline: ContinuousBatchingPipeline) -> None:
        self._pipeline = pipeline
        self._handles: dict[int, GenerationHandle] = {}

    @property
    def busy(self) -> bool:
        return bool(self._handles) or self._pipeline.has_non_finished_requests()

    def take(self, orders: Iterable[Order]) -> list[Item]:
        """Begins and ends generations; returns those that could not begin."""
        refused = []
        for order in orders:
            if isinstance(order, Cancel):
                handle = self._handles.pop(order.id, None)
                if handle is not None:
                    handle.cancel()
                continue
            try:
                self._handles[order.id] = self._add(order)
            except (RuntimeError, ValueError) as error:
                refused.append(Item(order.id, [], None, str(error).strip().splitlines()[-1]))
        return refused

    def _add(self, order: Add) -> GenerationHandle:
        import numpy as np
        import openvino

        tokens = openvino.Tensor(np.array([order.token_ids], dtype=np.int64))
        return self._pipeline.add_request(order.id, tokens, _config(order.decoding))

    def step(self) -> list[Item]:
        """One step: at most one new token for each generation."""
        from openvino_genai import GenerationFinishReason, GenerationStatus

        if self._pipeline.has_non_finished_requests():
            self._pipeline.step()
        finishes: dict[Any, Literal["stop", "length"]] = {
            GenerationFinishReason.STOP: "stop",
            GenerationFinishReason.LENGTH: "length",
        }
        items = []
        for key, handle in list(self._handles.items()):
            tokens: list[int] = []
            finish: Literal["stop", "length"] | None = None
            while handle.can_read():
                for output in handle.read().values():
                    tokens += output.generated_ids
                    finish = finishes.get(output.finish_reason)
            error = NO_ROOM if handle.get_status() == GenerationStatus.IGNORED else ""
            if finish or error:
                del self._handles[key]
            if tokens or finish or error:
                items.append(Item(key, tokens, finish, error))
        return items


def _config(decoding: Decoding) -> Any:
    from openvino_genai import GenerationConfig

    config = GenerationConfig()
    config.max_new_tokens = decoding.max_tokens
    config.set_eos_token_id(decoding.ends[0])
    config.stop_token_ids = set(decoding.ends)
    config.frequency_penalty = decoding.frequency_penalty
    config.presence_penalty = decoding.presence_penalty
    if decoding.temperature > 0:
        config.do_sample = True
        config.temperature = decoding.temperature
        config.top_p = decoding.top_p
        config.rng_seed = decoding.seed
        if decoding.top_k:
            config.top_k = decoding.top_k
    return config


def _open(settings: Settings) -> _Decoder:
    """Opens the model and answers one short request, so that the first real one is not slow."""
    from sixways_bundle.runtime.llm import open_pipeline

    pipeline = open_pipeline(
        Path(settings.directory), threads=settings.threads, cache_gb=settings.cache_gb
    )
    decoder = _Decoder(pipeline)
    decoder.take([Add(0, [1, 2, 3], Decoding(2, 0.0, 1.0, 0, 0, 0.0, 0.0, (0,)))])
    while decoder.busy:
        decoder.step()
    return decoder


def main() -> int:
    """Opens the model, then decodes until standard input ends."""
    # Whoever ends the server means this process too, but only once it has drained.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print is not an answer

    def send(answer: Answer) -> None:
        data = memoryview(frame(answer))
        while data:
            data = data[answers.write(data) :]

    started = time.monotonic()
    try:
        decoder = _open(msgspec.json.decode(sys.argv[1], type=Settings))
        send(Ready(time.monotonic() - started))
        orders = _Orders(0)
        while True:
            items = decoder.take(orders.read(wait=not decoder.busy))
            if orders.ended:
                return 0
            items += decoder.step()
            if items:
                send(Items(items))
    except BrokenPipeError:
        return 0
    except Exception as error:  # the server must hear of it whatever it is
        send(Failed(f"{type(error).__name__}: {error}".strip()))
        return 1


if __name__ == "__main__":
    sys.exit(main())
