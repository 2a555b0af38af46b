"""The requests and answers of the OpenAI protocol that these models can serve.

Fields that are not listed are ignored, as OpenAI's own service does. Fields that would change
the meaning of the answer and that no model here can honour are listed and refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from sixways_server.engines.base import Sampling
from sixways_server.errors import BadRequest

Finish = Literal["stop", "length"]
_LARGEST = 2**63 - 1
_COUNT = 2**31 - 1  # of tokens, places …: what every engine can count to
_MOST_PARTS = 4096  # messages of a chat, parts of a message
_COMPLETION_TOKENS = 16
"""What OpenAI's completions make when `max_tokens` is left out."""


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


def _texts(value: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
    """One clear finding in place of one for each member of the union."""
    try:
        return handler(value)
    except ValidationError:
        message = "should be a text, a list of texts, a list of token ids, or a list of such lists"
        if isinstance(value, list) and value:
            kind = str if isinstance(value[0], str) else int if isinstance(value[0], int) else list
            odd = next((i for i, v in enumerate(value) if type(v) is not kind), None)
            if odd is not None:
                message += f"; entry {odd} is a {type(value[odd]).__name__}"
        raise PydanticCustomError("texts", message) from None


# Every list stops at its first wrong entry: a finding for each of millions takes seconds.
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
_TokenIds = Annotated[list[TokenId], Field(fail_fast=True, min_length=1)]
Texts = Annotated[
    str
    | Annotated[list[str], Field(fail_fast=True)]
    | _TokenIds
    | Annotated[list[_TokenIds], Field(fail_fast=True)],
    WrapValidator(_texts),
]


def as_list(value: str | list[Any]) -> Sequence[str | Sequence[int]]:
    """`input` or `prompt` as a list of texts or token lists."""
    if isinstance(value, str):
        return [value]
    if value and isinstance(value[0], int):
        return [value]
    return value


class EmbeddingRequest(_Request):
    """`POST /v1/embeddings`"""

    model: str
    input: Texts
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1, le=_COUNT)] | None = None


