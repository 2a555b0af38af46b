"""Refuses bodies that are too large, without reading them to their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sixways_server.errors import BadRequest, BodyTooLarge, RequestError
from sixways_server.protocols import error_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class LimitBody:
    """ASGI: 413 by Content-Length before the body is read, or while a chunked one comes in.

    Args:
        app: what comes next.
        max_bytes: the largest body that is read.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check_declared(scope["headers"])
        except RequestError as error:
            await error_response(scope["path"], error)(scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self._max:
                    raise self._too_large(f"more than {self._max}")
            return message

        await self._app(scope, counted, send)

    def _check_declared(self, headers: list[tuple[bytes, bytes]]) -> None:
        for name, value in headers:
            if name == b"content-length":
                if not value.isdigit():
                    raise BadRequest("not a whole number", field="content-length")
                if int(value) > self._max:
                    raise self._too_large(value.decode("ascii"))

    def _too_large(self, size: str) -> BodyTooLarge:
        return BodyTooLarge(
            f"the body has {size} bytes; at most {self._max} are read. "
            "Send fewer inputs a request, or raise max_body_bytes of the server"
        )
