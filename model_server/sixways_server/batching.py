"""Makes batches of what waits, for a model that computes one batch at a time.

Everything but the computation happens on the event loop, so that nothing here needs a lock.
A batch starts as soon as the model is free: while it is idle a single input does not wait for
company, and while it is busy company gathers by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sixways_server.errors import NotReady, TooBusy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Compute = Callable[[Sequence[Sequence[int]]], "NDArray[np.float32]"]
"""Token ids of a batch in, one row each out; runs in the batcher's thread."""

OnBatch = Callable[[int, float], None]
"""Told the inputs of a batch and the seconds it took, after each one."""

# Starting a batch costs about as much as computing this many tokens; and short inputs beside a
# long one are computed at its length. So a batch grows while padding costs less than another
# batch would.
_TOKENS_OF_A_START = 32
# A batch is chosen from this many times its size, oldest first, which bounds the sorting.
_WINDOW = 8
# How fast the estimate of the throughput follows: 0.2 is about the last five batches.
_SMOOTHING = 0.2
_FIRST_GUESS = 50.0  # inputs a second, before the first batch
_LONGEST_RETRY = 60.0


@dataclass(eq=False)
class _Request:
    """One caller: `left` counts the inputs whose row is still missing."""

    answer: asyncio.Future[list[NDArray[np.float32]]]
    rows: list[NDArray[np.float32] | None]
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.rows)

    def put(self, index: int, row: NDArray[np.float32]) -> None:
        self.rows[index] = row
        self.left -= 1
        if not self.left and not self.answer.done():
            self.answer.set_result([row for row in self.rows if row is not None])

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(eq=False)
class _Input:
    """One input of a request; `index` is its place there."""

    token_ids: Sequence[int]
    request: _Request
    index: int

    def __len__(self) -> int:
        return len(self.token_ids)


