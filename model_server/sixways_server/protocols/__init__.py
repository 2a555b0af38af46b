"""Translators between HTTP and the engines, one file a protocol.

Here: errors that happen before a protocol has its turn (no key, unknown path, body too large)
still come in the shape of the protocol that the path belongs to.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from starlette.responses import Response

from sixways_server.errors import RequestError

_READING = (400, 401, 404, 413, 503, 504)
_COMPUTING = (*_READING, 415, 429)
EVENTS: dict[str, Any] = {
    "text/event-stream": {
        "description": "Each event: `data` is the JSON of a piece of the answer; the last: [DONE].",
        "type": "object",
        "properties": {"data": {"type": "string"}},
        "required": ["data"],
    }
}
"""How a stream is described in the OpenAPI document."""
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def protocol_of(path: str) -> str:
    """The protocol a path belongs to, as logs and metrics name it; empty for the server's own.

    Of `/invocations` it is known only once its body is read: `invocations` until then.
    """
    first = path.split("/", 2)[1] if path.startswith("/") else ""
    if first in ("v2", "predict", "graphql", "invocations"):
        return first
    return "openai" if path.startswith("/v1/") else ""


def failures(
    shape: Any, *, computes: bool = True, content: dict[str, Any] | None = None
) -> dict[int | str, dict[str, Any]]:
    """The answers of a route but its usual one, as the OpenAPI document lists them.

    Args:
        shape: what an error of the protocol looks like.
        computes: whether the route reads a body and asks an engine.
        content: further content types of the usual answer, and their schemas.
    """
    found: dict[int | str, dict[str, Any]] = {
        status: {"model": shape} for status in (_COMPUTING if computes else _READING)
    }
    if content:
        found[200] = {"content": {kind: {"schema": schema} for kind, schema in content.items()}}
    return found


def error_body(protocol: str, error: RequestError) -> dict[str, object]:
    """The error in the shape of the protocol."""
    if protocol == "v2":
        return {"error": _with_field(error)}
    if protocol in ("mlflow", "invocations"):
        code = "BAD_REQUEST" if error.status == 400 else error.code.upper()
        return {"error_code": code, "message": _with_field(error)}
    if protocol == "predict":
        detail = {"message": error.message, "field": error.field, "code": error.code}
        return {"error": detail}
    if protocol == "graphql":
        extensions = {"code": error.code, "status": error.status, "field": error.field}
        return {"data": None, "errors": [{"message": error.message, "extensions": extensions}]}
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": error.message,
            "type": _TYPES.get(error.status, kind),
            "param": error.field,
            "code": error.code,
        }
    }


def _with_field(error: RequestError) -> str:
    if error.field and not error.message.startswith(error.field):
        return f"{error.field}: {error.message}"
    return error.message


def error_response(path: str, error: RequestError, protocol: str | None = None) -> Response:
    """The whole answer to a request that failed.

    Args:
        path: the request's path.
        error: what is wrong.
        protocol: its protocol (`Record.protocol`), where more is known than the path says.
    """
    headers = {}
    if error.status == 401:
        headers["www-authenticate"] = 'Bearer realm="sixways"'
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    return Response(
        msgspec.json.encode(error_body(protocol or protocol_of(path), error)),
        status_code=error.status,
        headers=headers,
        media_type="application/json",
    )
