"""Runs a server, from its configuration to its last answered request."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from sixways_bundle.errors import BundleError
from sixways_server import handover, logs, sizing, tracing
from sixways_server.auth import KeyStore
from sixways_server.board import Board
from sixways_server.config import ServerConfig, load_config
from sixways_server.status import StatusFile

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from sixways_server.drain import DrainingServer

_log = logging.getLogger("sixways.server")


@dataclass(frozen=True)
class Listener:
    """`shared`: a predecessor still accepts from it, so we need not before we are ready."""

    socket: socket.socket
    shared: bool

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self.socket.getsockname()[:2]
        return host, port


def run(config: ServerConfig, keys: KeyStore | None = None) -> int:
    """Serves until SIGTERM or SIGINT, then drains.

    Args:
        config: what to serve and how.
        keys: who may call; None: whom `config.keys_file` names.

    Returns:
        The exit status: 0 after a drain, 1 when the server could not start (the reason is in
        the log and in the status file).
    """
    logs.configure()
    early = EarlySignals()
    status = StatusFile(None)
    try:
        config.check()
        status = StatusFile(config.status_file)
        status.starting("opening the port")
        tracing.wanted()  # or why not, before anything is opened
        config = sizing.fit(config)
        keys = keys or KeyStore(config.keys_file)
        listener = _listener(config)
        if config.workers > 1:
            logs.configure(with_pid=True)
            from sixways_server.workers import run_workers

            run_workers(config, keys, listener, status, early)
        else:
            import uvloop

            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_run(config, keys, listener, status, early))
    except BundleError as error:
        _log.error("the server cannot start: %s", error)
        status.failed(str(error))
        return 1
    except Exception as error:
        _log.exception("the server failed")
        status.failed(f"the server failed: {type(error).__name__}: {error}")
        return 1
    status.ended("stopped")
    return 0


class EarlySignals:
    """Notes SIGTERM and SIGINT until the server itself listens to them.

    Process 1 of a container ignores signals that it has no handler for, and a handler that
    raises in the middle of an import leaves half a module.
    """

    def __init__(self) -> None:
        self.asked = False
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, self._note)

    def _note(self, sig: int, frame: FrameType | None) -> None:
        if self.asked:
            os._exit(1)
        self.asked = True


def _listener(config: ServerConfig) -> Listener:
    if config.handover is not None:
        inherited = handover.receive(config.handover, config.host, config.port)
        if inherited is not None:
            _log.info("took over the listening socket of the running server")
            return Listener(inherited, shared=True)
    return Listener(handover.listen(config.host, config.port), shared=False)


async def _run(
    config: ServerConfig,
    keys: KeyStore,
    listener: Listener,
    status: StatusFile,
    early: EarlySignals,
) -> None:
    """The server as one process."""
    from sixways_server.serving import Place, serve

    loop = asyncio.get_running_loop()
    sizing.limit_default_executor(loop)
    with ExitStack() as stack:

        def on_ready() -> None:
            if config.handover is not None:
                donor = handover.Donor(config.handover, listener.socket)
                stack.callback(donor.close)
                loop.add_reader(donor.fileno(), donor.give)
                stack.callback(loop.remove_reader, donor.fileno())
            status.ready(*listener.address)

        place = Place(
            Board(),
            _draining_server,
            answer_early=not listener.shared,
            asked_to_end=lambda: early.asked,
            on_loading=status.starting,
            on_ready=on_ready,
            on_drain=lambda: status.ended("draining"),
        )
        await serve(config, keys, listener.socket, place)


def _draining_server(app: ASGIApp, **options: Any) -> DrainingServer:
    from sixways_server.drain import DrainingServer  # imported while the models load

    return DrainingServer(app, **options)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m sixways_server --config FILE`."""
    parser = argparse.ArgumentParser(prog="python -m sixways_server", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON file, see ServerConfig")
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.config)
    except BundleError as error:
        sys.stderr.write(f"{error}\n")
        _report_failure(options.config, error)
        return 1
    return run(config)


def _report_failure(path: Path, error: BundleError) -> None:
    """Also tells the status file, where one can be made out of a configuration that is wrong."""
    import msgspec

    try:
        named = msgspec.json.decode(path.read_bytes(), type=dict[str, object]).get("status_file")
        if isinstance(named, str) and named:
            StatusFile(path.resolve().parent / named).failed(str(error))
    except (OSError, msgspec.DecodeError) as problem:
        _log.debug("no status file: %s", problem)


if __name__ == "__main__":
    raise SystemExit(main())
