"""Language models on OpenVINO GenAI, batched continuously.

All requests that run share each step. Decoding happens in a process of its own (see
`openvino_genai_worker`); texts, templates and stop strings are handled here.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from importlib.util import find_spec
from pathlib import Path

from sixways_bundle.errors import BundleError, MissingExtra
from sixways_bundle.runtime.llm import MAX_RUNNING
from sixways_server.engines.base import Chunk, ModelInfo, Prompt, Sampling
from sixways_server.engines.openvino_genai_generation import Generation, deliver
from sixways_server.engines.openvino_genai_process import DecodingProcess
from sixways_server.engines.openvino_genai_text import TextStream, check_sampling
from sixways_server.engines.openvino_genai_worker import (
    NO_ROOM,
    Cancel,
    Decoding,
    Item,
    Settings,
    frame,
)
from sixways_server.engines.text import TokenizedTextEngine, temperature_of, top_p_of
from sixways_server.errors import BadRequest, NotReady, PromptTooLong, RequestError, TooBusy

_RESTARTS = 3
_RESTART_WINDOW_S = 60.0
_PAUSE_SECONDS = 30.0
"""After a start that failed, or too many ends, until the next try; meanwhile it is not ready."""
_FIRST_GUESS_S = 2.0
_SEEDS = 2**32
_FINISH_SECONDS = 120.0
"""How long accepted requests may take once the engine closes; then they fail."""
_log = logging.getLogger("sixways.engine")


class OpenVINOTextEngine(TokenizedTextEngine):
    """A chat model of a bundle.

    Args:
        info: what the bundle's manifest says.
        directory: the variant's folder, already verified.
        tokenizer: folder with `tokenizer.json`, `chat_template.jinja` and, if the template uses
            names of tokens, `tokenizer_config.json`.
        eos_token_ids: tokens that end a generation; at least one.
        threads: processor threads to use; None: all this process may run on.
        queue_limit: requests that may wait while others run.
        cache_gb: memory for keys and values in 10^9 bytes; None: a quarter of what is free.
    """

    def __init__(
        self,
        info: ModelInfo,
        directory: Path,
        tokenizer: Path,
        *,
        eos_token_ids: Sequence[int],
        threads: int | None,
        queue_limit: int = 256,
        cache_gb: float | None = None,
    ) -> None:
        super().__init__(info, tokenizer, eos_token_ids)
        self._settings = Settings(str(directory), threads, cache_gb)
        self._queue_limit = queue_limit
        self.most_prompts = MAX_RUNNING + queue_limit
        # Guards everything below: requests come on the event loop, tokens in a thread.
        self._state = threading.Condition()
        self._process: DecodingProcess | None = None
        self._waiting: deque[Generation] = deque()
        self._running: dict[int, Generation] = {}
        self._last_key = 0
        self._closing = False
        self._broken = "the model is not loaded"
        self._ends_seen: deque[float] = deque(maxlen=_RESTARTS)
        self._seconds = _FIRST_GUESS_S  # of a request, a moving mean

    def load(self) -> None:
        """Opens the model in its process and answers one warm-up request.

        Raises:
            MissingExtra: OpenVINO GenAI is not installed.
            BundleError: tokenizer, template or model cannot be opened.
        """
        if find_spec("openvino_genai") is None:
            raise MissingExtra("serving a language model", "server")
        process = self._start()
        try:
            self.open_texts()
        except BaseException:
            process.close()
            raise
        process.wait_ready()
        self._use(process)

    async def close(self) -> None:
        """Lets accepted requests finish (two minutes at most), then ends the process."""
        with self._state:
            self._closing = True
            self._state.notify_all()  # to a pause between two starts
        await asyncio.to_thread(self._finish)

    @property
    def queue_depth(self) -> int:
        """Requests that were accepted and do not yet run."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests that share the next step."""
        return len(self._running)

    @property
    def ready(self) -> bool:
        """Whether a request would be taken now."""
        return not self._broken and not self._closing

    @property
    def worker_pid(self) -> int | None:
        """The process that decodes, or None when there is none."""
        process = self._process
        return process.pid if process else None

    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        """See `TextEngine.generate`.

        Raises:
            NotReady: the model is not loaded, or the server is shutting down.
        """
        check_sampling(sampling)
        generation = self._accept(prompt.token_ids, self._decoding(prompt, sampling))
        text = TextStream(self.loaded_tokenizer(), sampling.stop, frozenset(self.ends))
        tokens = 0  # made since the last chunk
        try:
            while True:
                arrival = await generation.arrivals.get()
                if isinstance(arrival, RequestError):
                    raise arrival
                piece = text.feed(arrival.tokens)
                tokens += len(arrival.tokens)
                if text.stopped:
                    yield Chunk(piece, tokens, "stop")
                    return
                if arrival.finish:
                    yield Chunk(piece + text.rest(), tokens, arrival.finish)
                    return
                if piece:
                    yield Chunk(piece, tokens)
                    tokens = 0
        finally:
            self._leave(generation)

    def _decoding(self, prompt: Prompt, sampling: Sampling) -> Decoding:
        seed = secrets.randbelow(_SEEDS) if sampling.seed is None else sampling.seed % _SEEDS
        return Decoding(
            max_tokens=self.most_new_tokens(prompt, sampling),
            temperature=temperature_of(sampling),
            top_p=top_p_of(sampling),
            top_k=sampling.top_k or 0,
            seed=seed,
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
            ends=self.ends,
        )

    def _accept(self, token_ids: Sequence[int], decoding: Decoding) -> Generation:
        with self._state:
            if self._broken or self._closing:
                reason = self._broken or "the server is shutting down"
                raise NotReady(f"{self.info.name}: {reason}", retry_after=5)
            full = len(self._running) >= MAX_RUNNING or self._process is None
            if full and len(self._waiting) >= self._queue_limit:
                wait = math.ceil(self._seconds * (1 + len(self._waiting) / MAX_RUNNING))
                raise TooBusy(
                    f"{self.info.name}: {len(self._waiting)} requests wait already; try again in "
                    f"about {wait} s",
                    retry_after=wait,
                )
            self._last_key += 1
            generation = Generation(self._last_key, token_ids, decoding)
            self._waiting.append(generation)
            self._fill()
        return generation

    def _fill(self) -> None:
        """Starts what waits, as far as there is room. Call it with the state locked."""
        while self._process and self._waiting and len(self._running) < MAX_RUNNING:
            generation = self._waiting.popleft()
            self._running[generation.key] = generation
            generation.started = time.monotonic()
            self._process.send(generation.order)
        if not self._waiting and not self._running:
            self._state.notify_all()

    def _leave(self, generation: Generation) -> None:
        """The reader is gone: nothing more is to be made for it."""
        with self._state:
            if self._running.pop(generation.key, None) and self._process:
                self._process.send(frame(Cancel(generation.key)))
            elif generation in self._waiting:
                self._waiting.remove(generation)
            self._fill()

    # What follows runs in the thread that reads from the process.

    def _on_items(self, items: list[Item]) -> None:
        arrived: list[tuple[Generation, Item | RequestError]] = []
        with self._state:
            for item in items:
                generation = self._running.get(item.id)
                if generation is None:
                    continue  # cancelled a moment ago
                if item.finish or item.error:
                    del self._running[item.id]
                    taken = time.monotonic() - generation.started
                    self._seconds += 0.1 * (taken - self._seconds)
                arrived.append((generation, self._refusal(item.error) if item.error else item))
            self._fill()
        deliver(arrived)

    def _refusal(self, reason: str) -> RequestError:
        """Why one request could not run while others do."""
        if reason == NO_ROOM:
            return PromptTooLong(
                "prompt and answer need more memory for keys and values than this server has. "
                "Fix: shorten the prompt or lower max_tokens, or give the server more memory"
            )
        _log.warning("%s: a request was refused by the library: %s", self.info.name, reason)
        return BadRequest(
            "the engine does not take this request. Fix: leave out temperature, top_p, top_k and "
            "the penalties, or give values nearer to their defaults"
        )

    def _on_end(self, reason: str) -> None:
        """The process died: what ran in it fails, what waits is served by a new one."""
        with self._state:
            self._process = None
            lost = list(self._running.values())
            self._running.clear()
            now = time.monotonic()
            often = (
                len(self._ends_seen) == _RESTARTS and now - self._ends_seen[0] < _RESTART_WINDOW_S
            )
            self._ends_seen.append(now)
        _log.error("%s: %s; %d requests fail with it", self.info.name, reason, len(lost))
        failure = RequestError(
            "the engine failed and is started again. Fix: try again; the server's log says why",
            status=500,
            code="engine_error",
        )
        deliver([(generation, failure) for generation in lost])
        if often:
            self._pause(f"it ended {_RESTARTS + 1} times within a minute")
        while not self._closing:
            try:
                process = self._start()
                process.wait_ready()
            except (BundleError, OSError, RuntimeError) as error:
                self._pause(str(error))
                continue
            self._use(process)
            return

    def _pause(self, reason: str) -> None:
        """Refuses everything for a while: what broke the engine may pass, as full memory does."""
        _log.error(
            "%s cannot be started again: %s; next try in %.0f s",
            self.info.name, reason, _PAUSE_SECONDS,
        )  # fmt: skip
        with self._state:
            self._broken = "the engine cannot be started again; the server's log says why"
            stranded = list(self._waiting)
            self._waiting.clear()
            self._fill()
        refusal = NotReady(f"{self.info.name}: {self._broken}", retry_after=_PAUSE_SECONDS)
        deliver([(generation, refusal) for generation in stranded])
        with self._state:
            self._state.wait_for(lambda: self._closing, timeout=_PAUSE_SECONDS)

    def _start(self) -> DecodingProcess:
        return DecodingProcess(self._settings, self._on_items, self._on_end)

    def _use(self, process: DecodingProcess) -> None:
        with self._state:
            closed = self._closing and not self._waiting and not self._running
            if not closed:
                self._process = process
                self._broken = ""
                self._fill()
        if closed:  # while it started
            process.close()

    def _finish(self) -> None:
        with self._state:
            self._state.wait_for(
                lambda: not self._waiting and not self._running, timeout=_FINISH_SECONDS
            )
            process, self._process = self._process, None
            self._broken = "the engine is closed"
            lost = [*self._running.values(), *self._waiting]
            self._running.clear()
            self._waiting.clear()
        refusal = NotReady(f"{self.info.name}: the server is shutting down", retry_after=5)
        deliver([(generation, refusal) for generation in lost])
        if process:
            process.close()
