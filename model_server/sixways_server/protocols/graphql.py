"""GraphQL over the same interface: `POST /graphql`, where the configuration says `graphql: true`.

All fields are queries: computing changes nothing here. A request is bounded in tokens and aliases
(no type holds itself, so depth needs no bound of its own; graphql-core bounds introspection). There
is no page to try it (it would load scripts from elsewhere), and introspection needs a key like
everything else. A vector is one scalar, not a list of numbers to be looked at one by one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NewType, NotRequired, TypeVar

import msgspec
import strawberry
from graphql import GraphQLError
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from strawberry.exceptions import MissingQueryError
from strawberry.extensions import MaxAliasesLimiter, MaxTokensLimiter
from strawberry.scalars import JSON
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import Info
from strawberry.types.graphql import OperationType
from typing_extensions import TypedDict

from sixways_server import operations
from sixways_server.engines.base import EmbeddingEngine, Engine, TensorEngine, TextEngine
from sixways_server.errors import BadRequest, RequestError
from sixways_server.protocols import failures, plain
from sixways_server.protocols.generation import Generation, Strict
from sixways_server.record import Record, record_of
from sixways_server.registry import Registry
from sixways_server.routing import Routes, bad_request
from sixways_server.stream import CLIENT_GONE, until_gone

if TYPE_CHECKING:
    from strawberry.types import ExecutionContext, ExecutionResult

_MOST_TOKENS = 1000
_MOST_ALIASES = 8
E = TypeVar("E", bound=Engine)
_log = logging.getLogger("sixways.graphql")


class GraphQLRequest(Strict):
    """`POST /graphql`"""

    query: str
    variables: dict[str, Any] | None = None
    operationName: str | None = None  # noqa: N815 - the protocol's spelling


class GraphQLExtensions(TypedDict):
    """A stable word for it, the HTTP status that it would have elsewhere, and what is wrong."""

    code: str
    status: int
    field: str | None


class GraphQLErrorItem(TypedDict):
    """What went wrong, and in which field of the query."""

    message: str
    locations: NotRequired[list[dict[str, int]]]
    path: NotRequired[list[str | int]]
    extensions: GraphQLExtensions


class GraphQLResponse(TypedDict):
    """Data, and what went wrong."""

    data: dict[str, Any] | None
    errors: NotRequired[list[GraphQLErrorItem]]


@dataclass(frozen=True)
class _Context:
    registry: Registry
    max_inputs: int
    record: Record

    @contextmanager
    def part(self) -> Generator[Record, None, None]:
        """A record for one field: it counts for itself, as a request may ask several models."""
        record = replace(self.record, started=time.perf_counter(), model="", operation="", status=0)
        try:
            yield record
            record.status = 200
        except RequestError as error:
            record.status = error.status
            raise
        except asyncio.CancelledError:  # its client left, or its time is over
            record.status = CLIENT_GONE
            raise
        except Exception:
            record.status = 500
            raise
        finally:
            record.finish()


Vector = NewType("Vector", list[float])
_Info = Info[_Context, None]


@strawberry.type(description="A model that is served here.")
class Model:
    """A model that is served here."""

    name: str
    task: str
    digest: str
    variant: str
    engine: str
    max_tokens: int
    dimensions: int
    ready: bool


@strawberry.type(description="One vector for each input, and the tokens that were read.")
class Embedded:
    """One vector for each input, and the tokens that were read."""

    model: str
    vectors: list[Vector]
    tokens: int


@strawberry.type(description="What a language model wrote; finishReason: stop or length.")
class Written:
    """What a language model wrote."""

    model: str
    text: str
    tokens: int
    finish_reason: str


@strawberry.type(description="The outputs of a model over tensors, by name.")
class Inferred:
    """The outputs of a model over tensors."""

    model: str
    outputs: JSON


@strawberry.input(description="One message of a chat; role: system, user or assistant.")
class Message:
    """One message of a chat."""

    role: str
    content: str


@strawberry.input(description="How to choose tokens; left out: greedy, up to 256 tokens.")
class Options:
    """How to choose tokens."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: list[str] | None = None


def _models(info: _Info) -> list[Model]:
    """The models that are loaded."""
    return [
        Model(
            name=engine.info.name,
            task=engine.info.task,
            digest=engine.info.digest,
            variant=engine.info.variant,
            engine=engine.info.engine,
            max_tokens=engine.info.max_tokens,
            dimensions=engine.info.dimensions,
            ready=engine.ready,
        )
        for engine in info.context.registry.engines
    ]


async def _embed(info: _Info, texts: list[str], model: str | None = None) -> Embedded:
    """A vector for each text."""
    given = info.context
    engine = _chosen(given, model, EmbeddingEngine, "make embeddings")  # type: ignore[type-abstract]
    with given.part() as record:
        record.operation = "embeddings"
        result = await operations.embed(record, engine, texts, given.max_inputs)
    vectors = [Vector(row) for row in result.vectors.tolist()]
    return Embedded(model=engine.info.name, vectors=vectors, tokens=result.tokens)


async def _chat(
    info: _Info,
    messages: list[Message],
    model: str | None = None,
    options: Options | None = None,
) -> Written:
    """A language model's answer to a chat."""
    given = info.context
    engine = _chosen(given, model, TextEngine, "write text")  # type: ignore[type-abstract]
    told = plain.messages([{"role": m.role, "content": m.content} for m in messages], "messages")
    sampling = _generation(options).sampling(engine.info)
    with given.part() as record:
        record.operation = "chat"
        record.begin(engine.info.name)
        prompt = await operations.chat_prompt(engine, told, sampling)
        done = await operations.complete(record, engine, prompt, sampling)
    return _written(engine, done)


