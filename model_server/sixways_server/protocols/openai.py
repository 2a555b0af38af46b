"""The OpenAI protocol: chat and text completions (streaming too), embeddings, models."""

from __future__ import annotations

import base64
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sixways_server import operations
from sixways_server.engines.base import Chunk, Engine, Prompt
from sixways_server.errors import BadRequest, RequestError
from sixways_server.protocols import EVENTS, error_body, failures
from sixways_server.protocols.openai_types import (
    ChatRequest,
    ChatResponse,
    CompletionRequest,
    CompletionResponse,
    EmbeddingRequest,
    EmbeddingResponse,
    ErrorResponse,
    ModelItem,
    ModelList,
    Usage,
    as_list,
)
from sixways_server.record import Record, record_of
from sixways_server.routing import Routes
from sixways_server.stream import EventStream, until_gone

if TYPE_CHECKING:
    from sixways_server.registry import Registry

_DONE = b"data: [DONE]\n\n"
_log = logging.getLogger("sixways.openai")


def install(routes: Routes, registry: Registry, max_inputs: int) -> None:
    """Adds the routes of this protocol."""
    shared: dict[str, Any] = {"tags": ["OpenAI"]}
    read = failures(ErrorResponse, computes=False)
    streamed = failures(ErrorResponse, content=EVENTS)

    def begin(request: Request, operation: str) -> Record:
        record = record_of(request)
        record.operation = operation
        return record

    @routes.get("/v1/models", response_model=ModelList, **shared, responses=read)
    async def list_models(request: Request) -> ModelList:
        """The models served here."""
        return {"object": "list", "data": [_item(e, registry) for e in registry.engines]}

    @routes.get("/v1/models/{model}", response_model=ModelItem, **shared, responses=read)
    async def get_model(request: Request, model: str) -> ModelItem:
        """One model."""
        return _item(registry.get(model), registry)

    @routes.post(
        "/v1/embeddings",
        response_model=EmbeddingResponse,
        **shared,
        responses=failures(ErrorResponse),
    )
    async def embeddings(request: Request, body: EmbeddingRequest) -> EmbeddingResponse:
        """One vector for each input text or list of token ids."""
        record = begin(request, "embeddings")
        engine = registry.embedding(body.model)
        width = engine.info.dimensions
        if body.dimensions not in (None, width):
            raise BadRequest(
                f"dimensions: {body.dimensions} is not accepted; {body.model!r} makes {width} "
                "and was not trained to be cut; leave it out",
                field="dimensions",
            )
        result = await until_gone(
            request.receive, operations.embed(record, engine, as_list(body.input), max_inputs)
        )
        vectors: list[Any]
        if body.encoding_format == "base64":
            rows = result.vectors.astype("<f4", copy=False)
            vectors = [base64.b64encode(row.tobytes()).decode("ascii") for row in rows]
        else:
            vectors = result.vectors.tolist()
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": vector}
                for index, vector in enumerate(vectors)
            ],
            "model": body.model,
            "usage": {"prompt_tokens": result.tokens, "total_tokens": result.tokens},
        }

    @routes.post("/v1/chat/completions", response_model=ChatResponse, **shared, responses=streamed)
    async def chat(request: Request, body: ChatRequest) -> ChatResponse | Response:
        """The next message of a chat; with `stream`, piece by piece as server-sent events."""
        record = begin(request, "chat")
        engine = registry.text(body.model)
        record.begin(engine.info.name)
        messages, sampling = body.checked()
        prompt = await operations.chat_prompt(engine, messages, sampling)
        head = _head("chatcmpl", engine)
        if body.stream:
            chunks = operations.generate(record, engine, prompt, sampling)
            head["object"] = "chat.completion.chunk"
            return await _stream(request, record, body.wants_usage, head, prompt, chunks, _delta)
        done = await until_gone(
            request.receive, operations.complete(record, engine, prompt, sampling)
        )
        message = {"role": "assistant", "content": done.text, "refusal": None}
        choice = {
            "index": 0, "message": message, "logprobs": None, "finish_reason": done.finish_reason
        }  # fmt: skip
        usage = _usage(prompt, done.tokens)
        return Response(
            msgspec.json.encode({**head, "choices": [choice], "usage": usage}),
            media_type="application/json",
        )

    @routes.post("/v1/completions", response_model=CompletionResponse, **shared, responses=streamed)
    async def completions(
        request: Request, body: CompletionRequest
    ) -> CompletionResponse | Response:
        """What follows each prompt; with `stream`, piece by piece as server-sent events."""
        record = begin(request, "text_completion")
        engine = registry.text(body.model)
        record.begin(engine.info.name)
        texts, sampling = body.checked()
        prompts = await operations.text_prompts(engine, texts, sampling, max_inputs)
        head = _head("cmpl", engine)
        if body.stream:
            chunks = operations.generate(record, engine, prompts[0], sampling)
            return await _stream(
                request, record, body.wants_usage, head, prompts[0], chunks, _piece
            )

        done = await until_gone(
            request.receive, operations.complete_all(record, engine, prompts, sampling)
        )
        choices = [
            {"index": i, "text": d.text, "logprobs": None, "finish_reason": d.finish_reason}
            for i, d in enumerate(done)
        ]
        read, made = sum(len(p.token_ids) for p in prompts), sum(d.tokens for d in done)
        usage = {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}
        return Response(
            msgspec.json.encode({**head, "choices": choices, "usage": usage}),
            media_type="application/json",
        )


