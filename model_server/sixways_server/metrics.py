"""Prometheus metrics.

Names follow OpenTelemetry's gen_ai conventions in Prometheus form (`gen_ai_server_*`) where
these have one, else vLLM's with our prefix; labels are vLLM's `model_name`, gen_ai's operation
name, the protocol and the HTTP status. docs/metrics.md lists them all.

Several workers count in files of one folder (prometheus_client's multiprocess mode), and each
answers with the sums over all. A replacement goes on in the files of the worker that died.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
    values,
)

from sixways_server.board import Board
from sixways_server.utilisation import collectors

if TYPE_CHECKING:
    from sixways_server.engines.base import Engine
    from sixways_server.record import Record

# OpenTelemetry's, and round ones, where objectives are: only at a bound is it known exactly which
# share of the requests kept one.
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.16, 0.25, 0.32, 0.5, 0.64, 1.0, 1.28, 2.0,
           2.56, 5.0, 5.12, 10.0, 10.24, 20.48, 30.0, 40.96, 60.0, 81.92)  # fmt: skip
_TOKEN_SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    1.0,
    2.5,
)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_RUNNING = "sixways_num_requests_running"
_WAITING = "sixways_num_requests_waiting"


@runtime_checkable
class TellsBatches(Protocol):
    """An engine that computes in batches and tells of each: its inputs, its seconds."""

    on_batch: Callable[[int, float], None] | None


class Metrics:
    """Everything that is measured, in a registry of its own.

    Args:
        board: what all processes of the server see; None: this process is alone.
        row: the row of this process there.
        folder: where the workers count together; None: this process is alone.
    """

    def __init__(
        self, board: Board | None = None, row: int = 0, folder: Path | None = None
    ) -> None:
        board = board or Board()
        self.registry = CollectorRegistry()
        self.workers = board.workers
        self.rolling = board.rolling(row)
        self.started = board.started
        self._watched: list[Engine] = []
        self._counted = self.registry
        if folder is not None:
            _count_in(folder, row)
            self._counted = CollectorRegistry()
            multiprocess.MultiProcessCollector(self._counted, str(folder))  # type: ignore[no-untyped-call]
        self._seen = CollectorRegistry()
        for collector in collectors(board):
            self._seen.register(collector)
        labels = ("model_name", "protocol", "operation", "status")
        self._duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "From the headers of a request to the end of its answer.",
            labels, buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self._errors = Counter(
            "sixways_request_errors",
            "Answers with a status of 400 or more; 499: the client went away.",
            labels, registry=self.registry,
        )  # fmt: skip
        self._first = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From the headers of a request to its first token.",
            ("model_name", "protocol"), buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self._each = Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Mean time of each token after the first.",
            ("model_name", "protocol"), buckets=_TOKEN_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._tokens_in = Counter(
            "sixways_prompt_tokens", "Tokens read.", ("model_name",), registry=self.registry
        )
        self._tokens_out = Counter(
            "sixways_generation_tokens", "Tokens made.", ("model_name",), registry=self.registry
        )
        self._batch = Histogram(
            "sixways_batch_size", "Inputs that were computed together.",
            ("model_name",), buckets=_BATCH, registry=self.registry,
        )  # fmt: skip
        self._running = Gauge(
            _RUNNING, "Requests in flight.",
            ("model_name",), multiprocess_mode="livesum", registry=self.registry,
        )  # fmt: skip
        self._waiting = Gauge(
            _WAITING, "Requests (of an encoder: inputs) that were accepted and do not yet run.",
            ("model_name",), multiprocess_mode="livesum", registry=self.registry,
        )  # fmt: skip

    def watch(self, engine: Engine) -> None:
        """Shows the engine's queue, and is told its batches."""
        self._watched.append(engine)
        if isinstance(engine, TellsBatches):
            name = engine.info.name
            engine.on_batch = lambda inputs, seconds: self.batch(name, inputs)

    def batch(self, model: str, size: int) -> None:
        """An engine computed `size` inputs together. May be called from any thread."""
        self._batch.labels(model).observe(size)

    def running(self, model: str, change: int) -> None:
        """One request more (+1) or less (-1) is in flight."""
        self._running.labels(model).inc(change)

    @property
    def in_flight(self) -> int:
        """Requests in flight, all models and workers."""
        return int(sum(self._gauge(_RUNNING).values()))

    def queue_depths(self) -> dict[str, int]:
        """What waits for each model, all workers."""
        self.show_queues()
        return {model: int(depth) for model, depth in self._gauge(_WAITING).items()}

    def show_queues(self) -> None:
        """Notes how long the queues are now: the other workers cannot look into them."""
        for engine in self._watched:
            self._waiting.labels(engine.info.name).set(engine.queue_depth)

    def _gauge(self, name: str) -> dict[str, float]:
        return {
            sample.labels["model_name"]: sample.value
            for family in self._counted.collect()
            if family.name == name
            for sample in family.samples
        }

    def finished(self, record: Record) -> None:
        """Counts a request that a protocol answered."""
        model = record.model or "unknown"
        labels = (model, record.protocol, record.operation, str(record.status))
        self._duration.labels(*labels).observe(record.seconds)
        if record.status >= 400:
            self._errors.labels(*labels).inc()
        if record.tokens_in:
            self._tokens_in.labels(model).inc(record.tokens_in)
        if record.tokens_out:
            self._tokens_out.labels(model).inc(record.tokens_out)
        if record.first_token:
            of = (model, record.protocol)
            self._first.labels(*of).observe(record.first_token - record.started)
            if record.tokens_out > 1:
                between = record.last_token - record.first_token
                self._each.labels(*of).observe(between / (record.tokens_out - 1))
        self.rolling.add(record.seconds, record.status, record.tokens_in, record.tokens_out)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format. Reads files: call it off the event loop."""
        self.show_queues()
        return generate_latest(self._counted) + generate_latest(self._seen)


def _count_in(folder: Path, row: int) -> None:
    """From now on metrics are made in files of `folder`, those of `row`.

    The library would name files by process; by row a replacement goes on where the worker that
    died left off, and there are never more files than workers.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue(lambda: row)  # type: ignore[no-untyped-call]


def forget(folder: Path, row: int) -> None:
    """The worker of `row` died: what it had in flight is gone, what it counted stays."""
    multiprocess.mark_process_dead(row, str(folder))  # type: ignore[no-untyped-call]
