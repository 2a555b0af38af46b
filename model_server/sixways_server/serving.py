"""One process that serves: opens the models, answers, drains."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sixways_bundle.errors import BundleError
from sixways_server import tracing
from sixways_server.auth import KeyStore
from sixways_server.board import Board
from sixways_server.config import ModelConfig, ServerConfig
from sixways_server.load import open_model
from sixways_server.registry import Registry

if TYPE_CHECKING:
    from sixways_server.drain import DrainingServer
    from sixways_server.engines.base import Engine
    from sixways_server.metrics import Metrics

_BEAT_SECONDS = 1.0
_log = logging.getLogger("sixways.server")


def _nothing(message: str = "") -> None:
    pass


@dataclass(frozen=True)
class Place:
    """The place of a serving process in its server, and who hears how far it is.

    Attributes:
        board: what all processes of the server see.
        row: the row of this one.
        metrics_folder: where the workers count together; None: this process is alone.
        answer_early: whether to answer "not ready" while models load, since nobody else accepts
            connections; otherwise it accepts none before it is ready.
        server: makes the server.
        asked_to_end: whether a signal came before the server listened to signals.
        on_loading: told what is being done.
        on_ready: called when every model answers and connections are accepted.
        on_drain: called when the drain begins.
        on_beat: called once a second on the event loop.
    """

    board: Board
    server: Callable[..., DrainingServer]
    row: int = 0
    metrics_folder: Path | None = None
    answer_early: bool = True
    asked_to_end: Callable[[], bool] = field(default=lambda: False)
    on_loading: Callable[[str], None] = _nothing
    on_ready: Callable[[], None] = _nothing
    on_drain: Callable[[], None] = _nothing
    on_beat: Callable[[], None] | None = None


async def serve(
    config: ServerConfig, keys: KeyStore, listener: socket.socket, place: Place
) -> None:
    """Serves until the server is told to end, and drains.

    Args:
        config: of this process: what all may use is divided already (see `sizing`).
        keys: who may call.
        listener: where to accept.
        place: the place of this process.

    Raises:
        BundleError: a model could not be loaded; says of each why.
    """
    began = time.perf_counter()
    registry = Registry(model.name for model in config.models)
    if place.board.workers > 1:
        registry.others_ready = lambda: place.board.complete
    place.on_loading("loading " + ", ".join(registry.names))
    loop = asyncio.get_running_loop()
    # Models open in threads while this one imports the web framework: both take a while. The
    # threads end with the loading.
    opening = ThreadPoolExecutor(len(config.models), thread_name_prefix="open")
    loads = [loop.run_in_executor(opening, open_model, model, config) for model in config.models]
    opening.shutdown(wait=False)

    from sixways_server.app import create_app
    from sixways_server.metrics import Metrics

    traces = tracing.Tracing() if tracing.wanted() else None
    metrics = Metrics(place.board, place.row, place.metrics_folder)
    app = create_app(
        registry,
        keys,
        metrics,
        max_body_bytes=config.max_body_bytes,
        max_inputs=config.max_inputs,
        request_seconds=config.request_seconds,
        with_console=config.console,
        with_graphql=config.graphql,
        tracing=traces,
    )

    def on_drain() -> None:
        registry.draining = True
        place.on_drain()

    server = place.server(
        app,
        drain_seconds=config.drain_seconds,
        linger_seconds=config.linger_seconds,
        max_body_bytes=config.max_body_bytes,
        on_drain=on_drain,
    )
    beating = loop.create_task(_beat(place.on_beat, metrics)) if place.on_beat else None
    with server.capture_signals():
        server.should_exit = server.should_exit or place.asked_to_end()
        serving: asyncio.Task[None] | None = None
        if place.answer_early:
            serving = asyncio.create_task(server.serve([listener]))
        try:
            await _all_loaded(config.models, loads, registry, metrics, place.on_loading)
            server.loading = False
            # What is loaded stays: the collector need not look at it again and again.
            gc.collect()
            gc.freeze()
            if serving is None:
                if server.should_exit:  # asked to end while loading; nobody was told to come
                    return
                serving = asyncio.create_task(server.serve([listener]))
            accepting = asyncio.ensure_future(server.accepting.wait())
            await asyncio.wait({accepting, serving}, return_when=asyncio.FIRST_COMPLETED)
            if server.accepting.is_set() and not server.should_exit:
                host, port = listener.getsockname()[:2]
                place.on_ready()
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
            if traces is not None:
                traces.close()
            if beating is not None:
                beating.cancel()


async def _beat(on_beat: Callable[[], None], metrics: Metrics) -> None:
    while True:
        on_beat()
        metrics.show_queues()
        await asyncio.sleep(_BEAT_SECONDS)


async def _all_loaded(
    models: Sequence[ModelConfig],
    loads: Sequence[asyncio.Future[Engine]],
    registry: Registry,
    metrics: Metrics,
    on_loading: Callable[[str], None],
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
            on_loading(f"{model.name} is loaded; loading {', '.join(registry.loading)}")
        return None

    tasks = [one(model, load) for model, load in zip(models, loads, strict=True)]
    failed = [reason for reason in await asyncio.gather(*tasks) if reason]
    if failed:
        raise BundleError(
            f"{len(failed)} of {len(models)} models could not be loaded: {'; '.join(failed)}"
        )
