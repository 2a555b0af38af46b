"""The OpenAPI document, made by FastAPI from the endpoints' signatures when it is first asked for.

There are no documentation pages: they would load scripts from elsewhere.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sixways_server.auth import OPEN_PATHS
from sixways_server.routing import Described, Routes


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
    for one in described:
        app.add_api_route(one.path, one.endpoint, methods=[one.method], **one.options)
    document = app.openapi()
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    document["security"] = [{"bearer": []}, {"header": []}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in OPEN_PATHS:
                operation["security"] = []
            # 422 is FastAPI's own; ours is 400 in the protocol's shape.
            operation["responses"].pop("422", None)
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    return document
