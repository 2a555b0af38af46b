"""The time a request may take: the server's limit, or less where the request says so.

The time runs from the request's headers, so waiting in a queue and reading the body count. What
has not begun to be answered then gets 504, and its work is cancelled as if the client had left.
A stream that has begun has sent its status already: it ends with an error in its own shape.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, TypeVar

from sixways_server.errors import BadRequest, RequestError
from sixways_server.protocols import error_response
from sixways_server.stream import ClientGone

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from sixways_server.record import Record

T = TypeVar("T")
HEADER = "x-request-timeout"
_UNREAD_SECONDS = 5.0
"""Beyond the deadline, until a stream is cut off whose client does not read."""


class DeadlineExceeded(RequestError):
    """504: the request took longer than it may."""

    status = 504
    code = "deadline_exceeded"


class LimitTime:
    """ASGI: ends requests that take too long.

    Args:
        app: what comes next.
        max_seconds: the server's limit; None: none, but for what a request asks for.
    """

    def __init__(self, app: ASGIApp, max_seconds: float | None) -> None:
        self._app = app
        self._max = max_seconds or math.inf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            seconds = min(self._max, _asked(scope["headers"]))
        except RequestError as error:
            await error_response(scope["path"], error)(scope, receive, send)
            return
        if seconds == math.inf:
            await self._app(scope, receive, send)
            return
        record: Record = scope["state"]["record"]
        record.deadline = asyncio.get_running_loop().time() + seconds
        record.seconds_allowed = seconds
        limit = asyncio.timeout_at(record.deadline)
        begun = False

        async def beginning(message: Message) -> None:
            nonlocal begun
            if not begun:
                begun = True
                # From here on `InTime` ends a stream in good order, if only its client reads.
                limit.reschedule(record.deadline + _UNREAD_SECONDS)
            await send(message)

        try:
            async with limit:
                await self._app(scope, receive, beginning)
        except TimeoutError:
            if not limit.expired():
                raise
            if begun:
                raise ClientGone from None
            response = error_response(scope["path"], exceeded(seconds), record.protocol)
            # The rest of a body that came too slowly is not waited for.
            response.headers["connection"] = "close"
            await response(scope, receive, send)


class InTime(AsyncIterator[T]):
    """What a generation brings, as long as the request has time.

    Args:
        chunks: the generation; the wait for its next chunk is cancelled when the time is over.
        record: of the request.

    Raises:
        DeadlineExceeded: the time is over.
    """

    def __init__(self, chunks: AsyncIterator[T], record: Record) -> None:
        self._chunks, self._record = chunks, record

    async def __anext__(self) -> T:
        record = self._record
        if not record.deadline:
            return await anext(self._chunks)
        limit = asyncio.timeout_at(record.deadline)
        try:
            async with limit:
                return await anext(self._chunks)
        except TimeoutError:
            if not limit.expired():
                raise
            record.late = True
            raise exceeded(record.seconds_allowed) from None


def exceeded(seconds: float) -> DeadlineExceeded:
    """What the caller is told."""
    return DeadlineExceeded(
        f"the request took longer than {seconds:g} s; ask for less (shorter inputs, a lower "
        f"max_tokens), allow more ({HEADER}, at most request_seconds of the server), or try "
        "again when the server is less busy"
    )


def _asked(headers: list[tuple[bytes, bytes]]) -> float:
    name = HEADER.encode()
    for header, value in headers:
        if header == name:
            try:
                seconds = float(value)
            except ValueError:
                seconds = 0.0
            if not 0 < seconds < math.inf:
                shown = value.decode("latin-1")[:40]
                raise BadRequest(
                    f"{HEADER}: {shown!r} is not accepted; accepted: seconds, a number over 0 "
                    "such as 2.5; or leave it out",
                    field=HEADER,
                )
            return seconds
    return math.inf
