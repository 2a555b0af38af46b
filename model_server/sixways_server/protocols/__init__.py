"""Translators between HTTP and the engines, one file a protocol.

Here: errors that happen before a protocol has its turn (no key, unknown path, body too large)
still come in the shape of the protocol that the path belongs to.
"""

from __future__ import annotations

import math

import msgspec
from starlette.responses import Response

from sixways_server.errors import RequestError

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def protocol_of(path: str) -> str:
    """The protocol a path belongs to, as logs and metrics name it; empty for the server's own."""
    if path == "/v2" or path.startswith("/v2/"):
        return "v2"
    return "openai" if path.startswith("/v1/") else ""


def error_body(path: str, error: RequestError) -> dict[str, object]:
    """The error in the shape of the protocol that `path` belongs to."""
    if protocol_of(path) == "v2":
        where = (
            f"{error.field}: " if error.field and not error.message.startswith(error.field) else ""
        )
        return {"error": f"{where}{error.message}"}
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": error.message,
            "type": _TYPES.get(error.status, kind),
            "param": error.field,
            "code": error.code,
        }
    }


def error_response(path: str, error: RequestError) -> Response:
    """The whole answer to a request that failed."""
    headers = {}
    if error.status == 401:
        headers["www-authenticate"] = 'Bearer realm="sixways"'
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    return Response(
        msgspec.json.encode(error_body(path, error)),
        status_code=error.status,
        headers=headers,
        media_type="application/json",
    )