class Batcher:
    """Runs inputs of many callers in few batches. To be used from one event loop.

    Args:
        compute: computes a batch.
        queue_limit: inputs that may be accepted and not yet answered.
        queue_seconds: how long an input may have to wait for its batch, judged by the recent
            throughput; None: as long as `queue_limit` allows. An idle model takes any request.
        max_batch: inputs in one batch.
        max_batch_tokens: tokens in one batch, padding included; bounds its memory. One input
            that is longer makes a batch of its own.
        name: of the thread.
        on_batch: told of each batch.
    """

    def __init__(
        self,
        compute: Compute,
        *,
        queue_limit: int = 1024,
        queue_seconds: float | None = None,
        max_batch: int = 32,
        max_batch_tokens: int = 8192,
        name: str = "batcher",
        on_batch: OnBatch | None = None,
    ) -> None:
        self.on_batch = on_batch
        self.queue_limit = queue_limit
        self._queue_seconds = queue_seconds
        self._compute = compute
        self._max_batch = max_batch
        self._max_batch_tokens = max_batch_tokens
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting: list[_Input] = []
        self._accepted = 0
        self._rate = 0.0
        self._worker: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @property
    def queue_depth(self) -> int:
        """Inputs that wait for a batch."""
        return len(self._waiting)

    @contextmanager
    def admit(self, count: int) -> Iterator[None]:
        """Keeps room for `count` inputs until the caller has its answer.

        Taken before the inputs are tokenized, so that a full queue costs nothing.

        Raises:
            TooBusy: the queue is full; says when to try again.
            NotReady: the batcher was closed.
        """
        if self._closed:
            raise NotReady("the model is being stopped; send the request again")
        if self._accepted + count > self.queue_limit:
            raise self._too_busy(
                self._accepted + count - self.queue_limit,
                f"{count} more pass the limit of {self.queue_limit}",
            )
        if self._queue_seconds is not None and self._accepted and self._rate:
            most = self._queue_seconds * self._rate
            if self._accepted > most:
                raise self._too_busy(
                    self._accepted - most,
                    f"one more would wait longer than the {self._queue_seconds:g} s it may",
                )
        self._accepted += count
        self._idle.clear()
        try:
            yield
        finally:
            self._accepted -= count
            if not self._accepted:
                self._idle.set()

    async def run(self, inputs: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """The rows of `inputs` (token ids), in their order; call it within `admit`.

        A caller that is cancelled takes its waiting inputs with it.

        Raises:
            Exception: what `compute` raised for this caller's inputs.
        """
        if not inputs:
            return []
        loop = asyncio.get_running_loop()
        request = _Request(loop.create_future(), [None] * len(inputs))
        self._waiting += [_Input(ids, request, index) for index, ids in enumerate(inputs)]
        if self._worker is None:
            self._worker = loop.create_task(self._work())
        try:
            return await request.answer
        finally:
            if request.left:
                self._drop_the_answered()

    async def close(self) -> None:
        """Takes no more, answers what was accepted, ends the thread."""
        self._closed = True
        await self._idle.wait()
        if self._worker is not None:
            await self._worker
        self._thread.shutdown()

    async def _work(self) -> None:
        """Runs batches until nothing waits. A task only while there is work: none to clean up."""
        try:
            # Callers that the loop wakes up together get into the first batch together.
            await asyncio.sleep(0)
            while self._drop_the_answered():
                await self._run_batch(self._take())
        finally:
            self._worker = None

    async def _run_batch(self, batch: list[_Input]) -> None:
        loop = asyncio.get_running_loop()
        start = time.perf_counter()
        try:
            rows = await loop.run_in_executor(
                self._thread, self._compute, [one.token_ids for one in batch]
            )
            if len(rows) != len(batch):
                raise RuntimeError(f"the engine answered {len(batch)} inputs with {len(rows)} rows")
        # Whatever an engine raises belongs to the callers, and the next batch must still run.
        except Exception as error:
            await self._find_the_culprit(batch, error)
            return
        seconds = time.perf_counter() - start
        for one, row in zip(batch, rows, strict=True):
            one.request.put(one.index, row)
        rate = len(batch) / max(seconds, 1e-6)
        self._rate += (rate - self._rate) * (_SMOOTHING if self._rate else 1.0)
        if self.on_batch is not None:
            # Not called from here: an error of its own must not stop the batches.
            loop.call_soon(self.on_batch, len(batch), seconds)

    async def _find_the_culprit(self, batch: list[_Input], error: Exception) -> None:
        """Runs each caller's inputs again on their own: only whose fail learns of the error."""
        callers = list(dict.fromkeys(one.request for one in batch))
        if len(callers) == 1:
            callers[0].fail(error)
            return
        for caller in callers:
            if not caller.answer.done():
                await self._run_batch([one for one in batch if one.request is caller])

    def _drop_the_answered(self) -> bool:
        """Leaves out callers that were cancelled or have an error; whether anything waits."""
        self._waiting = [one for one in self._waiting if not one.request.answer.done()]
        return bool(self._waiting)

    def _take(self) -> list[_Input]:
        """The next batch: the input that waits longest, and those of about its length."""
        oldest = self._waiting[0]
        window = sorted(self._waiting[: _WINDOW * self._max_batch], key=len)
        low = high = window.index(oldest)
        tokens = len(oldest)
        while high - low + 1 < self._max_batch:
            # The neighbour that adds less padding: a longer one lengthens all that are in.
            shorter = window[low - 1] if low > 0 else None
            longer = window[high + 1] if high + 1 < len(window) else None
            size, longest = high - low + 1, len(window[high])
            below = longest - len(shorter) if shorter is not None else None
            above = (len(longer) - longest) * size if longer is not None else None
            if below is None and above is None:
                break
            go_up = below is None or (above is not None and above < below)
            one = longer if go_up else shorter
            assert one is not None  # noqa: S101
            padded = (size + 1) * max(longest, len(one))
            if padded > self._max_batch_tokens:
                break
            if padded > tokens + len(one) + _TOKENS_OF_A_START:
                break
            tokens += len(one)
            low, high = (low, high + 1) if go_up else (low - 1, high)
        batch = window[low : high + 1]
        taken = set(map(id, batch))
        self._waiting = [one for one in self._waiting if id(one) not in taken]
        return batch

    def _too_busy(self, surplus: float, why: str) -> TooBusy:
        """To be tried again once the surplus is computed, at the recent throughput: 0.1 to 60 s."""
        seconds = min(_LONGEST_RETRY, max(0.1, surplus / (self._rate or _FIRST_GUESS)))
        return TooBusy(
            f"{self._accepted} inputs are in work and {why}; try again in {seconds:.1f} s",
            retry_after=seconds,
        )
