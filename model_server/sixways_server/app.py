"""Puts the server together: protocols over engines, and in front of them key, limits, record."""

from __future__ import annotations

import asyncio
from types import ModuleType

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from sixways_bundle.errors import MissingExtra
from sixways_server import api_docs, console, document
from sixways_server.auth import KeyStore, RequireKey
from sixways_server.deadline import LimitTime
from sixways_server.errors import RequestError
from sixways_server.limits import LimitBody
from sixways_server.metrics import Metrics
from sixways_server.protocols import error_response, invocations, openai, predict, v2
from sixways_server.record import KeepRecord, record_of
from sixways_server.registry import Registry
from sixways_server.routing import Routes
from sixways_server.tracing import Tracing


def create_app(
    registry: Registry,
    keys: KeyStore,
    metrics: Metrics,
    *,
    max_body_bytes: int,
    max_inputs: int,
    request_seconds: float | None = None,
    with_console: bool = True,
    with_graphql: bool = False,
    tracing: Tracing | None = None,
) -> Starlette:
    """The ASGI application.

    Args:
        registry: the models, which may still be loading.
        keys: who may call.
        metrics: where requests are counted.
        max_body_bytes: a larger body is refused with 413.
        max_inputs: texts or prompts one request may hold.
        request_seconds: longest time a request may take; None or 0: no limit.
        with_console: whether `/` shows the console page.
        with_graphql: whether `/graphql` is served.
        tracing: where spans of requests go; None: nowhere.

    Raises:
        MissingExtra: GraphQL is asked for and not installed.
    """
    routes = Routes(max_body_bytes)
    _install_health(routes, registry, metrics)
    openai.install(routes, registry, max_inputs)
    v2.install(routes, registry, max_inputs)
    invocations.install(routes, registry, max_inputs)
    predict.install(routes, registry, max_inputs)
    if with_graphql:
        _graphql().install(routes, registry, max_inputs)
    console.install(routes, registry, metrics, page=with_console)
    document.install(routes)
    api_docs.install(routes)
    app = Starlette(
        routes=routes.served(),
        middleware=[
            Middleware(KeepRecord, metrics=metrics, tracing=tracing),
            Middleware(RequireKey, keys=keys),
            Middleware(LimitTime, max_seconds=request_seconds),
            Middleware(LimitBody, max_bytes=max_body_bytes),
        ],
        exception_handlers={RequestError: _answer_error, HTTPException: _answer_error},
    )
    app.router.redirect_slashes = False
    return app


def _graphql() -> ModuleType:
    try:
        from sixways_server.protocols import graphql
    except ImportError as error:
        raise MissingExtra(f"graphql: true ({error.name} is missing)", "graphql") from None
    return graphql


def _install_health(routes: Routes, registry: Registry, metrics: Metrics) -> None:
    @routes.get("/healthz", response_class=PlainTextResponse, tags=["Server"])
    async def healthz(request: Request) -> Response:
        """200 while the process answers."""
        return PlainTextResponse("ok\n")

    @routes.get(
        "/readyz",
        response_class=PlainTextResponse,
        tags=["Server"],
        responses={503: {"description": "Not ready"}},
    )
    async def readyz(request: Request) -> Response:
        """200 when every model is loaded and answers; 503 otherwise and after SIGTERM."""
        if registry.ready:
            return PlainTextResponse("ready\n")
        reason = "draining" if registry.draining else "broken" if registry.broken else "loading"
        return PlainTextResponse(reason + "\n", status_code=503, headers={"retry-after": "1"})

    @routes.get("/metrics", response_class=PlainTextResponse, tags=["Server"])
    async def prometheus(request: Request) -> Response:
        """All metrics in Prometheus' text format."""
        # Asks the kernel about every process of the server, and reads the files of all workers.
        text = await asyncio.to_thread(metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def _answer_error(request: Request, error: Exception) -> Response:
    path, protocol = request.url.path, record_of(request).protocol
    if isinstance(error, HTTPException):
        codes = {404: "not_found", 405: "method_not_allowed"}
        response = error_response(
            path,
            RequestError(
                f"{request.method} {path[:200]}: {error.detail}",
                status=error.status_code,
                code=codes.get(error.status_code, "http_error"),
            ),
            protocol,
        )
        response.headers.update(error.headers or {})
        return response
    if not isinstance(error, RequestError):
        raise error
    return error_response(path, error, protocol)
