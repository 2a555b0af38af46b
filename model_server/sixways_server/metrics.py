"""Prometheus metrics.

Names follow OpenTelemetry's gen_ai conventions in Prometheus form (`gen_ai_server_*`) where
these have one, else vLLM's with our prefix; labels are vLLM's `model_name`, gen_ai's operation
name, the protocol and the HTTP status.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sixways_server.rolling import Rolling

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from sixways_server.engines.base import Engine
    from sixways_server.record import Record

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48,
            40.96, 81.92)  # fmt: skip
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


@runtime_checkable
class TellsBatches(Protocol):
    """An engine that computes in batches and tells of each: its inputs, its seconds."""

    on_batch: Callable[[int, float], None] | None


class Metrics(Collector):
    """Everything that is measured, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rolling = Rolling()
        self.started = time.time()
        self._running: dict[str, int] = {}
        self._watched: list[Engine] = []
        labels = ("model_name", "protocol", "operation", "status")
        self._duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "From the headers of a request to the end of its answer.",
            labels, buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._errors = Counter(
            "sixways_request_errors",
            "Answers with a status of 400 or more; 499: the client went away.",
            labels, registry=self.registry,
        )  # fmt: skip
        self._first = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From the headers of a request to its first token.",
            ("model_name", "protocol"), buckets=_SECONDS, registry=self.registry,
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
        self.registry.register(self)

    def watch(self, engine: Engine) -> None:
        """Reads the engine's queue whenever metrics are asked for, and is told its batches."""
        self._watched.append(engine)
        if isinstance(engine, TellsBatches):
            name = engine.info.name
            engine.on_batch = lambda inputs, seconds: self.batch(name, inputs)

    def batch(self, model: str, size: int) -> None:
        """An engine computed `size` inputs together. May be called from any thread."""
        self._batch.labels(model).observe(size)

    def running(self, model: str, change: int) -> None:
        """One request more (+1) or less (-1) is in flight. From the event loop only."""
        self._running[model] = self._running.get(model, 0) + change

    @property
    def in_flight(self) -> int:
        """Requests in flight, all models."""
        return sum(self._running.values())

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

    def collect(self) -> Iterable[Metric]:
        """What is read at the moment of asking (called by the registry)."""
        running = GaugeMetricFamily(
            "sixways_num_requests_running", "Requests in flight.", labels=("model_name",)
        )
        for model, count in self._running.items():
            running.add_metric((model,), count)
        waiting = GaugeMetricFamily(
            "sixways_num_requests_waiting",
            "Requests that were accepted and do not yet run.",
            labels=("model_name",),
        )
        for engine in self._watched:
            waiting.add_metric((engine.info.name,), engine.queue_depth)
        uptime = GaugeMetricFamily(
            "sixways_start_time_seconds", "When the server started (Unix time).", value=self.started
        )
        return running, waiting, uptime

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
