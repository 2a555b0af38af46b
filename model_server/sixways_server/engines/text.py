"""What language model engines have in common: from texts to token ids that fit the model."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Tokenizer

from sixways_bundle.errors import BundleError, Problem
from sixways_server.engines.base import ModelInfo, Prompt, Sampling, TextEngine
from sixways_server.engines.openvino_genai_text import ChatTemplate, check_sampling
from sixways_server.errors import BadRequest, NotReady, PromptTooLong, TooBusy

UNASKED_TOKENS = 2048
"""Tokens that a request gets at most when it does not say how many: a small model may never end."""
_FINISH_SECONDS = 120.0
"""How long accepted requests may take once an engine closes; then they fail."""
_LEAST = 1e-5  # of temperature and top_p
_log = logging.getLogger("sixways.engine")


def temperature_of(sampling: Sampling) -> float:
    """As engines take it, which compute in float32 at most: what is nearly 0 there is greedy."""
    return float(sampling.temperature) if sampling.temperature >= _LEAST else 0.0


def top_p_of(sampling: Sampling) -> float:
    """As engines take it: never so near to 0 that no token is left."""
    return max(float(sampling.top_p), _LEAST)


class InFlight:
    """Counts requests for a library that queues without a bound. To be used from one event loop.

    Args:
        name: the model's, for messages.
        running: requests that the library runs together.
        waiting: requests that may wait beside those.
        guess: seconds that a request takes, until the first one has ended.
    """

    def __init__(self, name: str, running: int, waiting: int, guess: float) -> None:
        self._name, self._running, self.limit = name, running, running + waiting
        self._seconds = guess  # of a request, a moving mean
        self.count = 0
        self._none = asyncio.Event()
        self._none.set()

    @property
    def waiting(self) -> int:
        """Requests over those that run together."""
        return max(0, self.count - self._running)

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Holds a place while a request is answered.

        Raises:
            TooBusy: all places are taken; says when to try again.
        """
        if self.count >= self.limit:
            wait = math.ceil(self._seconds * self.count / self._running)
            raise TooBusy(
                f"{self._name}: {self.waiting} requests wait already; try again in about {wait} s",
                retry_after=wait,
            )
        self.count += 1
        self._none.clear()
        started = time.monotonic()
        try:
            yield
            self._seconds += 0.1 * (time.monotonic() - started - self._seconds)
        finally:
            self.count -= 1
            if not self.count:
                self._none.set()

    async def finish(self) -> None:
        """Returns when nothing is in flight, or after two minutes."""
        try:
            await asyncio.wait_for(self._none.wait(), _FINISH_SECONDS)
        except TimeoutError:
            _log.warning("%s: %d requests did not finish", self._name, self.count)


class TokenizedTextEngine(TextEngine):
    """Tokenizer, chat template and the limits of a prompt.

    Args:
        info: what the bundle's manifest says.
        tokenizer: folder with `tokenizer.json`, `chat_template.jinja` and, if the template uses
            names of tokens, `tokenizer_config.json`.
        eos_token_ids: tokens that end a generation; at least one.

    Raises:
        BundleError: no token ends a generation.
    """

    def __init__(self, info: ModelInfo, tokenizer: Path, eos_token_ids: Sequence[int]) -> None:
        if not eos_token_ids:
            raise BundleError(
                f"{info.name} would never end a text",
                [Problem("eos_token_ids", "", "at least one token id", "build the bundle again")],
            )
        self.info = info
        self.ends = tuple(eos_token_ids)
        self._folder = tokenizer
        self._tokenizer: Tokenizer | None = None
        self._template: ChatTemplate | None = None

    def open_texts(self) -> None:
        """Opens tokenizer and template; part of `load`.

        Raises:
            BundleError: one of them cannot be opened.
        """
        try:
            self._tokenizer = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        except Exception as error:  # the library raises plain Exception
            raise BundleError(f"{self._folder} has no usable tokenizer: {error}") from None
        eos = self._tokenizer.id_to_token(self.ends[0]) or ""
        self._template = ChatTemplate.load(self._folder, eos)

    def chat_prompt(self, messages: Sequence[Mapping[str, str]], sampling: Sampling) -> Prompt:
        """See `TextEngine.chat_prompt`."""
        check_sampling(sampling)
        tokenizer = self.loaded_tokenizer()
        if self._template is None:
            raise BadRequest(
                f"messages: {self.info.name} has no chat template. Fix: use a text completion",
                field="messages",
            )
        self.check_characters(sum(len(one["content"]) for one in messages), "messages")
        # The template writes the special tokens itself.
        text = self._template.render(messages)
        return self._prompt(
            tokenizer.encode(text, add_special_tokens=False).ids, "messages", sampling
        )

    def text_prompt(self, prompt: str | Sequence[int], sampling: Sampling) -> Prompt:
        """See `TextEngine.text_prompt`.

        Raises:
            BadRequest: no token, or an id that the model does not have.
        """
        check_sampling(sampling)
        tokenizer = self.loaded_tokenizer()
        if isinstance(prompt, str):
            self.check_characters(len(prompt), "prompt")
            return self._prompt(tokenizer.encode(prompt).ids, "prompt", sampling)
        size = tokenizer.get_vocab_size()
        for position, token in enumerate(prompt):
            if not 0 <= token < size:
                raise BadRequest(
                    f"prompt[{position}]: {token} is not accepted; accepted: token ids from 0 "
                    f"to {size - 1}",
                    field="prompt",
                )
        return self._prompt(list(prompt), "prompt", sampling)

    def loaded_tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            NotReady: not loaded yet.
        """
        if self._tokenizer is None:
            raise NotReady(f"{self.info.name} is not loaded yet", retry_after=1)
        return self._tokenizer

    def most_new_tokens(self, prompt: Prompt, sampling: Sampling) -> int:
        """How many tokens a generation may have: those asked for, else some that still fit."""
        left = self.info.max_tokens - len(prompt.token_ids)
        return sampling.max_tokens or min(left, UNASKED_TOKENS)

    def _prompt(self, ids: list[int], field: str, sampling: Sampling) -> Prompt:
        if not ids:
            raise BadRequest(f"{field}: has no token; accepted: at least one", field=field)
        asked = sampling.max_tokens
        limit, total = self.info.max_tokens, len(ids) + (asked or 1)
        if total > limit:
            wanted = f"{asked} to be made" if asked else "at least 1 to be made"
            left = limit - len(ids)
            fix = f"lower max_tokens to {left} or less, or shorten" if left > 0 else "shorten"
            raise PromptTooLong(
                f"{field}: {len(ids)} tokens and {wanted} are {total}; {self.info.name} takes "
                f"{limit} in all. Fix: {fix} {field}",
                field=field,
            )
        return Prompt(ids)
