"""A stand-in for what SageMaker has in front of a container, for its real client to talk to.

It does what the documentation says the service does with a request: takes
`/endpoints/NAME/invocations` and `/endpoints/NAME/invocations-response-stream`, passes body,
content type and the X-Amzn-SageMaker headers to the container's `/invocations`, wraps a streamed
answer into event-stream messages, and turns a container's error into a ModelError. It checks no
signature and has none of the service's limits.
"""

from __future__ import annotations

import contextlib
import json
import struct
import threading
import zlib
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

_STREAM = "/invocations-response-stream"


def message(payload: bytes, **headers: str) -> bytes:
    """One message of AWS' event-stream framing: lengths, their CRC, headers, payload, CRC."""
    named = b"".join(
        bytes([len(name)])
        + name.encode()
        + b"\x07"
        + struct.pack(">H", len(value))
        + value.encode()
        for name, value in ((f":{k.replace('_', '-')}", v) for k, v in headers.items())
    )
    prelude = struct.pack(">II", 16 + len(named) + len(payload), len(named))
    head = prelude + struct.pack(">I", zlib.crc32(prelude)) + named + payload
    return head + struct.pack(">I", zlib.crc32(head))


def _handler(container: str) -> type[BaseHTTPRequestHandler]:
    class Front(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            passed = {
                name: value
                for name, value in self.headers.items()
                if name.lower().startswith(("content-type", "x-amzn-sagemaker-"))
            }
            with httpx.stream(
                "POST", f"{container}/invocations", content=body, headers=passed, timeout=30
            ) as response:
                if response.status_code >= 400:
                    self._refuse(response.status_code, response.read().decode())
                elif self.path.endswith(_STREAM):
                    self._stream(response)
                else:
                    self._answer(200, response.read(), response.headers["content-type"])

        def _stream(self, response: httpx.Response) -> None:
            self.send_response(200)
            self.send_header("x-amzn-sagemaker-content-type", response.headers["content-type"])
            self.send_header("content-type", "application/vnd.amazon.eventstream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for piece in response.iter_raw():
                self._chunk(
                    message(
                        piece,
                        message_type="event",
                        event_type="PayloadPart",
                        content_type="application/octet-stream",
                    )
                )
            self._chunk(b"")

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

        def _refuse(self, status: int, text: str) -> None:
            content = {
                "Message": f"Received client error ({status}) from primary with message {text!r}",
                "OriginalStatusCode": status,
                "OriginalMessage": text,
            }
            self._answer(424, json.dumps(content).encode(), "application/json", "ModelError")

        def _answer(self, status: int, body: bytes, kind: str, error: str = "") -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            if error:
                self.send_header("x-amzn-errortype", error)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: tests say what they saw."""

    return Front


@contextlib.contextmanager
def front(container: str) -> Generator[str, None, None]:
    """The front of the container at this URL; gives its own URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(container))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