async def _complete(
    info: _Info,
    prompts: list[str],
    model: str | None = None,
    options: Options | None = None,
) -> list[Written]:
    """What follows each prompt."""
    given = info.context
    engine = _chosen(given, model, TextEngine, "write text")  # type: ignore[type-abstract]
    sampling = _generation(options).sampling(engine.info)
    with given.part() as record:
        record.operation = "text_completion"
        record.begin(engine.info.name)
        ready = await operations.text_prompts(engine, prompts, sampling, given.max_inputs)
        done = await operations.complete_all(record, engine, ready, sampling)
    return [_written(engine, one) for one in done]


async def _infer(info: _Info, inputs: JSON, model: str | None = None) -> Inferred:
    """The outputs of a model over tensors."""
    given = info.context
    engine = _chosen(given, model, TensorEngine, "compute on numbers")  # type: ignore[type-abstract]
    with given.part() as record:
        outputs = await plain.outputs(record, engine, inputs, "inputs")
    return Inferred(model=engine.info.name, outputs=JSON(outputs))


@strawberry.type(description="What can be asked.")
class Query:
    """What can be asked."""

    models: list[Model] = strawberry.field(
        resolver=_models, description="The models that are loaded."
    )
    embed: Embedded | None = strawberry.field(
        resolver=_embed, description="A vector for each text."
    )
    chat: Written | None = strawberry.field(
        resolver=_chat, description="A language model's answer to a chat."
    )
    complete: list[Written] | None = strawberry.field(
        resolver=_complete, description="What follows each prompt."
    )
    infer: Inferred | None = strawberry.field(
        resolver=_infer,
        description="The outputs of a model over tensors; inputs: rows, or inputs by name.",
    )


class _Schema(strawberry.Schema):
    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        """Logs what is no fault of the caller."""
        for error in errors:
            cause = error.original_error
            if not (cause is None or isinstance(cause, RequestError | GraphQLError)):
                _log.error("a field failed", exc_info=cause)


def install(routes: Routes, registry: Registry, max_inputs: int) -> None:
    """Adds the route of this protocol."""
    schema = _Schema(
        Query,
        extensions=[
            lambda: MaxTokensLimiter(max_token_count=_MOST_TOKENS),
            lambda: MaxAliasesLimiter(max_alias_count=_MOST_ALIASES),
        ],
        config=StrawberryConfig(
            scalar_map={
                Vector: strawberry.scalar(
                    name="Vector", description="A list of numbers.", serialize=lambda row: row
                )
            }
        ),
    )

    @routes.post(
        "/graphql",
        response_model=GraphQLResponse,
        tags=["GraphQL"],
        responses=failures(GraphQLResponse),
    )
    async def graphql(request: Request, body: GraphQLRequest) -> Response:
        """Models and what they compute; 400 where the query itself is wrong."""
        context = _Context(registry, max_inputs, record_of(request))
        work = schema.execute(
            body.query,
            variable_values=body.variables,
            context_value=context,
            operation_name=body.operationName,
            allowed_operation_types=[OperationType.QUERY],
        )
        try:
            result = await until_gone(request.receive, work)
        except (MissingQueryError, CannotGetOperationTypeError, InvalidOperationTypeError):
            raise BadRequest(
                "query: holds no query to run, or none of the name in operationName; mutations "
                "and subscriptions there are none",
                field="query",
                code="invalid_query",
            ) from None
        content: dict[str, Any] = {"data": result.data}
        if result.errors:
            content["errors"] = [_error(error) for error in result.errors]
        return Response(
            msgspec.json.encode(content),
            status_code=400 if _never_ran(result) else 200,
            media_type="application/json",
        )


def _never_ran(result: ExecutionResult) -> bool:
    """Whether the query was refused as a whole, before any field."""
    return result.data is None and not any(error.path for error in result.errors or ())


def _error(error: GraphQLError) -> dict[str, Any]:
    cause = error.original_error
    shown: dict[str, Any] = {"message": error.message}
    if error.locations:
        shown["locations"] = [{"line": at.line, "column": at.column} for at in error.locations]
    if error.path:
        shown["path"] = error.path
    if isinstance(cause, RequestError):
        code, status, field = cause.code, cause.status, cause.field
    elif cause is None or isinstance(cause, GraphQLError):
        code, status, field = "invalid_query", 400, None
    else:
        shown["message"] = "the server failed on this field"
        code, status, field = "internal", 500, None
    return {**shown, "extensions": {"code": code, "status": status, "field": field}}


def _chosen(given: _Context, name: str | None, kind: type[E], wanted: str) -> E:
    engine = given.registry.choose(name, lambda one: isinstance(one, kind), wanted)
    if not isinstance(engine, kind):
        raise BadRequest(
            f"model: {engine.info.name!r} cannot {wanted} (its task is {engine.info.task})",
            field="model",
        )
    return engine


def _generation(options: Options | None) -> Generation:
    given = {} if options is None else asdict(options)
    try:
        return Generation.model_validate({k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        raise bad_request(error) from None


def _written(engine: Engine, done: operations.Completion) -> Written:
    return Written(
        model=engine.info.name,
        text=done.text,
        tokens=done.tokens,
        finish_reason=done.finish_reason,
    )
