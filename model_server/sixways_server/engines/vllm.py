"""Language models on vLLM, which needs a CUDA GPU. Written against vLLM 0.33.

vLLM batches continuously in processes of its own. Here it gets token ids and gives token ids:
texts, templates and stop strings are handled as for every other engine.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from sixways_bundle.errors import BundleError, MissingExtra
from sixways_server.engines.base import Chunk, FinishReason, ModelInfo, Prompt, Sampling
from sixways_server.engines.openvino_genai_text import TextStream, check_sampling
from sixways_server.engines.text import InFlight, TokenizedTextEngine, temperature_of, top_p_of
from sixways_server.errors import BadRequest, NotReady, RequestError

_MOST_RUNNING = 256
_FIRST_GUESS_S = 2.0
_END_SECONDS = 10.0
_SEEDS = 2**32
_log = logging.getLogger("sixways.engine")


class VLLMTextEngine(TokenizedTextEngine):
    """A chat model of a bundle, in the Hugging Face layout. To be used from one event loop.

    Args:
        info: what the bundle's manifest says.
        directory: the variant's folder, already verified.
        tokenizer: the bundle's tokenizer folder.
        eos_token_ids: tokens that end a generation; at least one.
        queue_limit: requests that may wait while 256 others run.
        gpu_memory: share of the GPU's memory that weights, keys and values may take.
    """

    def __init__(
        self,
        info: ModelInfo,
        directory: Path,
        tokenizer: Path,
        *,
        eos_token_ids: Sequence[int],
        queue_limit: int = 256,
        gpu_memory: float = 0.9,
    ) -> None:
        super().__init__(info, tokenizer, eos_token_ids)
        self._directory, self._gpu_memory = directory, gpu_memory
        self._in_flight = InFlight(info.name, _MOST_RUNNING, queue_limit, _FIRST_GUESS_S)
        self.most_prompts = self._in_flight.limit
        self._engine: Any = None
        self._requests = 0
        self._closing = False

    def load(self) -> None:
        """Opens the model. vLLM runs it while it starts, so no request is needed to warm it up.

        Raises:
            MissingExtra: vLLM is not installed.
            BundleError: tokenizer, template or model cannot be opened.
        """
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        # This process has threads: a fork of it could hang.
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
        try:
            from vllm import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError:
            raise MissingExtra("serving a language model on a GPU", "vllm") from None
        self.open_texts()
        arguments = AsyncEngineArgs(
            model=str(self._directory),
            dtype="bfloat16",
            load_format="safetensors",
            max_model_len=self.info.max_tokens,
            max_num_seqs=_MOST_RUNNING,
            gpu_memory_utilization=self._gpu_memory,
            enable_prefix_caching=True,
            skip_tokenizer_init=True,
            trust_remote_code=False,
            # No defaults of the model (temperature, top_p): a request says what it wants.
            generation_config="vllm",
            disable_log_stats=True,
        )
        try:
            self._engine = AsyncLLM.from_engine_args(arguments)
        # CUDA, the configuration and the child process each raise their own.
        except Exception as error:
            raise BundleError(
                f"vLLM cannot open {self.info.name}: {type(error).__name__}: {error}. "
                "Fix: see the lines of vLLM above; the GPU may lack memory"
            ) from error
        self.info = replace(self.info, details={**self.info.details, "device": "CUDA"})

    async def close(self) -> None:
        """Lets accepted requests finish (two minutes at most), then ends vLLM's processes."""
        self._closing = True
        await self._in_flight.finish()
        engine, self._engine = self._engine, None
        if engine is not None:
            await asyncio.to_thread(engine.shutdown, timeout=_END_SECONDS)

    @property
    def queue_depth(self) -> int:
        """Requests over those that may run together. vLLM decides itself which ones run."""
        return self._in_flight.waiting

    @property
    def ready(self) -> bool:
        """Whether a request would be taken now."""
        return self._engine is not None and not self._engine.errored and not self._closing

    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        """See `TextEngine.generate`.

        Raises:
            NotReady: the model is not loaded, vLLM died, or the server is shutting down.
        """
        check_sampling(sampling)
        if not self.ready:
            raise NotReady(f"{self.info.name}: vLLM does not run", retry_after=5)
        with self._in_flight.admit():
            async with aclosing(self._chunks(prompt, sampling)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _chunks(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        self._requests += 1
        text = TextStream(self.loaded_tokenizer(), sampling.stop, frozenset(self.ends))
        outputs = self._engine.generate(
            {"prompt_token_ids": list(prompt.token_ids)},
            self._parameters(prompt, sampling),
            str(self._requests),
        )
        tokens = 0  # made since the last chunk
        try:
            # Closing its generator is how vLLM learns that nobody waits any more.
            async with aclosing(outputs):
                async for output in outputs:
                    (made,) = output.outputs
                    piece = text.feed(made.token_ids)
                    tokens += len(made.token_ids)
                    if text.stopped:
                        yield Chunk(piece, tokens, "stop")
                        return
                    if output.finished:
                        reason: FinishReason = (
                            "length" if made.finish_reason == "length" else "stop"
                        )
                        yield Chunk(piece + text.rest(), tokens, reason)
                        return
                    if piece:
                        yield Chunk(piece, tokens)
                        tokens = 0
        except VLLMClientError as error:
            _log.warning("%s: vLLM refused a request: %s", self.info.name, error)
            raise BadRequest(
                "the engine does not take this request. Fix: leave out temperature, top_p, top_k "
                "and the penalties, or give values nearer to their defaults"
            ) from None
        except (EngineDeadError, EngineGenerateError) as error:
            _log.error("%s: %s", self.info.name, error)
            raise RequestError(
                "the engine failed. Fix: try again; the server's log says why",
                status=500,
                code="engine_error",
            ) from None

    def _parameters(self, prompt: Prompt, sampling: Sampling) -> Any:
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        return SamplingParams(
            max_tokens=self.most_new_tokens(prompt, sampling),
            temperature=temperature_of(sampling),
            top_p=top_p_of(sampling),
            top_k=sampling.top_k or 0,
            seed=None if sampling.seed is None else sampling.seed % _SEEDS,
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
            stop_token_ids=list(self.ends),
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
