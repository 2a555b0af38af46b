"""`/invocations` and `/ping`, where SageMaker and MLflow call, for every protocol at once.

The shape of the body says which protocol it is: `messages` is a chat, `prompt` a completion,
`input` embeddings, `inputs` that are tensors with name, shape and datatype Open Inference V2, and
`inputs`, `instances`, `dataframe_split` or `dataframe_records` MLflow. Answers and errors, streams
too, are those of that protocol.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from sixways_server import sixways_version
from sixways_server.body import off_loop
from sixways_server.engines.base import EmbeddingEngine, Engine, TextEngine
from sixways_server.errors import BadRequest, UnsupportedMedia
from sixways_server.protocols import EVENTS, failures, mlflow, v2
from sixways_server.protocols.openai_types import (
    ChatRequest,
    ChatResponse,
    CompletionRequest,
    CompletionResponse,
    EmbeddingRequest,
    EmbeddingResponse,
    ErrorResponse,
)
from sixways_server.protocols.v2_types import InferRequest, InferResponse, V2Error
from sixways_server.record import record_of
from sixways_server.routing import Routes, parse, shown

if TYPE_CHECKING:
    from sixways_server.registry import Registry

T = TypeVar("T")
_TAGS: list[str | Enum] = ["SageMaker and MLflow"]
_OPENAI = {
    "messages": "/v1/chat/completions",
    "prompt": "/v1/completions",
    "input": "/v1/embeddings",
}
_KINDS: dict[str, tuple[type[Engine], str]] = {
    "/v1/chat/completions": (TextEngine, "write text"),
    "/v1/completions": (TextEngine, "write text"),
    "/v1/embeddings": (EmbeddingEngine, "make embeddings"),
}
_ACCEPTED = (
    "accepted: messages (a chat), prompt (a completion), input (embeddings), inputs (tensors, or "
    "rows), instances, dataframe_split or dataframe_records"
)
_OBJECTS = re.compile(rb"\s*\[\s*\{")
_CHARSET = re.compile(r"charset=\"?([^\s;\"]+)")
_TARGET = "x-amzn-sagemaker-target-model"


class ChatInvocation(ChatRequest):
    """As `POST /v1/chat/completions`; `model` may be left out where there is only one."""

    model: str | None = None  # type: ignore[assignment]


class CompletionInvocation(CompletionRequest):
    """As `POST /v1/completions`; `model` may be left out where there is only one."""

    model: str | None = None  # type: ignore[assignment]


class EmbeddingInvocation(EmbeddingRequest):
    """As `POST /v1/embeddings`; `model` may be left out where there is only one."""

    model: str | None = None  # type: ignore[assignment]


class InferInvocation(InferRequest):
    """As `POST /v2/models/{model}/infer`; `model` may be left out where there is only one."""

    model: str | None = None


class _Named(msgspec.Struct):
    name: str


Invocation = (
    ChatInvocation
    | CompletionInvocation
    | EmbeddingInvocation
    | InferInvocation
    | mlflow.MLflowRequest
)
Answer = (
    ChatResponse | CompletionResponse | EmbeddingResponse | InferResponse | mlflow.MLflowResponse
)
Refused = ErrorResponse | V2Error | mlflow.MLflowError


class Asked(NamedTuple):
    """What a body asks for: its protocol, and the route whose body it is (empty for MLflow)."""

    protocol: str
    path: str


def install(routes: Routes, registry: Registry, max_inputs: int) -> None:
    """Adds the routes of SageMaker and MLflow."""

    @routes.get(
        "/ping",
        response_class=PlainTextResponse,
        tags=_TAGS,
        responses={503: {"description": "Not ready"}},
    )
    async def ping(request: Request) -> Response:
        """200 when every model is loaded and answers; 503 otherwise."""
        return PlainTextResponse("\n", status_code=200 if registry.ready else 503)

    @routes.get(
        "/version",
        response_class=PlainTextResponse,
        tags=_TAGS,
        responses=failures(ErrorResponse, computes=False),
    )
    async def version(request: Request) -> Response:
        """The version of this server."""
        return PlainTextResponse(sixways_version())

    @routes.post(
        "/invocations",
        response_model=Answer,
        tags=_TAGS,
        bodies={"application/json": Invocation, "text/csv": None, v2.SAGEMAKER_BINARY: None},
        headers={_TARGET: "The model, where the body does not name it."},
        responses=failures(
            Refused,
            content={
                **EVENTS,
                v2.SAGEMAKER_BINARY: {"type": "string", "format": "binary"},
            },
        ),
    )
    async def invocations(request: Request, data: bytes) -> Any:
        """Whatever the body asks for: chat, completion, embeddings, tensors, or predictions."""
        record = record_of(request)
        if _is_csv(request):
            record.protocol = "mlflow"
            return await predict(request, mlflow.from_csv, data, None)
        content, _ = v2.split(request, data)
        fields, (record.protocol, path) = await off_loop(len(content), _asked, content)
        name = _name(fields)
        if not path:
            return await predict(request, _from_json, data, name)
        name = name or _target(request)
        if path == v2.INFER:
            inputs = await off_loop(len(content), _inputs, fields) if name is None else []
            engine = registry.choose(name, lambda e: v2.takes(e, inputs), "take these inputs")
            return await routes.answer(path, request, data, model=engine.info.name)
        if "model" not in fields:
            kind, wanted = _KINDS[path]
            engine = registry.choose(name, lambda e: isinstance(e, kind), wanted)
            fields["model"] = msgspec.Raw(msgspec.json.encode(engine.info.name))
            data = msgspec.json.encode(fields)
        return await routes.answer(path, request, data)

    async def predict(
        request: Request, read: Callable[[bytes], mlflow.Given], data: bytes, name: str | None
    ) -> mlflow.MLflowResponse:
        given = await off_loop(len(data), read, data)
        name = name or given.params.model or _target(request)
        return await mlflow.answer(request, registry, given, model=name, max_inputs=max_inputs)


def _from_json(data: bytes) -> mlflow.Given:
    return mlflow.from_json(parse(mlflow.MLflowRequest, data))


def _is_csv(request: Request) -> bool:
    """Whether the body is CSV; otherwise it is JSON, which may have tensors behind it.

    Raises:
        UnsupportedMedia: it is something else.
    """
    given = request.headers.get("content-type", "application/json")
    kind, _, rest = given.lower().partition(";")
    kind, charset = kind.strip(), _CHARSET.search(rest)
    if charset is not None and charset[1] not in ("utf-8", "utf8"):
        kind = ""
    if kind == "text/csv":
        return True
    if kind in ("application/json", v2.SAGEMAKER_BINARY) or v2.header_length(request) is not None:
        return False
    raise UnsupportedMedia(
        f"content-type: {given[:80]!r} is not accepted; accepted: application/json, text/csv, in "
        f"UTF-8, and {v2.SAGEMAKER_BINARY}",
        field="content-type",
    )


def _decoded(data: bytes | msgspec.Raw, kind: type[T]) -> T:
    """JSON as `kind`; a `Raw` within is not looked at yet.

    Raises:
        BadRequest: it is no JSON, or another kind.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(
            f"the body is no such JSON object: {error}; {_ACCEPTED}", code="invalid_json"
        ) from None