async def _stream(
    request: Request,
    record: Record,
    with_usage: bool,
    head: Mapping[str, object],
    prompt: Prompt,
    chunks: AsyncGenerator[Chunk, None],
    choice: Callable[[Chunk, bool], dict[str, object]],
) -> EventStream:
    # The first chunk is awaited here, so that an error before it still has its own status.
    first = await until_gone(request.receive, _next(chunks))
    encode = msgspec.json.Encoder().encode
    null_usage = {"usage": None} if with_usage else {}

    def event(content: Mapping[str, object]) -> bytes:
        return b"data: " + encode({**head, **content}) + b"\n\n"

    async def events() -> AsyncGenerator[bytes, None]:
        made = 0
        chunk: Chunk | None = first
        opening = True
        async with aclosing(chunks):
            try:
                while chunk is not None:
                    made += chunk.tokens
                    if chunk.text or chunk.finish_reason or opening:
                        yield event({"choices": [choice(chunk, opening)], **null_usage})
                        opening = False
                    chunk = await _next(chunks)
            except Exception as error:
                # The status is sent: all that is left is to say it inside the stream.
                record.broken = True
                if not isinstance(error, RequestError):
                    _log.exception("a stream broke")
                    error = RequestError("the engine failed", status=500, code="engine_failed")
                yield b"data: " + encode(error_body("openai", error)) + b"\n\n"
                return
            if with_usage:
                yield event({"choices": [], "usage": _usage(prompt, made)})
            yield _DONE

    return EventStream(events())


async def _next(chunks: AsyncGenerator[Chunk, None]) -> Chunk | None:
    return await anext(chunks, None)


def _delta(chunk: Chunk, opening: bool) -> dict[str, object]:
    delta = {"role": "assistant", "content": chunk.text} if opening else {"content": chunk.text}
    if not opening and not chunk.text:
        delta = {}
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": chunk.finish_reason}


def _piece(chunk: Chunk, opening: bool) -> dict[str, object]:
    return {
        "index": 0, "text": chunk.text, "logprobs": None, "finish_reason": chunk.finish_reason
    }  # fmt: skip


def _head(prefix: str, engine: Engine) -> dict[str, object]:
    return {
        "id": f"{prefix}-{secrets.token_hex(12)}",
        "object": "chat.completion" if prefix == "chatcmpl" else "text_completion",
        "created": int(time.time()),
        "model": engine.info.name,
        # Equal fingerprints: same bundle and variant, so a seed gives the same answer.
        "system_fingerprint": f"fp_{engine.info.digest[-12:]}_{engine.info.variant}",
    }


def _usage(prompt: Prompt, made: int) -> Usage:
    read = len(prompt.token_ids)
    return {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}


def _item(engine: Engine, registry: Registry) -> ModelItem:
    info = engine.info
    return {
        "id": info.name,
        "object": "model",
        "created": registry.created,
        "owned_by": "sixways",
        "task": info.task,
        "digest": info.digest,
        "variant": info.variant,
        "engine": info.engine,
        "max_model_len": info.max_tokens,
    }
