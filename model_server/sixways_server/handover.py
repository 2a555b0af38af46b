"""The listening socket, and how a successor gets it.

A server with a handover path listens there on a unix socket. Whoever connects (same user only)
gets a duplicate of the TCP socket, so both processes accept from one queue: no moment without a
listener, and no connection is reset because the process that would have taken it ended.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import struct
from collections.abc import Generator
from pathlib import Path

from sixways_bundle.errors import BundleError, Problem

_BACKLOG = 2048
_ANSWER_SECONDS = 5.0
_GREETING = b"sixways listening socket"
_log = logging.getLogger("sixways.handover")


def listen(host: str, port: int) -> socket.socket:
    """A new listening socket; port 0 picks a free one.

    Raises:
        BundleError: the address is taken or not one of this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise BundleError(
            "the server cannot listen",
            [Problem("host", host, f"an address of this machine ({error.strerror})")],
        ) from None
    try:
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except PermissionError:
        raise BundleError(
            "the server may not listen on this port",
            [Problem("port", str(port), "1024 to 65535 for a user that is not root")],
        ) from None
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise BundleError(
                "the server cannot listen",
                [Problem("host", host, f"an address of this machine ({error.strerror})")],
            ) from None
        raise BundleError(
            f"port {port} is taken by {_holder(port)}",
            [Problem("port", str(port), "a free port",
                     "stop the program that listens there, choose another port, or 0 for any")],
        ) from None  # fmt: skip


def receive(path: Path, host: str, port: int) -> socket.socket | None:
    """The listening socket of the server that answers at `path`.

    Returns:
        None where nobody answers, or the socket is not the one for `host` and `port` (0: any).
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_ANSWER_SECONDS)
        try:
            with _short(path) as short:
                client.connect(short)
            if _peer_user(client) not in (os.geteuid(), 0):
                _log.warning("%s belongs to another user: its socket is not taken", path)
                return None
            greeting, descriptors, _, _ = socket.recv_fds(client, len(_GREETING), 1)
        except OSError:
            return None
    if not descriptors:
        return None
    listener = socket.socket(fileno=descriptors[0])
    if greeting == _GREETING and _is_for(listener, host, port):
        return listener
    listener.close()
    return None


class Donor:
    """Gives the listening socket to whoever asks at `path`, until closed.

    Taking over the path of a predecessor is one rename: no moment without a donor. Somebody has
    to wait for `fileno` to become readable and then call `give`: an event loop, or Gunicorn's.

    Args:
        path: where to listen; made with mode 0600.
        listener: what to give.
    """

    def __init__(self, path: Path, listener: socket.socket) -> None:
        self._path = path
        self._listener = listener
        self._socket = socket.socket(socket.AF_UNIX)
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            with _short(fresh) as short:
                self._socket.bind(short)
        finally:
            os.umask(before)
        self._socket.listen(8)
        self._socket.setblocking(False)
        self._inode = fresh.stat().st_ino
        fresh.replace(path)

    def fileno(self) -> int:
        """Readable when a successor asks."""
        return self._socket.fileno()

    def give(self) -> None:
        """Answers the successor that asks, if there is one."""
        with contextlib.suppress(OSError):
            client, _ = self._socket.accept()
            with client:
                if _peer_user(client) in (os.geteuid(), 0):
                    socket.send_fds(client, [_GREETING], [self._listener.fileno()])

    def leave_to_parent(self) -> None:
        """In a forked process: it gives nothing."""
        self._socket.close()

    def close(self) -> None:
        """Stops giving; removes the path unless a successor has taken it."""
        self._socket.close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


@contextlib.contextmanager
def _short(path: Path) -> Generator[str, None, None]:
    """Another name of `path`: that of a unix socket may have 107 bytes only, in any folder."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _peer_user(connection: socket.socket) -> int:
    size = struct.calcsize("3i")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    user: int = struct.unpack("3i", credentials)[1]
    return user


def _is_for(listener: socket.socket, host: str, port: int) -> bool:
    try:
        found = listener.getsockname()
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return False
        wanted = {
            address[4][0] for address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        }
    except OSError:
        return False
    return found[0] in wanted and port in (0, found[1])


def _holder(port: int) -> str:
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            here = (connection.laddr or (None, None))[1] == port
            if here and connection.status == psutil.CONN_LISTEN:
                if connection.pid is None:
                    break
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return "another program (of another user: its name is not visible)"
