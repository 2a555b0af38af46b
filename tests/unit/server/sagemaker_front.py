"""The container as SageMaker starts it, SageMaker's client, and a stand-in for what is between.

The stand-in does what the documentation says the service does with a request: takes
`/endpoints/NAME/invocations` and `/endpoints/NAME/invocations-response-stream`, passes body,
content type and the X-Amzn-SageMaker headers to the container's `/invocations`, wraps a streamed
answer into event-stream messages, and turns a container's error into a ModelError. It checks no
signature and has none of the service's limits.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import httpx
from botocore.config import Config

from tests.ports import free_port

SERVE = Path(__file__).parents[3] / "model_server" / "image" / "serve"
_STREAM = "/invocations-response-stream"


class Container:
    """`serve` with an environment, as `docker run IMAGE serve` starts it."""

    def __init__(self, log: Path, **environment: str) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SIXWAYS_", "SM_"))}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.log = log
        with log.open("wb") as file:
            self.child = subprocess.Popen(
                ["serve"],
                executable=SERVE,
                env={
                    **inherited,
                    "PATH": path,
                    "PYTHONPATH": ":".join(sys.path),
                    "SAGEMAKER_BIND_TO_PORT": str(port),
                    **environment,
                },
                stdout=file,
                stderr=file,
            )

    def ping(self) -> int:
        """The status; 0 where nobody answers yet."""
        try:
            return httpx.get(f"{self.url}/ping", timeout=2).status_code
        except httpx.TransportError:
            return 0

    def wait(self, status: int = 200, seconds: float = 20) -> float:
        """Seconds until `/ping` has this status."""
        began = time.monotonic()
        while self.ping() != status:
            assert self.child.poll() is None, self.log.read_text()
            assert time.monotonic() < began + seconds, self.log.read_text()
            time.sleep(0.02)
        return time.monotonic() - began

    def stop(self) -> int:
        """SIGTERM, as SageMaker stops it; the exit status."""
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(20)


def client(url: str) -> Any:
    """boto3's `sagemaker-runtime`, which calls `url` for the service."""
    return boto3.client(
        "sagemaker-runtime",
        endpoint_url=url,
        region_name="eu-central-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
        config=Config(retries={"max_attempts": 0}, read_timeout=60),
    )


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
