"""Serves sentence encoders: tokenizes, batches, computes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sixways_bundle.errors import BundleError, MissingExtra
from sixways_bundle.runtime import EncoderRuntime, open_encoder
from sixways_server.batching import Batcher, OnBatch
from sixways_server.engines.base import EmbeddingEngine, Embeddings, ModelInfo
from sixways_server.errors import BadRequest, NotReady, PromptTooLong

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WARM_UP = "One sentence, so that the first request finds everything in place."


class EncoderEngine(EmbeddingEngine):
    """One variant of an encoder, its tokenizer and its queue.

    Args:
        info: what is served; `max_tokens` is the longest input.
        engine: the engine of the variant.
        directory: the variant's folder, already verified.
        tokenizer: the bundle's tokenizer.json.
        threads: processor threads; None: all that this process may use.
        queue_limit: inputs that may be accepted and not yet answered.
        queue_seconds: how long an input may have to wait (see `Batcher`); None: no such limit.
        max_batch: inputs that are computed together.
        on_batch: told inputs and seconds of each batch, on the event loop.
        options: the variant's, from the manifest.
    """

    def __init__(
        self,
        info: ModelInfo,
        engine: str,
        directory: Path,
        tokenizer: Path,
        *,
        threads: int | None = None,
        queue_limit: int = 1024,
        queue_seconds: float | None = None,
        max_batch: int = 32,
        on_batch: OnBatch | None = None,
        options: Mapping[str, str | int | float | bool] | None = None,
    ) -> None:
        self.info = info
        self._options = options
        self._engine = engine
        self._directory = directory
        self._tokenizer_path = tokenizer
        self._threads = threads
        self._runtime: EncoderRuntime | None = None
        self._tokenizer: Any = None
        self._vocabulary = 0
        self._batcher = Batcher(
            self._compute,
            queue_limit=queue_limit,
            queue_seconds=queue_seconds,
            max_batch=max_batch,
            name=f"encoder-{info.name}",
            on_batch=on_batch,
        )

    def load(self) -> None:
        """Opens tokenizer and model and computes one sentence.

        Raises:
            MissingExtra: the engine or the tokenizer's library is not installed.
            BundleError: a file is missing or cannot be opened.
        """
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise MissingExtra("serving an encoder", "server") from None
        # tokenizers raises nothing narrower than Exception.
        try:
            tokenizer: Any = Tokenizer.from_file(str(self._tokenizer_path))
        except Exception as error:
            raise BundleError(
                f"{self._tokenizer_path} cannot be opened as a tokenizer: {error}. "
                "Fix: build the bundle again"
            ) from error
        # Padding is the batch's matter, and an input that is too long is refused, not cut.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._vocabulary = tokenizer.get_vocab_size(with_added_tokens=True)
        runtime = open_encoder(
            self._engine,
            self._directory,
            threads=self._threads,
            longest=self.info.max_tokens,
            options=self._options,
        )
        self._tokenizer, self._runtime = tokenizer, runtime
        self.info = replace(self.info, details={**self.info.details, "device": runtime.device})
        self._compute([tokenizer.encode(_WARM_UP).ids[: self.info.max_tokens]])

    async def close(self) -> None:
        """Answers what was accepted, takes no more, gives the memory back."""
        await self._batcher.close()
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            await asyncio.to_thread(runtime.close)

    @property
    def queue_depth(self) -> int:
        """Inputs (not requests: one may bring a thousand) that wait for a batch."""
        return self._batcher.queue_depth

    @property
    def on_batch(self) -> OnBatch | None:
        """Told inputs and seconds of each batch, on the event loop; may be set at any time."""
        return self._batcher.on_batch

    @on_batch.setter
    def on_batch(self, told: OnBatch | None) -> None:
        self._batcher.on_batch = told

    async def embed(self, inputs: Sequence[str | Sequence[int]]) -> Embeddings:
        """One vector an input: a text, or token ids, which are taken as they are ([CLS] and all).

        Raises:
            BadRequest: no input, an empty one, more than the queue holds, no text, or a token id
                that the model does not know; `field` names it.
            PromptTooLong: an input has more than `info.max_tokens` tokens; `field` names it.
            TooBusy: the queue is full.
            NotReady: not loaded yet, or closed.
        """
        if self._runtime is None:
            raise NotReady(f"model {self.info.name} is not loaded; try again when /readyz says so")
        if not inputs:
            raise BadRequest(
                "input is empty; accepted: a text, token ids, or a list of these", field="input"
            )
        if len(inputs) > self._batcher.queue_limit:
            raise BadRequest(
                f"input has {len(inputs)} entries; accepted: at most {self._batcher.queue_limit} "
                "in one request; send several requests",
                field="input",
            )
        with self._batcher.admit(len(inputs)):
            loop = asyncio.get_running_loop()
            rows = await loop.run_in_executor(self.tokenizing, self._token_ids, inputs)
            vectors = await self._batcher.run(rows)
        import numpy as np

        return Embeddings(vectors=np.stack(vectors), tokens=sum(map(len, rows)))

    def _token_ids(self, inputs: Sequence[str | Sequence[int]]) -> list[Sequence[int]]:
        """Checks every input and makes token ids of the texts."""
        rows: list[Sequence[int]] = []
        texts: list[str] = []
        for index, one in enumerate(inputs):
            if not one:
                raise BadRequest(
                    f"input[{index}] is empty; accepted: a text or token ids, at least one",
                    field=f"input[{index}]",
                )
            if isinstance(one, str):
                self.check_characters(len(one), f"input[{index}]")
                _check_text(index, one)
                texts.append(one)
            else:
                self._check_ids(index, one)
        encoded = iter(self._tokenizer.encode_batch(texts) if texts else ())
        for index, one in enumerate(inputs):
            ids = next(encoded).ids if isinstance(one, str) else one
            if len(ids) > self.info.max_tokens:
                raise PromptTooLong(
                    f"input[{index}] has {len(ids)} tokens; {self.info.name} takes at most "
                    f"{self.info.max_tokens}; shorten the text or split it into several inputs",
                    field=f"input[{index}]",
                )
            rows.append(ids)
        return rows

    def _check_ids(self, index: int, ids: Sequence[int]) -> None:
        for place, token in enumerate(ids):
            # bool is an int in Python and no token id in JSON.
            if not isinstance(token, int) or isinstance(token, bool):
                wrong = f"{token!r} is no token id"
            elif not 0 <= token < self._vocabulary:
                wrong = f"token id {token} does not exist"
            else:
                continue
            raise BadRequest(
                f"input[{index}][{place}]: {wrong}; accepted: whole numbers from 0 to "
                f"{self._vocabulary - 1} of this model's own tokenizer; or send the text",
                field=f"input[{index}][{place}]",
            )

    def _compute(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Pads a batch and computes it; in the batcher's thread."""
        import numpy as np

        runtime = self._runtime
        if runtime is None:
            raise NotReady(f"model {self.info.name} was closed")
        shape = (len(rows), max(map(len, rows)))
        ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        return runtime.embed(ids, mask)


def _check_text(index: int, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(
            f"input[{index}] is no text: {text[error.start]!r} at {error.start} is half of a "
            "surrogate pair; accepted: Unicode text; mend its encoding",
            field=f"input[{index}]",
        ) from None