class _Generation(_Request):
    model: str
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1, le=_COUNT)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1, le=_COUNT)] | None = None
    stop: str | Annotated[list[str], Field(fail_fast=True, max_length=16)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=_LARGEST)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    n: Annotated[int, Field(ge=1, le=_COUNT)] | None = None
    logit_bias: Any = None

    def sampling(self, max_tokens: int | None) -> Sampling:
        """How the engine is to choose tokens; OpenAI's defaults where nothing is said."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Sampling(
            max_tokens=max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=self.top_k,
            stop=tuple(text for text in stop if text),
            seed=None if self.seed is None else self.seed & _LARGEST,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
        )

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a chunk of token counts."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def refuse_unsupported(self, **wrong: bool) -> None:
        """Raises BadRequest for the first field that is set to what no model here can do."""
        wrong = {"n": self.n not in (None, 1), "logit_bias": bool(self.logit_bias), **wrong}
        for field, is_wrong in wrong.items():
            if is_wrong:
                accepted = "only 1 is accepted" if field in ("n", "best_of") else "leave it out"
                raise BadRequest(
                    f"{field}: not supported by this server; {accepted}",
                    field=field,
                    code="unsupported_parameter",
                )


class StreamOptions(_Request):
    """What a stream holds besides text."""

    include_usage: bool | None = False


class TextPart(_Request):
    """A part of a message."""

    type: str
    text: str | None = None


class Message(_Request):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(fail_fast=True, max_length=_MOST_PARTS)]

    def as_text(self, index: int) -> dict[str, str]:
        """Role and text as chat templates know them.

        Raises:
            BadRequest: a part is no text.
        """
        role = "system" if self.role == "developer" else self.role
        if isinstance(self.content, str):
            return {"role": role, "content": self.content}
        for number, part in enumerate(self.content):
            if part.type != "text" or part.text is None:
                field = f"messages[{index}].content[{number}]"
                raise BadRequest(
                    f"{field}: type {part.type[:40]!r} is not accepted; these models read "
                    '{"type": "text", "text": "…"} only',
                    field=field,
                )
        return {"role": role, "content": "".join(part.text or "" for part in self.content)}


class ChatRequest(_Generation):
    """`POST /v1/chat/completions`"""

    messages: Annotated[list[Message], Field(fail_fast=True, min_length=1, max_length=_MOST_PARTS)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=_COUNT)] | None = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    response_format: Any = None
    logprobs: Any = None
    top_logprobs: Any = None
    modalities: Any = None
    audio: Any = None

    def checked(self) -> tuple[list[dict[str, str]], Sampling]:
        """Messages and sampling.

        Raises:
            BadRequest: a field is set to what no model here can do.
        """
        plain = (None, {"type": "text"})
        self.refuse_unsupported(
            tools=bool(self.tools),
            tool_choice=self.tool_choice not in (None, "none", "auto"),
            functions=bool(self.functions),
            response_format=self.response_format not in plain,
            logprobs=bool(self.logprobs),
            top_logprobs=bool(self.top_logprobs),
            modalities=self.modalities not in (None, ["text"]),
            audio=self.audio is not None,
        )
        messages = [message.as_text(index) for index, message in enumerate(self.messages)]
        return messages, self.sampling(self.max_completion_tokens or self.max_tokens)


class CompletionRequest(_Generation):
    """`POST /v1/completions`"""

    prompt: Texts
    best_of: Annotated[int, Field(ge=1, le=_COUNT)] | None = None
    echo: Any = None
    logprobs: Any = None
    suffix: Any = None

    def checked(self) -> tuple[Sequence[str | Sequence[int]], Sampling]:
        """Prompts and sampling.

        Raises:
            BadRequest: a field is set to what no model here can do.
        """
        self.refuse_unsupported(
            best_of=self.best_of not in (None, 1),
            echo=bool(self.echo),
            logprobs=self.logprobs is not None,
            suffix=bool(self.suffix),
        )
        prompts = as_list(self.prompt)
        if not prompts:
            raise BadRequest("prompt: is an empty list; give at least one prompt", field="prompt")
        if self.stream and len(prompts) > 1:
            raise BadRequest(f"prompt: {len(prompts)} prompts; a stream takes one", field="prompt")
        return prompts, self.sampling(self.max_tokens or _COMPLETION_TOKENS)


class Usage(TypedDict):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class EmbeddingUsage(TypedDict):
    """Token counts of embeddings."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingItem(TypedDict):
    """One vector: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingResponse(TypedDict):
    """Answer of `POST /v1/embeddings`."""

    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: EmbeddingUsage


class ChatMessage(TypedDict):
    """A whole answer, or a piece of one."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]


class ChatChoice(TypedDict):
    """One answer (`message`) or a piece of it (`delta`)."""

    index: int
    message: NotRequired[ChatMessage]
    delta: NotRequired[ChatMessage]
    logprobs: None
    finish_reason: Finish | None


class ChatResponse(TypedDict):
    """Answer of `POST /v1/chat/completions`, and each event of its stream."""

    id: str
    object: Literal["chat.completion", "chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: NotRequired[Usage | None]


class CompletionChoice(TypedDict):
    """One completion, or a piece of it."""

    index: int
    text: str
    logprobs: None
    finish_reason: Finish | None


class CompletionResponse(TypedDict):
    """Answer of `POST /v1/completions`, and each event of its stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: NotRequired[Usage | None]


class ModelItem(TypedDict):
    """One model; from `task` on, fields are ours."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    task: str
    digest: str
    variant: str
    engine: str
    max_model_len: int


class ModelList(TypedDict):
    """Answer of `GET /v1/models`."""

    object: Literal["list"]
    data: list[ModelItem]


class ErrorDetail(TypedDict):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(TypedDict):
    """The answer to a request that failed."""

    error: ErrorDetail
