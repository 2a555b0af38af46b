"""uvicorn, with an end that no client notices.

On SIGTERM the process stops accepting at once. What is in flight is answered; further requests
on open connections are answered too, with `Connection: close`. Idle connections stay open a
little longer than HTTP clients keep theirs, so that no client writes into a connection that is
being closed under its hands. Where the listening socket is shared with a successor (see
`handover`), new connections wait in the same queue and are accepted there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Generator
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

if TYPE_CHECKING:
    from starlette.types import ASGIApp

KEEP_ALIVE_SECONDS = 75
"""Longer than proxies and clients keep idle connections, so that they close first."""
_MAX_HEAD_BYTES = 64 * 1024
_HEAD_SECONDS = 20.0
"""From a connection's beginning, or a request's first byte, to the end of the request's head."""
_TICK = 0.02
_log = logging.getLogger("sixways.server")


class DrainState(ServerState):
    """What all connections know of the server."""

    def __init__(self, max_discarded: int) -> None:
        super().__init__()
        self.draining = False
        self.max_discarded = max_discarded


class DrainingProtocol(HttpToolsProtocol):
    """A connection that knows when the server drains, and bounds what it reads for nothing."""

    server_state: DrainState

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.idle_since = time.monotonic()
        self._head = 0
        self._in_head = True
        self._discarded = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected; its first request is due."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended."""
        self._have_head()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        # Without it a client that says nothing, or a byte now and then, holds its place for ever.
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _have_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    @property
    def busy(self) -> bool:
        """Whether a request is being read or answered."""
        return (self.cycle is not None and not self.cycle.response_complete) or self._head > 0

    def data_received(self, data: bytes) -> None:
        """Bytes from the client. The parser itself would take a head of any size."""
        if self._in_head:
            self._head += len(data)
            self._await_head()
        super().data_received(data)
        if self._in_head and self._head > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The request's headers pass {_MAX_HEAD_BYTES} bytes.")

    def on_headers_complete(self) -> None:
        """The request's head is read."""
        self._in_head = False
        self._head = 0
        self._have_head()
        self._discarded = 0
        super().on_headers_complete()
        if self.server_state.draining and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A piece of the body. After an early answer (401, 413) the rest is thrown away, so that
        the client can finish sending and read the answer; but not without end."""
        if self.cycle.response_complete:
            self._discarded += len(body)
            if self._discarded > self.server_state.max_discarded:
                self.transport.close()
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is read to its end."""
        self._in_head = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The request is answered."""
        self.idle_since = time.monotonic()
        super().on_response_complete()

    def begin_drain(self) -> None:
        """The server is about to end."""
        self.idle_since = time.monotonic()
        # A response that has begun has already promised to keep the connection: it stays open
        # and the next request on it, if there is one, is told to close.
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False


class DrainingServer(uvicorn.Server):
    """One uvicorn server on a given socket.

    Args:
        app: the ASGI application.
        drain_seconds: longest time from SIGTERM to the end.
        linger_seconds: how long an idle connection stays open after SIGTERM.
        max_body_bytes: what is thrown away of a refused body before the connection is cut is
            a multiple of it.
        on_drain: called when the drain begins.
    """

    server_state: DrainState
    signals: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)

    def __init__(
        self,
        app: ASGIApp,
        *,
        drain_seconds: float,
        linger_seconds: float,
        max_body_bytes: int,
        on_drain: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=DrainingProtocol,
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
            )
        )
        self.server_state = DrainState(max_discarded=4 * max_body_bytes)
        self._drain_seconds = drain_seconds
        self._linger_seconds = linger_seconds
        self._on_drain = on_drain
        self.accepting = asyncio.Event()
        self.loading = True
        self._listeners: list[socket.socket] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to accept; sets `accepting`."""
        # Of our own: the event loop closes those that it is given.
        self._listeners = [one.dup() for one in sockets or []]
        await super().startup(sockets)
        self.accepting.set()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First SIGTERM or SIGINT: drain. Second: end now."""
        if self.should_exit:
            if self.loading:  # in threads that cannot be interrupted
                os._exit(1)
            self.force_exit = True
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handles signals while the server runs; unlike uvicorn's, does not raise them again."""
        before = {sig: signal.signal(sig, self.handle_exit) for sig in self.signals}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves until a signal and drains. The caller holds `capture_signals`."""
        await self._serve(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains."""
        for server in self.servers:
            server.close()
        for sock in self._listeners:
            await self._accept_waiting(sock)
        for sock in (*self._listeners, *(sockets or [])):
            sock.close()
        self.server_state.draining = True
        self._on_drain()
        await asyncio.sleep(_TICK)  # connections just accepted introduce themselves
        for connection in self._connections:
            connection.begin_drain()
        _log.info("draining: %d connections open", len(self.server_state.connections))
        end = time.monotonic() + self._drain_seconds
        while self.server_state.connections and not self.force_exit:
            now = time.monotonic()
            if now > end:
                break
            for connection in self._connections:
                if not connection.busy and now - connection.idle_since > self._linger_seconds:
                    connection.transport.close()
            await asyncio.sleep(_TICK)
        await self._cut()

    def connection(self) -> asyncio.Protocol:
        """Serves one connection."""
        made: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = made(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        return protocol

    async def _accept_waiting(self, listener: socket.socket) -> None:
        """Accepts what waits: the kernel resets it when the last holder closes the socket."""
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        with contextlib.suppress(BlockingIOError):
            while True:
                accepted, _ = listener.accept()
                accepted.setblocking(False)
                await loop.connect_accepted_socket(self.connection, accepted)

    @property
    def _connections(self) -> list[DrainingProtocol]:
        return [c for c in self.server_state.connections if isinstance(c, DrainingProtocol)]

    async def _cut(self) -> None:
        tasks = list(self.server_state.tasks)
        if tasks and self.server_state.connections:
            _log.warning("%d requests were not answered in time and are cut off", len(tasks))
        for connection in self._connections:
            connection.transport.abort()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1)
