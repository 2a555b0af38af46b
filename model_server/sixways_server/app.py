"""Puts the server together: protocols over engines, and in front of them key, limits, record."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from sixways_server import console
from sixways_server.auth import OPEN_PATHS, KeyStore, RequireKey
from sixways_server.errors import RequestError
from sixways_server.limits import LimitBody
from sixways_server.metrics import Metrics
from sixways_server.protocols import error_response, openai, v2
from sixways_server.record import KeepRecord
from sixways_server.registry import Registry
from sixways_server.routing import JSONRoute


def create_app(
    registry: Registry,
    keys: KeyStore,
    metrics: Metrics,
    *,
    max_body_bytes: int,
    max_inputs: int,
    with_console: bool = True,
) -> FastAPI:
    """The ASGI application.

    Args:
        registry: the models, which may still be loading.
        keys: who may call.
        metrics: where requests are counted.
        max_body_bytes: a larger body is refused with 413.
        max_inputs: texts or prompts one request may hold.
        with_console: whether `/` shows the console page.
    """
    # No documentation pages: they would load scripts from elsewhere. The document itself stays.
    app = FastAPI(title="Sixways", docs_url=None, redoc_url=None, redirect_slashes=False)
    app.router.route_class = JSONRoute
    _install_health(app, registry, metrics)
    openai.install(app, registry, max_inputs)
    v2.install(app, registry, max_inputs)
    console.install(app, registry, metrics, page=with_console)
    app.add_exception_handler(RequestError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_error)
    # The last one added is the first one asked.
    app.add_middleware(LimitBody, max_bytes=max_body_bytes)
    app.add_middleware(RequireKey, keys=keys)
    app.add_middleware(KeepRecord, metrics=metrics)
    _describe_keys(app)
    return app


def _install_health(app: FastAPI, registry: Registry, metrics: Metrics) -> None:
    @app.get("/healthz", response_class=PlainTextResponse, tags=["Server"])
    async def healthz(request: Request) -> Response:
        """200 while the process answers."""
        return PlainTextResponse("ok\n")

    @app.get("/readyz", response_class=PlainTextResponse, tags=["Server"])
    async def readyz(request: Request) -> Response:
        """200 when every model is loaded; 503 before that and after SIGTERM."""
        if registry.ready:
            return PlainTextResponse("ready\n")
        reason = "draining" if registry.draining else "loading"
        return PlainTextResponse(reason + "\n", status_code=503, headers={"retry-after": "1"})

    @app.get("/metrics", response_class=PlainTextResponse, tags=["Server"])
    async def prometheus(request: Request) -> Response:
        """All metrics in Prometheus' text format."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _answer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        codes = {404: "not_found", 405: "method_not_allowed"}
        response = error_response(
            request.url.path,
            RequestError(
                f"{request.method} {request.url.path[:200]}: {error.detail}",
                status=error.status_code,
                code=codes.get(error.status_code, "http_error"),
            ),
        )
        response.headers.update(error.headers or {})
        return response
    if not isinstance(error, RequestError):
        raise error
    return error_response(request.url.path, error)


def _describe_keys(app: FastAPI) -> None:
    """Adds to the OpenAPI document what the middleware does: keys, but on open paths."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["bearer"] = {"type": "http", "scheme": "bearer"}
        schemes["header"] = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
        document["security"] = [{"bearer": []}, {"header": []}]
        for path, operations in document["paths"].items():
            for operation in operations.values():
                if path in OPEN_PATHS:
                    operation["security"] = []
                # 422 is FastAPI's own; ours is 400 in the protocol's shape.
                operation["responses"].pop("422", None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
