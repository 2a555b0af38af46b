"""The end of a server, where its order matters."""

from __future__ import annotations

import asyncio
import socket

import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sixways_server.drain import DrainingServer


async def _ok(request: Request) -> Response:
    return PlainTextResponse("ok")


class EndsWithConnectionsInTheQueue(DrainingServer):
    """Clients connect in the very moment in which the end begins: nobody has accepted them."""

    clients: list[socket.socket]

    async def main_loop(self) -> None:
        """In place of serving until a signal. The event loop does not run in here."""
        address = self._listeners[0].getsockname()
        self.clients = [socket.create_connection(address, timeout=10) for _ in range(20)]
        for one in self.clients:
            one.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")


def test_connections_that_wait_in_the_kernels_queue_are_answered_before_the_end() -> None:
    server = EndsWithConnectionsInTheQueue(
        Starlette(routes=[Route("/", _ok)]),
        drain_seconds=5,
        linger_seconds=0,
        max_body_bytes=1024,
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve([listener]))
    for one in server.clients:
        with one:
            assert one.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
