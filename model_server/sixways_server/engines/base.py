"""The one interface between protocols and engines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from sixways_server.errors import PromptTooLong

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sixways_bundle.runtime.base import TensorSpec

FinishReason = Literal["stop", "length"]
_TOKENIZING = 2
_CHARACTERS_OF_A_TOKEN = 64  # far more than any text has on the mean


@dataclass(frozen=True)
class ModelInfo:
    """What a served model is, as its bundle's manifest says.

    Attributes:
        name: the name requests use.
        task: `embeddings`, `chat` or `tensor`.
        digest: the bundle's digest, `sha256:…`.
        variant: the variant that is served.
        engine: the engine that computes.
        max_tokens: the longest input, or the context of an LLM, in tokens; 0 for tensors.
        dimensions: the width of an embedding; 0 for an LLM.
        details: figures of the manifest for people to read (size, quality …).
    """

    name: str
    task: str
    digest: str
    variant: str
    engine: str
    max_tokens: int
    dimensions: int = 0
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Embeddings:
    """`vectors`: float32 of shape (inputs, dimensions), rows of length 1; `tokens`: all read."""

    vectors: NDArray[np.float32]
    tokens: int


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens. `temperature` 0 is greedy; `max_tokens` None takes what is left."""

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    stop: Sequence[str] = ()
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0


@dataclass(frozen=True)
class Prompt:
    """A prompt that is ready to run: its token ids, checked against the context length."""

    token_ids: Sequence[int]


@dataclass(frozen=True)
class Chunk:
    """A piece of a generation: new text (may be empty), how many tokens it took, why it ended."""

    text: str
    tokens: int
    finish_reason: FinishReason | None = None


class Engine(ABC):
    """A model that is, or can be, loaded."""

    info: ModelInfo

    @cached_property
    def tokenizing(self) -> ThreadPoolExecutor:
        """Threads for its tokenizer: few, so that long texts of one model delay no other."""
        return ThreadPoolExecutor(_TOKENIZING, thread_name_prefix=f"tokenize-{self.info.name}")

    def check_characters(self, count: int, field: str) -> None:
        """Refuses what is surely too long before it is tokenized, which takes seconds.

        Raises:
            PromptTooLong: the text has more characters than the tokens it may have could hold.
        """
        limit = self.info.max_tokens * _CHARACTERS_OF_A_TOKEN
        if count > limit:
            raise PromptTooLong(
                f"{field} has {count} characters; {self.info.name} takes at most "
                f"{self.info.max_tokens} tokens, and no text of more than {limit} characters; "
                "shorten the text or split it",
                field=field,
            )

    @property
    def ready(self) -> bool:
        """Whether a request would be taken now, once it is loaded."""
        return True

    @abstractmethod
    def load(self) -> None:
        """Opens the model and answers one warm-up request. Blocks: call it off the event loop."""

    @abstractmethod
    async def close(self) -> None:
        """Finishes what runs and gives the memory back."""

    @property
    @abstractmethod
    def queue_depth(self) -> int:
        """Requests that were accepted and do not yet run."""


class EmbeddingEngine(Engine):
    """An encoder."""

    @abstractmethod
    async def embed(self, inputs: Sequence[str | Sequence[int]]) -> Embeddings:
        """One vector an input; an input is a text or its token ids.

        Raises:
            PromptTooLong: an input has more than `info.max_tokens` tokens; `field` names it.
            TooBusy: the queue is full.
        """


class TensorEngine(Engine):
    """A model from named tensors to named tensors."""

    inputs: Sequence[TensorSpec]
    """What it takes; known once it is loaded."""
    outputs: Sequence[TensorSpec]
    """What it gives."""

    @abstractmethod
    async def infer(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Every output by name.

        Args:
            tensors: every input by name, of its type and a shape that fits (`operations.infer`
                has checked that); texts are arrays of `str` objects.

        Raises:
            BadRequest: the model does not compute these (axes that do not fit each other).
            TooBusy: the queue is full.
        """


class TextEngine(Engine):
    """A language model."""

    most_prompts: int
    """Prompts that it may run and keep waiting together; more in one request never fit."""

    @abstractmethod
    def chat_prompt(self, messages: Sequence[Mapping[str, str]], sampling: Sampling) -> Prompt:
        """The model's own chat template over `messages` (role, content), tokenized.

        Raises:
            PromptTooLong: prompt and `sampling.max_tokens` pass the context length.
            BadRequest: the template refuses the messages.
        """

    @abstractmethod
    def text_prompt(self, prompt: str | Sequence[int], sampling: Sampling) -> Prompt:
        """A plain prompt, tokenized. Raises like `chat_prompt`."""

    @abstractmethod
    def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncIterator[Chunk]:
        """The generation, chunk by chunk; the last one has a finish reason.

        Closing the iterator early (a client that went away) stops the generation.

        Raises:
            TooBusy: the queue is full; before the first chunk only.
        """
