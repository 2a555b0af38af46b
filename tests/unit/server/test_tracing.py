"""Traces reach a real OTLP receiver, and hold neither content nor keys."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.ports import free_port
from tests.unit.server.conftest import Process
from tests.unit.server.test_workers import several_clients

Launch = Callable[..., Process]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Receiver:
    """What a collector gets: whole requests, and the spans in them."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.paths: set[str] = set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.paths.add(self.path)
                receiver.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)

    @property
    def exports(self) -> list[ExportTraceServiceRequest]:
        return [ExportTraceServiceRequest.FromString(body) for body in self.bodies]

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for export in self.exports
            for resource in export.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    made = Receiver()
    made.thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
    yield made
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


def plain(value: AnyValue) -> Any:
    return getattr(value, str(value.WhichOneof("value")))


def attributes(span: Span) -> dict[str, Any]:
    return {one.key: plain(one.value) for one in span.attributes}


def test_each_request_is_a_span_in_the_callers_trace_without_content_or_key(
    launch: Launch, receiver: Receiver
) -> None:
    key: str = launch.key  # type: ignore[attr-defined]
    process = launch()
    url = process.wait_for("ready")["url"]
    headers = {"x-api-key": key, "traceparent": PARENT, "x-request-id": "abc-1"}
    chat = {"model": "echo", "messages": [{"role": "user", "content": "private words here"}]}
    with httpx.Client(base_url=url, headers=headers, timeout=20) as client:
        client.get("/readyz")
        client.get("/v2/health/ready")
        assert client.post("/v1/chat/completions", json=chat).status_code == 200
        assert client.get("/v1/models/private").status_code == 404
        late = {**chat, "model": "echo"}
        slow = client.post("/v1/chat/completions", json=late, headers={"x-request-timeout": "0.06"})
        assert slow.status_code == 504
        body = {"model": "mini", "input": "private"}
        assert client.post("/v1/embeddings", json=body).status_code == 200
    assert httpx.post(f"{url}/v1/embeddings", headers={"x-api-key": "sk-wrong"}).status_code == 401
    process.child.terminate()
    assert process.child.wait(10) == 0

    spans = {span.name: span for span in receiver.spans}
    assert receiver.paths == {"/v1/traces"}
    assert len(receiver.spans) == 5
    for data in receiver.bodies:
        for secret in (b"private", b"sk-wrong", key.encode()):
            assert secret not in data

    mini = spans["embeddings mini"]
    assert mini.kind == Span.SPAN_KIND_SERVER
    assert mini.trace_id.hex() == PARENT.split("-")[1]
    assert mini.parent_span_id.hex() == PARENT.split("-")[2]
    assert 0 < mini.end_time_unix_nano - mini.start_time_unix_nano < 5e9
    assert abs(mini.end_time_unix_nano / 1e9 - time.time()) < 60
    assert attributes(mini) == {
        "http.request.method": "POST",
        "http.route": "/v1/embeddings",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "sixways",
        "gen_ai.request.model": "mini",
        "gen_ai.usage.input_tokens": 1,
        "sixways.protocol": "openai",
        "sixways.request_id": "abc-1",
    }
    chats = [span for span in receiver.spans if span.name == "chat echo"]
    good, over = sorted(chats, key=lambda s: attributes(s)["http.response.status_code"])
    assert attributes(good)["gen_ai.usage.output_tokens"] == 3
    assert 0.04 < attributes(good)["gen_ai.response.time_to_first_chunk"] < 5
    assert good.status.code == Status.STATUS_CODE_UNSET
    assert attributes(over)["error.type"] == "504"
    assert over.status.code == Status.STATUS_CODE_ERROR
    unknown = spans["GET /v1/models/{model}"]
    assert attributes(unknown)["http.response.status_code"] == 404
    assert unknown.status.code == Status.STATUS_CODE_UNSET
    refused = spans["POST"]  # nobody without a key learns which route there is
    assert attributes(refused)["http.response.status_code"] == 401
    assert refused.parent_span_id == b""

    about = receiver.exports[0].resource_spans[0].resource.attributes
    resource = {one.key: plain(one.value) for one in about}
    assert resource["service.name"] == "sixways"
    assert resource["process.pid"] == process.child.pid


def test_every_worker_sends_its_spans_before_it_ends(
    launch: Launch, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    process = launch(workers=2)
    url = process.wait_for("ready")["url"]
    headers = {"x-api-key": launch.key}  # type: ignore[attr-defined]
    body = {"model": "mini", "input": "a"}
    with several_clients(8) as clients:
        for client in clients * 3:
            client.post(f"{url}/v1/embeddings", json=body, headers=headers)
    process.child.terminate()
    assert process.child.wait(20) == 0
    assert len(receiver.spans) == 24
    told = [
        {one.key: plain(one.value) for one in resource.resource.attributes}
        for export in receiver.exports
        for resource in export.resource_spans
    ]
    assert {one["service.name"] for one in told} == {"ours"}
    assert len({one["process.pid"] for one in told}) == 2


def test_a_collector_that_does_not_answer_keeps_no_server_from_ending(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{free_port()}/x")
    process = launch()
    url = process.wait_for("ready")["url"]
    headers = {"x-api-key": launch.key}  # type: ignore[attr-defined]
    body = {"model": "mini", "input": "a"}
    assert httpx.post(f"{url}/v1/embeddings", json=body, headers=headers).status_code == 200
    began = time.monotonic()
    process.child.terminate()
    assert process.child.wait(15) == 0
    assert time.monotonic() - began < 10


def test_packages_that_are_missing_are_named_with_their_extra(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    gone = "import sys; sys.modules['opentelemetry.exporter.otlp.proto.http'] = None"
    process = launch(gone)
    assert process.child.wait(20) == 1
    assert "pip install 'sixways[otel]'" in process.status["error"]
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in process.status["error"]


def test_a_protocol_that_is_not_spoken_is_refused(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    process = launch()
    assert process.child.wait(20) == 1
    for part in ("OTEL_EXPORTER_OTLP_PROTOCOL", "'grpc'", "http/protobuf"):
        assert part in process.status["error"]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_a_collector_nothing_of_it_is_even_imported(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    tell = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('imported:', 'opentelemetry' in sys.modules, "
        "file=sys.stderr))"
    )
    process = launch(tell)
    url = process.wait_for("ready")["url"]
    headers = {"x-api-key": launch.key}  # type: ignore[attr-defined]
    body = {"model": "mini", "input": "a"}
    assert httpx.post(f"{url}/v1/embeddings", json=body, headers=headers).status_code == 200
    process.child.terminate()
    assert process.child.wait(10) == 0
    assert "imported: False" in process.log.read_text()
