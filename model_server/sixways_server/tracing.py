"""Traces over OTLP: one span a request, if OpenTelemetry's own variables name a collector.

Nothing of OpenTelemetry is imported unless they do. A span is made when its request has ended, of
what the record holds, so that a request costs nothing until then. Its names are those of
OpenTelemetry's HTTP and gen_ai conventions. Neither content nor keys are in a span, nor the path
(which is the caller's text): the route is.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from sixways_bundle.errors import BundleError, MissingExtra, Problem
from sixways_server import sixways_version

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.util.types import AttributeValue
    from starlette.types import Scope

    from sixways_server.record import Record

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_FLUSH_SECONDS = 5.0
_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
)
_CARRIED = {b"traceparent": "traceparent", b"tracestate": "tracestate"}


def wanted() -> bool:
    """Whether the environment names a collector.

    Raises:
        MissingExtra: it does, and the packages for it are not installed.
        BundleError: it asks for a protocol that is not spoken here.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return False
    for name in _PROTOCOLS:
        protocol = os.environ.get(name)
        if protocol and protocol != _PROTOCOL:
            raise BundleError(
                "traces cannot be sent",
                [Problem(name, protocol, _PROTOCOL,
                         f"set it to {_PROTOCOL} and the endpoint to the collector's port for it "
                         "(4318 as a rule)")],
            )  # fmt: skip
        if protocol:  # the one for traces comes first and counts
            break
    try:
        import opentelemetry.exporter.otlp.proto.http
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError:
        raise MissingExtra("sending traces (OTEL_EXPORTER_OTLP_ENDPOINT is set)", "otel") from None
    return True


class Tracing:
    """Makes spans and sends them from a thread of its own."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        about: dict[str, AttributeValue] = {
            "service.version": sixways_version(), "process.pid": os.getpid()
        }  # fmt: skip
        told = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        if not os.environ.get("OTEL_SERVICE_NAME") and "service.name=" not in told:
            about["service.name"] = "sixways"
        self._provider: TracerProvider = TracerProvider(
            resource=Resource.create(about), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("sixways", sixways_version())
        self._propagator = TraceContextTextMapPropagator()

    def request(self, scope: Scope, record: Record) -> None:
        """Makes the span of a request that has ended."""
        from opentelemetry.trace import SpanKind, Status, StatusCode

        end = time.time_ns()
        carrier = {
            _CARRIED[name]: value.decode("latin-1")
            for name, value in scope["headers"]
            if name in _CARRIED
        }
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        route = getattr(scope.get("route"), "path", None)
        span = self._tracer.start_span(
            f"{record.operation} {record.model}"
            if record.operation and record.model
            else " ".join(filter(None, (method, route))),
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            attributes=_attributes(scope, record, method, route),
            start_time=end - int(record.seconds * 1e9),
        )
        if record.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end_time=end)

    def close(self) -> None:
        """Sends what is left; gives up after some seconds, since a server has to end."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_FLUSH_SECONDS)


def _attributes(
    scope: Scope, record: Record, method: str, route: str | None
) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue | None] = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": record.status,
        "url.scheme": scope["scheme"],
        "network.protocol.version": scope["http_version"],
        "gen_ai.operation.name": record.operation,
        "gen_ai.provider.name": "sixways" if record.operation else None,
        "gen_ai.request.model": record.model,
        "gen_ai.usage.input_tokens": record.tokens_in,
        "gen_ai.usage.output_tokens": record.tokens_out,
        "sixways.protocol": record.protocol,
        "sixways.request_id": record.request_id,
    }
    if record.first_token:
        attributes["gen_ai.response.time_to_first_chunk"] = record.first_token - record.started
    if record.status >= 500:
        attributes["error.type"] = str(record.status)
    return {name: value for name, value in attributes.items() if value}
