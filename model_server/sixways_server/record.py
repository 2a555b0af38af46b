"""What is remembered of one request: for its log line, the metrics and the console.

No content and no key is ever part of it.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request

from sixways_server.errors import RequestError
from sixways_server.protocols import error_response, protocol_of
from sixways_server.stream import CLIENT_GONE, ClientGone

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from sixways_server.metrics import Metrics
    from sixways_server.tracing import Tracing

_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_QUIET = frozenset({"/healthz", "/readyz", "/metrics", "/ping", "/console.json"})
"""Polled all the time: logged only when they fail."""
_access = logging.getLogger("sixways.access")
_log = logging.getLogger("sixways.server")


@dataclass(slots=True)
class Record:
    """One request.

    Attributes:
        request_id: the caller's X-Request-Id, or one of ours.
        started: `time.perf_counter()` when its headers were read.
        model: the model's name once it is known to be one of ours.
        protocol: `openai`, `v2` … (`protocols.protocol_of`); empty for the server's own paths.
        operation: as OpenTelemetry names it (`chat`, `text_completion`, `embeddings`).
        tokens_in, tokens_out: tokens read and made.
        first_token, last_token: `time.perf_counter()` of the first and last piece of text.
        status: the HTTP status, 499 when the client went away, 500 when a stream broke, 504 when
            it broke because its time was over.
        deadline: the event loop's time at which it must be answered; 0: no limit.
        seconds_allowed: the seconds that were until then.
    """

    request_id: str
    metrics: Metrics
    started: float = field(default_factory=time.perf_counter)
    model: str = ""
    protocol: str = ""
    operation: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    first_token: float = 0.0
    last_token: float = 0.0
    status: int = 0
    broken: bool = False
    late: bool = False
    deadline: float = 0.0
    seconds_allowed: float = 0.0
    ended: float = 0.0

    def begin(self, model: str) -> None:
        """The request is for this model and passed its checks; it now counts as running."""
        self.model = model
        self.metrics.running(model, 1)

    def tokens(self, count: int) -> None:
        """A piece of text of so many tokens was made."""
        self.last_token = time.perf_counter()
        self.first_token = self.first_token or self.last_token
        self.tokens_out += count

    @property
    def seconds(self) -> float:
        """From the headers of the request to the end of the answer."""
        return self.ended - self.started

    def finish(self) -> None:
        """The answer is complete, or never will be."""
        self.ended = time.perf_counter()
        if self.model:
            self.metrics.running(self.model, -1)
        if self.counts:
            self.metrics.finished(self)

    @property
    def counts(self) -> bool:
        """Whether it was about a model, or failed: what is polled is neither counted nor traced."""
        return bool(self.protocol and (self.operation or self.status >= 400))


def record_of(request: Request) -> Record:
    """The record of this request."""
    record: Record = request.scope["state"]["record"]
    return record


class KeepRecord:
    """ASGI: makes the record, answers with its X-Request-Id; at the end counts, logs, traces it."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = Record(
            _request_id(scope["headers"]), self._metrics, protocol=protocol_of(scope["path"])
        )
        scope.setdefault("state", {})["record"] = record
        header = (b"x-request-id", record.request_id.encode("ascii"))
        started = False

        async def named(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                record.status = message["status"]
                message["headers"] = [*message["headers"], header]
            await send(message)

        try:
            await self._app(scope, receive, named)
        except (ClientGone, ClientDisconnect):  # the latter: before its body was read
            record.status = CLIENT_GONE
        except Exception:
            # Raised further, uvicorn would cut the connection, and whoever asks next over it
            # would get no answer. The caller learns no internals: those stand in the log.
            _log.exception("request %s failed", record.request_id)
            record.broken = True
            if started:
                raise
            error = RequestError("the server failed on this request", status=500, code="internal")
            await error_response(scope["path"], error, record.protocol)(scope, receive, named)
        finally:
            if record.broken:
                record.status = 504 if record.late else 500
            record.finish()
            _log_line(scope, record)
            if self._tracing is not None and record.counts:
                self._tracing.request(scope, record)


def _request_id(headers: list[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        # Anything else could forge lines in a log.
        if name == b"x-request-id" and _ID.fullmatch(value):
            return value.decode("ascii")
    return secrets.token_hex(8)


def _log_line(scope: Scope, record: Record) -> None:
    if scope["path"] in _QUIET and record.status < 400:
        return
    level = logging.ERROR if record.status >= 500 else logging.INFO
    if not _access.isEnabledFor(level):
        return
    route = scope.get("route")
    _access.log(
        level,
        "request",
        extra={
            "fields": {
                "request_id": record.request_id,
                "key": scope["state"].get("key_name"),
                "method": scope["method"],
                # The route, not the path: a path is the caller's text.
                "route": getattr(route, "path", None),
                "model": record.model or None,
                "status": record.status,
                "ms": round(record.seconds * 1000, 2),
                "tokens_in": record.tokens_in,
                "tokens_out": record.tokens_out,
            }
        },
    )
