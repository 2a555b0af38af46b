"""The OpenAPI document, made by FastAPI from the endpoints' signatures when it is first asked for.

`api_docs` shows it as a page.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sixways_server.auth import OPEN_PATHS
from sixways_server.routing import Described, Endpoint, Routes

_REFERENCE = "#/components/schemas/{model}"


def install(routes: Routes) -> None:
    """Adds `/openapi.json`."""
    made: list[bytes] = []

    @routes.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> Response:
        """The OpenAPI document."""
        if not made:  # imports FastAPI: off the event loop
            made.append(await asyncio.to_thread(_bytes, routes.described))
        return Response(made[0], media_type="application/json")


def _bytes(described: list[Described]) -> bytes:
    return msgspec.json.encode(openapi_document(described))


def openapi_document(described: list[Described]) -> dict[str, Any]:
    """The document of these routes; every path but the open ones wants a key."""
    from fastapi import FastAPI

    app = FastAPI(title="Sixways", version="1")
    models: dict[str, Any] = {}
    for one in described:
        options = dict(one.options)
        extra: dict[str, Any] = {}
        if "bodies" in options:
            content = _content(options.pop("bodies"), models)
            extra["requestBody"] = {"required": True, "content": content}
        if "headers" in options:
            extra["parameters"] = [
                {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
                for name, text in options.pop("headers").items()
            ]
        options["openapi_extra"] = extra
        app.add_api_route(one.path, _parameters_only(one), methods=[one.method], **options)
    document = app.openapi()
    document["components"]["schemas"].update(models)
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "basic": {"type": "http", "scheme": "basic", "description": "the key as the password"},
    }
    document["security"] = [{"bearer": []}, {"header": []}, {"basic": []}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in OPEN_PATHS:
                operation["security"] = []
            # 422 is FastAPI's own; ours is 400 in the protocol's shape.
            operation["responses"].pop("422", None)
            for response in operation["responses"].values():
                # Errors are JSON, also where the usual answer is not.
                plain = response.get("content", {}).get("text/plain", {})
                if "$ref" in plain.get("schema", {}):
                    response["content"] = {"application/json": plain}
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    return document


def _parameters_only(route: Described) -> Endpoint:
    """The endpoint without `data`, which FastAPI would take for a query parameter."""
    signature = inspect.signature(route.endpoint)
    if "data" not in signature.parameters:
        return route.endpoint

    @functools.wraps(route.endpoint)
    async def shown(*args: Any, **kwargs: Any) -> Any:
        """Is never called: the document is all that is made of it."""

    kept = [one for name, one in signature.parameters.items() if name != "data"]
    shown.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    return shown


def _content(bodies: dict[str, Any], models: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The bodies that a route reads, by content type; the schemas of models go into `models`."""
    from pydantic import BaseModel, TypeAdapter

    content: dict[str, dict[str, Any]] = {}
    for kind, model in bodies.items():
        if model is None:
            content[kind] = {"schema": {"type": "string", "format": "binary"}}
            continue
        schema = TypeAdapter(model).json_schema(ref_template=_REFERENCE)
        models.update(schema.pop("$defs", {}))
        if isinstance(model, type) and issubclass(model, BaseModel):
            models[model.__name__] = schema
            schema = {"$ref": _REFERENCE.format(model=model.__name__)}
        content[kind] = {"schema": schema}
    return content
