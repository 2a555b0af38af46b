"""One request to a language model on its way between event loop and decoding process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from sixways_server.engines.openvino_genai_worker import Add, Decoding, Item, frame
from sixways_server.errors import RequestError


class Generation:
    """One request on its way. Belongs to the event loop that asked for it."""

    def __init__(self, key: int, token_ids: Sequence[int], decoding: Decoding) -> None:
        self.key = key
        self.order = frame(Add(key, list(token_ids), decoding))
        self.loop = asyncio.get_running_loop()
        self.arrivals: asyncio.Queue[Item | RequestError] = asyncio.Queue()
        self.started = 0.0


def deliver(arrived: Sequence[tuple[Generation, Item | RequestError]]) -> None:
    """Wakes each event loop once, however many requests got something."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[Generation, Item | RequestError]]] = {}
    for generation, what in arrived:
        loops.setdefault(generation.loop, []).append((generation, what))
    for loop, batch in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits there
            loop.call_soon_threadsafe(_put, batch)


def _put(batch: Sequence[tuple[Generation, Item | RequestError]]) -> None:
    for generation, what in batch:
        generation.arrivals.put_nowait(what)
