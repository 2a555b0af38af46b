"""Runs one server process, from its configuration to its last answered request."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from sixways_bundle.errors import BundleError
from sixways_server import handover, logs
from sixways_server.auth import KeyStore
from sixways_server.config import ModelConfig, ServerConfig, load_config
from sixways_server.load import open_model
from sixways_server.registry import Registry
from sixways_server.status import StatusFile

if TYPE_CHECKING:
    from sixways_server.engines.base import Engine
    from sixways_server.metrics import Metrics

_log = logging.getLogger("sixways.server")


@dataclass(frozen=True)
class _Listener:
    """`shared`: a predecessor still accepts from it, so we need not before we are ready."""

    socket: socket.socket
    shared: bool


def run(config: ServerConfig, keys: KeyStore | None = None) -> int:
    """Serves until SIGTERM or SIGINT, then drains.

    Args:
        config: what to serve and how.
        keys: who may call; None: whom `config.keys_file` names.

    Returns:
        The exit status: 0 after a drain, 1 when the server could not start (the reason is in
        the log and in the status file).
    """
    import uvloop

    logs.configure()
    early = _EarlySignals()
    status = StatusFile(None)
    try:
        config.check()
        status = StatusFile(config.status_file)
        status.starting("opening the port")
        keys = keys or KeyStore(config.keys_file)
        listener = _listener(config)
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


class _EarlySignals:
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


def _listener(config: ServerConfig) -> _Listener:
    if config.handover is not None:
        inherited = handover.receive(config.handover, config.host, config.port)
        if inherited is not None:
            _log.info("took over the listening socket of the running server")
            return _Listener(inherited, shared=True)
    return _Listener(handover.listen(config.host, config.port), shared=False)


async def _run(
    config: ServerConfig,
    keys: KeyStore,
    listener: _Listener,
    status: StatusFile,
    early: _EarlySignals,
) -> None:
    began = time.perf_counter()
    registry = Registry(model.name for model in config.models)
    status.starting("loading " + ", ".join(registry.names))
    loop = asyncio.get_running_loop()
    # Models open in threads while this one imports the web framework: both take a while.
    loads = [loop.run_in_executor(None, open_model, model, config) for model in config.models]

    from sixways_server.app import create_app
    from sixways_server.drain import DrainingServer
    from sixways_server.metrics import Metrics

    metrics = Metrics()
    app = create_app(
        registry,
        keys,
        metrics,
        max_body_bytes=config.max_body_bytes,
        max_inputs=config.max_inputs,
        with_console=config.console,
        with_graphql=config.graphql,
    )

    def on_drain() -> None:
        registry.draining = True
        status.ended("draining")

    server = DrainingServer(
        app,
        drain_seconds=config.drain_seconds,
        linger_seconds=config.linger_seconds,
        max_body_bytes=config.max_body_bytes,
        on_drain=on_drain,
    )
    host, port = listener.socket.getsockname()[:2]
    with ExitStack() as stack:
        stack.enter_context(server.capture_signals())
        server.should_exit = server.should_exit or early.asked
        serving: asyncio.Task[None] | None = None
        if not listener.shared:  # nobody else answers: say "not ready" rather than nothing
            serving = asyncio.create_task(server.serve([listener.socket]))
        try:
            await _all_loaded(config.models, loads, registry, metrics, status)
            server.loading = False
            # What is loaded stays: the collector need not look at it again and again.
            gc.collect()
            gc.freeze()
            if serving is None:
                if server.should_exit:  # asked to end while loading; nobody was told to come
                    return
                serving = asyncio.create_task(server.serve([listener.socket]))
            accepting = asyncio.ensure_future(server.accepting.wait())
            await asyncio.wait({accepting, serving}, return_when=asyncio.FIRST_COMPLETED)
            if server.accepting.is_set() and not server.should_exit:
                if config.handover is not None:
                    donor = handover.Donor(config.handover, listener.socket)
                    stack.callback(donor.close)
                status.ready(host, port)
                _log.info(
                    "ready",
                    extra={"fields": {"host": host, "port": port, "models": registry.names,
                                      "seconds": round(time.perf_counter() - began, 3)}},
                )  # fmt: skip
            await serving
        finally:
            if serving is not None and not serving.done():
                server.should_exit = True
                await serving
            await asyncio.gather(*(engine.close() for engine in registry.engines))


async def _all_loaded(
    models: Sequence[ModelConfig],
    loads: Sequence[asyncio.Future[Engine]],
    registry: Registry,
    metrics: Metrics,
    status: StatusFile,
) -> None:
    """Waits for every model; each is served as soon as it is loaded.

    Raises:
        BundleError: some could not be loaded; says of each why.
    """

    async def one(model: ModelConfig, load: asyncio.Future[Engine]) -> str | None:
        try:
            engine = await load
        except BundleError as error:
            return f"{model.name}: {error}"
        except Exception as error:
            _log.exception("model %s could not be loaded", model.name)
            return f"{model.name}: {type(error).__name__}: {error}"
        registry.add(model.name, engine)
        metrics.watch(engine)
        if registry.loading:
            status.starting(f"{model.name} is loaded; loading {', '.join(registry.loading)}")
        return None

    tasks = [one(model, load) for model, load in zip(models, loads, strict=True)]
    failed = [reason for reason in await asyncio.gather(*tasks) if reason]
    if failed:
        raise BundleError(
            f"{len(failed)} of {len(models)} models could not be loaded: {'; '.join(failed)}"
        )


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
