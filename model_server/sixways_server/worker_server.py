"""The server of one worker among several."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from sixways_server.board import Board
from sixways_server.drain import DrainingServer

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_NO_FILES_SECONDS = 1.0
_YIELD_SECONDS = 0.002
_YIELDS = 3
"""How often a connection is left to another worker until this one takes it all the same: the
other may hang."""
_log = logging.getLogger("sixways.server")


class WorkerServer(DrainingServer):
    """As `DrainingServer`, but the master decides when it is time, and others accept beside it.

    Args:
        app: the ASGI application.
        board: what all workers see.
        row: the row of this one.
        options: as `DrainingServer`.
    """

    signals = (signal.SIGTERM, signal.SIGQUIT)

    def __init__(self, app: ASGIApp, board: Board, row: int, **options: Any) -> None:
        super().__init__(app, **options)
        self._board, self._row = board, row

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to accept; sets `accepting`."""
        # Without sockets uvicorn does all but listen.
        await super().startup([])
        acceptors: list[Any] = [
            _Acceptor(one, self.connection, self._crowded) for one in sockets or []
        ]
        self.servers = acceptors

    def count_connections(self) -> int:
        """Tells the other workers how many connections are open here."""
        count = len(self.server_state.connections)
        self._board.set_connections(self._row, count)
        return count

    def _crowded(self) -> bool:
        return self.count_connections() > self._board.fewest_connections() + 1

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: drain. It may come twice, from the master and from whoever ends all processes
        of a service (systemd). SIGQUIT: end now."""
        if sig == signal.SIGQUIT:
            if self.loading:  # in threads that cannot be interrupted
                os._exit(1)
            self.force_exit = True
        self.should_exit = True


class _Acceptor:
    """Accepts one connection a turn of the event loop, and leaves it to another worker for a
    moment if that one has fewer. An event loop's own server takes all that wait at once, so that
    one worker may get all of a burst, and keep them: clients hold connections open.

    Args:
        listener: where they wait; the other workers accept from it too.
        connection: makes the protocol of one.
        crowded: whether another worker should have the next one.
    """

    def __init__(
        self,
        listener: socket.socket,
        connection: Callable[[], asyncio.Protocol],
        crowded: Callable[[], bool],
    ) -> None:
        self._listener, self._connection, self._crowded = listener, connection, crowded
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._open = True
        self._yields = 0
        self._resume()

    def close(self) -> None:
        """Accepts what waits and no more: the kernel resets what is left when the last worker
        closes the socket."""
        self._open = False
        self._loop.remove_reader(self._listener)
        while self._accept_one():
            pass

    def _resume(self) -> None:
        if self._open:
            self._loop.add_reader(self._listener, self._accept)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._loop.call_later(seconds, self._resume)

    def _accept(self) -> None:
        if self._yields < _YIELDS and self._crowded():
            self._yields += 1
            self._pause(_YIELD_SECONDS)
            return
        self._yields = 0
        self._accept_one()

    def _accept_one(self) -> bool:
        """Whether there was one."""
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # another worker was faster; or gone
            return False
        except OSError as error:  # no file descriptors left, say
            _log.error("cannot accept connections: %s; next try in 1 s", error.strerror)
            self._pause(_NO_FILES_SECONDS)
            return False
        accepted.setblocking(False)
        task = self._loop.create_task(
            self._loop.connect_accepted_socket(self._connection, accepted)
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True
