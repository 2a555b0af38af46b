"""Serves models from tensors to tensors: queues, batches, computes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sixways_bundle.runtime import InputRefused, TensorRuntime, open_tensor
from sixways_server.engines.base import ModelInfo, TensorEngine
from sixways_server.errors import BadRequest, NotReady, TooBusy

if TYPE_CHECKING:
    from numpy.typing import NDArray

Tensors = Mapping[str, "NDArray[Any]"]
OnBatch = Callable[[int, float], None]
"""Told the requests of a batch and the seconds it took, after each one."""

_SMOOTHING = 0.2  # about the last five batches
_FIRST_GUESS_S = 0.02  # of a request, before the first
_SHORTEST_RETRY_S, _LONGEST_RETRY_S = 0.1, 60.0
_log = logging.getLogger("sixways.engine")


@dataclass(eq=False)
class _Request:
    """One caller. `shape` is equal for those that can be computed together."""

    tensors: Tensors
    answer: asyncio.Future[Tensors]
    shape: tuple[object, ...]
    rows: int = field(default=0)


class TensorModelEngine(TensorEngine):
    """One variant of a model over tensors and its queue. To be used from one event loop.

    Requests that wait while another is computed are computed together where the build found that
    the model's rows are independent of each other, and their shapes agree behind the first axis.

    Args:
        info: what is served.
        engine: the engine of the variant.
        directory: the variant's folder, already verified.
        batching: whether rows are independent: the variant's option of that name.
        threads: processor threads; None: all that this process may use.
        queue_limit: requests that may be accepted and not yet answered.
        max_rows: rows that are computed together; a request that has more runs alone.
        on_batch: told requests and seconds of each batch, on the event loop.
    """

    def __init__(
        self,
        info: ModelInfo,
        engine: str,
        directory: Path,
        *,
        batching: bool = False,
        threads: int | None = None,
        queue_limit: int = 1024,
        max_rows: int = 64,
        on_batch: OnBatch | None = None,
    ) -> None:
        self.info = info
        self.on_batch = on_batch
        self._engine, self._directory, self._threads = engine, directory, threads
        self._batching, self._queue_limit, self._max_rows = batching, queue_limit, max_rows
        self._runtime: TensorRuntime | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"tensor-{info.name}")
        self._waiting: list[_Request] = []
        self._accepted = 0
        self._seconds = _FIRST_GUESS_S  # a request, a moving mean
        self._worker: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    def load(self) -> None:
        """Opens the model and computes one small input.

        Raises:
            MissingExtra: the engine's library is not installed.
            BundleError: a file is missing or cannot be opened.
        """
        runtime = open_tensor(self._engine, self._directory, threads=self._threads)
        self.inputs, self.outputs = runtime.inputs, runtime.outputs
        try:
            runtime.infer(_zeros(runtime))
        except InputRefused as error:
            # Zeros with one entry in each free axis need not be what it takes.
            _log.info("%s: no warm-up: %s", self.info.name, error)
        self.info = replace(self.info, details={**self.info.details, "device": runtime.device})
        self._runtime = runtime

    async def close(self) -> None:
        """Answers what was accepted, takes no more, gives the memory back."""
        self._closed = True
        await self._idle.wait()
        if self._worker is not None:
            await self._worker
        self._thread.shutdown()
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            await asyncio.to_thread(runtime.close)

    @property
    def queue_depth(self) -> int:
        """Requests that wait for the engine."""
        return len(self._waiting)

    async def infer(self, tensors: Tensors) -> Tensors:
        """See `TensorEngine.infer`.

        Raises:
            NotReady: not loaded yet, or closed.
        """
        if self._runtime is None or self._closed:
            raise NotReady(f"model {self.info.name} does not run; try again when /readyz says so")
        if any(0 in array.shape for array in tensors.values()):
            raise BadRequest(
                f"inputs: {_shapes(tensors)} hold no numbers; accepted: at least one entry in "
                "each axis",
                field="inputs",
            )
        if self._accepted >= self._queue_limit:
            seconds = min(_LONGEST_RETRY_S, max(_SHORTEST_RETRY_S, self._seconds * self._accepted))
            raise TooBusy(
                f"{self._accepted} requests are in work, which is the limit; try again in "
                f"{seconds:.1f} s",
                retry_after=seconds,
            )
        loop = asyncio.get_running_loop()
        request = _Request(tensors, loop.create_future(), ())
        if self._batching:
            # Names come in the sender's order.
            request.shape = tuple((name, tensors[name].shape[1:]) for name in sorted(tensors))
            rows = {len(array) for array in tensors.values()}
            request.rows = rows.pop() if len(rows) == 1 else self._max_rows  # unequal: alone
        self._accepted += 1
        self._idle.clear()
        self._waiting.append(request)
        if self._worker is None:
            self._worker = loop.create_task(self._work())
        try:
            return await request.answer
        finally:
            self._accepted -= 1
            if not self._accepted:
                self._idle.set()

    async def _work(self) -> None:
        """Computes until nothing waits. A task only while there is work: none to clean up."""
        try:
            # Callers that the loop wakes up together get into the first batch together.
            await asyncio.sleep(0)
            while batch := self._take():
                await self._run(batch)
        finally:
            self._worker = None

    def _take(self) -> list[_Request]:
        """The request that waits longest, and those that fit beside it."""
        # Who was cancelled waits for nothing.
        waiting = [one for one in self._waiting if not one.answer.done()]
        batch: list[_Request] = []
        rows = 0
        for one in waiting:
            fits = self._batching and rows + one.rows <= self._max_rows
            if not batch or (fits and one.shape == batch[0].shape):
                batch.append(one)
                rows += one.rows
        self._waiting = [one for one in waiting if one not in batch]
        return batch

    async def _run(self, batch: list[_Request]) -> None:
        loop = asyncio.get_running_loop()
        start = time.perf_counter()
        try:
            answers = await loop.run_in_executor(
                self._thread, self._compute, [one.tensors for one in batch]
            )
        # Whatever an engine raises belongs to the callers, and the next batch must still run.
        except Exception as error:
            if len(batch) == 1:
                _fail(batch[0], self._explained(batch[0], error))
            for one in batch if len(batch) > 1 else ():
                if not one.answer.done():
                    await self._run([one])  # only whose tensors are at fault learns of it
            return
        seconds = time.perf_counter() - start
        self._seconds += _SMOOTHING * (seconds / len(batch) - self._seconds)
        for one, answer in zip(batch, answers, strict=True):
            if not one.answer.done():
                one.answer.set_result(answer)
        if self.on_batch is not None:
            # Not called from here: an error of its own must not stop the batches.
            loop.call_soon(self.on_batch, len(batch), seconds)

    def _compute(self, batch: list[Tensors]) -> list[Tensors]:
        """In the engine's thread."""
        import numpy as np

        runtime = self._runtime
        if runtime is None:
            raise NotReady(f"model {self.info.name} was closed")
        if len(batch) == 1:
            return [runtime.infer(batch[0])]
        together = {name: np.concatenate([one[name] for one in batch]) for name in batch[0]}
        outputs = runtime.infer(together)
        ends = np.cumsum([len(next(iter(one.values()))) for one in batch])
        if any(len(array) != ends[-1] for array in outputs.values()):
            raise RuntimeError(f"{self.info.name} answered {ends[-1]} rows with another number")
        parts = {name: np.split(array, ends[:-1]) for name, array in outputs.items()}
        return [{name: rows[index] for name, rows in parts.items()} for index in range(len(batch))]

    def _explained(self, request: _Request, error: Exception) -> Exception:
        if not isinstance(error, InputRefused):
            return error
        # The engine's words name nodes of the graph and files of this machine.
        _log.info("%s: the engine refused a request: %s", self.info.name, error)
        return BadRequest(
            f"inputs: the model does not compute {_shapes(request.tensors)}: axes that it takes in "
            "any length do not fit each other or the model, or a number is out of its range. "
            "Fix: send tensors as the model was exported for",
            field="inputs",
        )


def _fail(request: _Request, error: Exception) -> None:
    if not request.answer.done():
        request.answer.set_exception(error)


def _shapes(tensors: Tensors) -> str:
    return ", ".join(f"{name} {list(array.shape)}" for name, array in sorted(tensors.items()))


def _zeros(runtime: TensorRuntime) -> dict[str, NDArray[Any]]:
    import numpy as np

    found: dict[str, NDArray[Any]] = {}
    for spec in runtime.inputs:
        shape = [max(axis, 1) for axis in spec.shape]
        if spec.dtype == "str":
            found[spec.name] = np.full(shape, "", dtype=object)
        else:
            found[spec.name] = np.zeros(shape, np.dtype(spec.dtype))
    return found
