"""Language models on torch, batched continuously by transformers; on CUDA where there is a GPU.

For machines that the quicker engines do not know. It decodes in a thread of the server's process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import queue
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from sixways_bundle.errors import BundleError, MissingExtra
from sixways_bundle.runtime.base import usable_threads
from sixways_server.engines.base import Chunk, ModelInfo, Prompt, Sampling
from sixways_server.engines.openvino_genai_text import TextStream, check_sampling
from sixways_server.engines.text import InFlight, TokenizedTextEngine, temperature_of, top_p_of
from sixways_server.errors import BadRequest, NotReady, RequestError

_MOST_RUNNING = 16
_PAGE = 256  # tokens of one block of keys and values
_CONTEXTS = 2  # whole contexts that the blocks hold; what does not fit waits
_STEP_TOKENS = 512  # computed together; longer prompts take several steps
_FIRST_GUESS_S = 5.0
_log = logging.getLogger("sixways.engine")


class TorchTextEngine(TokenizedTextEngine):
    """A chat model of a bundle, in the Hugging Face layout. To be used from one event loop.

    Args:
        info: what the bundle's manifest says.
        directory: the variant's folder, already verified.
        tokenizer: the bundle's tokenizer folder.
        eos_token_ids: tokens that end a generation; at least one.
        threads: processor threads to use; None: all this process may run on.
        queue_limit: requests that may wait while 16 others run.
    """

    def __init__(
        self,
        info: ModelInfo,
        directory: Path,
        tokenizer: Path,
        *,
        eos_token_ids: Sequence[int],
        threads: int | None = None,
        queue_limit: int = 64,
    ) -> None:
        super().__init__(info, tokenizer, eos_token_ids)
        self._directory, self._threads = directory, threads
        self._in_flight = InFlight(info.name, _MOST_RUNNING, queue_limit, _FIRST_GUESS_S)
        self.most_prompts = self._in_flight.limit
        self._manager: Any = None
        self._vocabulary = 0
        self._requests = 0
        self._closing = False

    def load(self) -> None:
        """Opens the model and runs it once.

        Raises:
            MissingExtra: torch or transformers is not installed.
            BundleError: tokenizer, template or model cannot be opened.
        """
        try:
            import torch
            from transformers import (
                AutoModelForCausalLM,
                ContinuousBatchingConfig,
                GenerationConfig,
            )
        except ImportError:
            raise MissingExtra("serving a language model with torch", "torch") from None
        self.open_texts()
        torch.set_num_threads(usable_threads(self._threads))
        place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(
                str(self._directory),
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype="auto",  # as config.json says
                attn_implementation="sdpa",
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise BundleError(
                f"transformers cannot open {self._directory}: {error}. "
                "Fix: build the bundle again with this version of transformers"
            ) from error
        model.to(place).eval()
        self._vocabulary = int(model.config.vocab_size)
        # Values that differ from "off", or a request could not set its own.
        defaults = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=True,
            temperature=0.5,
            top_k=2,
            top_p=0.5,
            eos_token_id=list(self.ends),
            max_new_tokens=1,
        )
        pages = math.ceil(self.info.max_tokens / _PAGE)
        self._manager = model.init_continuous_batching(
            generation_config=defaults,
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=_PAGE,
                num_blocks=_CONTEXTS * pages + _MOST_RUNNING,
                max_batch_tokens=_STEP_TOKENS,
                max_requests_per_batch=_MOST_RUNNING,
                per_request_processors=True,
                use_cuda_graph=False,
                use_async_batching=False,
                auto_switch_to_flash=False,
            ),
        )
        with torch.no_grad():  # as in its own thread; tensors of inference mode stay in it
            self._manager.warmup()
        self._manager.start()
        device = f"CUDA ({torch.cuda.get_device_name(place)})" if place.type == "cuda" else "CPU"
        self.info = replace(self.info, details={**self.info.details, "device": device})

    async def close(self) -> None:
        """Lets accepted requests finish (two minutes at most), then ends the thread."""
        self._closing = True
        await self._in_flight.finish()
        manager, self._manager = self._manager, None
        if manager is not None:
            await asyncio.to_thread(manager.stop, hard_stop=True)
            await asyncio.to_thread(manager.destroy)

    @property
    def queue_depth(self) -> int:
        """Requests over those that may run together."""
        return self._in_flight.waiting

    @property
    def ready(self) -> bool:
        """Whether a request would be taken now."""
        return self._manager is not None and self._manager.is_running() and not self._closing

    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        """See `TextEngine.generate`.

        Raises:
            BadRequest: a seed or a penalty, which this engine does not have.
            NotReady: the model is not loaded, its thread ended, or the server is shutting down.
        """
        check_sampling(sampling)
        _refuse_what_is_missing(sampling)
        if not self.ready:
            raise NotReady(f"{self.info.name}: the engine does not run", retry_after=5)
        with self._in_flight.admit():
            async with aclosing(self._chunks(prompt, sampling)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _chunks(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        self._requests += 1
        key, manager = str(self._requests), self._manager
        arrivals: asyncio.Queue[Any] = asyncio.Queue()
        text = TextStream(self.loaded_tokenizer(), sampling.stop, frozenset(self.ends))
        finished = False
        try:
            manager.register_result_handler(key, arrivals.put_nowait)
            manager.add_request(
                list(prompt.token_ids),
                request_id=key,
                max_new_tokens=self.most_new_tokens(prompt, sampling),
                streaming=True,
                **self._choosing(sampling),
            )
            told = read = 0  # tokens that a chunk was told of, and that came in all
            while True:
                arrival = await arrivals.get()
                finished = arrival.is_finished()
                if arrival.error is not None:
                    _log.error("%s: %s", self.info.name, arrival.error)
                    raise RequestError(
                        "the engine failed. Fix: try again; the server's log says why",
                        status=500,
                        code="engine_error",
                    )
                made = arrival.generated_tokens  # all of them, each time
                piece = text.feed(made[read:])
                read = len(made)
                if text.stopped:
                    yield Chunk(piece, read - told, "stop")
                    return
                if finished:
                    ended = bool(made) and made[-1] in self.ends
                    yield Chunk(piece + text.rest(), read - told, "stop" if ended else "length")
                    return
                if piece:
                    yield Chunk(piece, read - told)
                    told = read
        finally:
            if not finished:
                self._cancel(manager, key)

    def _choosing(self, sampling: Sampling) -> dict[str, float | int]:
        """transformers' words for how a token is chosen; one candidate is the greedy way."""
        temperature = temperature_of(sampling)
        candidates = min(sampling.top_k or self._vocabulary, self._vocabulary)
        return {
            "temperature": temperature or 1.0,
            "top_k": candidates if temperature else 1,
            "top_p": top_p_of(sampling),
        }

    @staticmethod
    def _cancel(manager: Any, key: str) -> None:
        manager.cancel_request(key)
        router = manager.output_router
        router.result_handlers.pop(key, None)
        # What came for requests without a handler is kept for a reader that does not exist.
        with contextlib.suppress(queue.Empty):
            while True:
                router.output_queue.get_nowait()


def _refuse_what_is_missing(sampling: Sampling) -> None:
    for field, value in (
        ("seed", sampling.seed),
        ("frequency_penalty", sampling.frequency_penalty),
        ("presence_penalty", sampling.presence_penalty),
    ):
        if value:
            raise BadRequest(
                f"{field}: {value:g} is not accepted; accepted: nothing, since the torch engine "
                "does not have it. Fix: leave it out, or serve another variant",
                field=field,
            )
