"""Text in and out of a language model: chat template, sampling limits, stop strings."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from sixways_server.engines.base import Sampling
from sixways_server.errors import BadRequest

_MOST_STOPS = 16
MOST_TOKENS = 2**31 - 1
"""Largest `max_tokens` and `top_k`: what every engine can count to."""


class ChatTemplate:
    """A model's own chat template, with what templates of models may call.

    Args:
        source: the template.
        bos: text of the token that begins a prompt; empty if there is none.
        eos: text of the token that ends a turn.
    """

    def __init__(self, source: str, bos: str, eos: str) -> None:
        # A template comes with a model, so it is foreign code: the sandbox lets it read what it
        # is given and change nothing.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
        self._template = environment.from_string(source)
        self._names = {"bos_token": bos, "eos_token": eos}

    @classmethod
    def load(cls, folder: Path, eos: str) -> ChatTemplate | None:
        """The template of a bundle's tokenizer folder, or None if it has none."""
        path, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
        if not path.is_file():
            return None
        named: Mapping[str, str | None] = {}
        if config.is_file():
            named = json.loads(config.read_text(encoding="utf-8"))
        return cls(
            path.read_text(encoding="utf-8"),
            named.get("bos_token") or "",
            named.get("eos_token") or eos,
        )

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt that asks the model for the next turn.

        Raises:
            BadRequest: the template refuses the messages.
        """
        if not messages:
            raise BadRequest("messages: is empty; accepted: at least one", field="messages")
        try:
            return self._template.render(
                messages=list(messages), add_generation_prompt=True, **self._names
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
            raise BadRequest(
                f"messages: the model's chat template refuses them: {error}. "
                "Fix: use the roles system, user and assistant in the order it accepts",
                field="messages",
            ) from None


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def check_sampling(sampling: Sampling) -> None:
    """Compares every field with what it accepts.

    Raises:
        BadRequest: a field is out of range; `field` names it.
    """
    _within("temperature", sampling.temperature, 0.0, 2.0)
    _within("top_p", sampling.top_p, 0.0, 1.0, open_below=True)
    _within("frequency_penalty", sampling.frequency_penalty, -2.0, 2.0)
    _within("presence_penalty", sampling.presence_penalty, -2.0, 2.0)
    for field, value in (("max_tokens", sampling.max_tokens), ("top_k", sampling.top_k)):
        if value is not None and not 1 <= value <= MOST_TOKENS:
            given = value if abs(value) <= MOST_TOKENS else "a number of that size"
            raise BadRequest(
                f"{field}: {given} is not accepted; accepted: 1 to {MOST_TOKENS}", field=field
            )
    if len(sampling.stop) > _MOST_STOPS or not all(sampling.stop):
        raise BadRequest(
            f"stop: {len(sampling.stop)} strings, {sum(not one for one in sampling.stop)} of them "
            f"empty; accepted: at most {_MOST_STOPS}, none of them empty",
            field="stop",
        )


def _within(field: str, value: float, low: float, high: float, *, open_below: bool = False) -> None:
    if not (math.isfinite(value) and low <= value <= high) or (open_below and value == low):
        bound = f"more than {low:g}" if open_below else f"{low:g}"
        raise BadRequest(
            f"{field}: {value:g} is not accepted; accepted: {bound} to {high:g}", field=field
        )


class TextStream:
    """Turns tokens into text as they come.

    Text that may be the beginning of a stop string is held back until it is clear that it is
    not; bytes that are part of a character wait for the rest of it.

    Args:
        tokenizer: the model's.
        stops: strings that end the text; none of them is in it.
        ends: token ids that are not text.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str], ends: Collection[int]) -> None:
        self._tokenizer, self._stops, self._ends = tokenizer, tuple(stops), ends
        self._longest = max(map(len, self._stops), default=1) - 1
        self._stream = DecodeStream(skip_special_tokens=True)
        self._held = ""
        # Tokens of the last text, and those since, which end within a character.
        self._said: list[int] = []
        self._open: list[int] = []
        self.stopped = False

    def feed(self, tokens: Sequence[int]) -> str:
        """The text that is certain now; sets `stopped` when a stop string was met."""
        text = self._held
        for token in tokens:
            if token in self._ends:
                continue
            self._open.append(token)
            if piece := self._stream.step(self._tokenizer, token):
                text += piece
                self._said, self._open = self._open, []
        if (place := self._stop_in(text)) is not None:
            self.stopped, self._held = True, ""
            return text[:place]
        keep = self._beginning_of_a_stop(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was held back, once no more tokens come; half a character is U+FFFD."""
        text, self._held = self._held, ""
        if self._open:
            # With the tokens before them: a decoder may treat the beginning of a text otherwise.
            before = len(self._tokenizer.decode(self._said))
            text += self._tokenizer.decode(self._said + self._open)[before:]
            self._open = []
        return text[: self._stop_in(text)]

    def _stop_in(self, text: str) -> int | None:
        """Where the first stop string of `text` begins."""
        return min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=None)

    def _beginning_of_a_stop(self, text: str) -> int:
        """Length of the longest end of `text` that some stop string begins with."""
        for length in range(min(self._longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