def _asked(data: bytes) -> tuple[dict[str, msgspec.Raw], Asked]:
    """The body's fields, and what they ask for."""
    fields = _decoded(data, dict[str, msgspec.Raw])
    for key, path in _OPENAI.items():
        if key in fields:
            return fields, Asked("openai", path)
    if "inputs" in fields and _are_tensors(fields["inputs"]):
        return fields, Asked("v2", v2.INFER)
    if any(key in fields for key in mlflow.KEYS):
        return fields, Asked("mlflow", "")
    given = ", ".join(name[:40] for name in list(fields)[:8]) or "nothing"
    raise BadRequest(f"the body holds {given}; {_ACCEPTED}", code="unknown_shape")


def _are_tensors(inputs: msgspec.Raw) -> bool:
    # Looked at only where it can be so: rows of numbers are many.
    if not _OBJECTS.match(inputs):
        return False
    first = _decoded(inputs, list[dict[str, msgspec.Raw] | msgspec.Raw])[0]
    return isinstance(first, dict) and {"name", "shape", "datatype"} <= first.keys()


def _inputs(fields: Mapping[str, msgspec.Raw]) -> list[str]:
    """The names of the tensors."""
    return [one.name for one in _decoded(fields["inputs"], list[_Named])]


def _name(fields: dict[str, msgspec.Raw]) -> str | None:
    """The model that the body names; a null is taken out."""
    if "model" not in fields:
        return None
    value: Any = _decoded(fields["model"], object)
    if isinstance(value, str):
        return value
    if value is not None:
        raise BadRequest(f"model: {shown(value)} is not accepted; accepted: a text", field="model")
    del fields["model"]
    return None


def _target(request: Request) -> str | None:
    """The model that SageMaker's header names: a name of ours, or an archive called like it."""
    given = request.headers.get(_TARGET)
    return given.strip("/").removesuffix(".tar.gz") if given else None
