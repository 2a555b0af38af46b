"""What moto forgets of SageMaker, remembered on the way to it.

moto 5.2 keeps neither a model's network isolation, nor shadow variants, nor an endpoint's
deployment settings, and describes them as absent: every second `up` would see changes that are
none. This proxy hands each request on and adds to SageMaker's descriptions what was asked for.
It keeps the requests too, so that a test sees what AWS was told, and in which order.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

# Action: what names the thing, what is forgotten, and what a description calls it.
_KEPT = {
    "CreateModel": ("ModelName", "EnableNetworkIsolation", "EnableNetworkIsolation"),
    "CreateEndpointConfig": (
        "EndpointConfigName", "ShadowProductionVariants", "ShadowProductionVariants",
    ),
    "CreateEndpoint": ("EndpointName", "DeploymentConfig", "LastDeploymentConfig"),
    "UpdateEndpoint": ("EndpointName", "DeploymentConfig", "LastDeploymentConfig"),
}  # fmt: skip
_DESCRIBED = {
    "DescribeModel": "ModelName",
    "DescribeEndpointConfig": "EndpointConfigName",
    "DescribeEndpoint": "EndpointName",
}
_VERB = re.compile("Create|Update|Delete")
_OWN_HEADERS = {"connection", "content-length", "transfer-encoding", "server", "date"}


@dataclass
class SageMakerMemory:
    """What SageMaker was asked to do since the start, in that order."""

    url: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    kept: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def asked(self, action: str) -> list[dict[str, Any]]:
        """The parameters of every call of one action."""
        return [parameters for name, parameters in self.calls if name == action]

    def changes(self) -> list[str]:
        """Every call that changed something, as `action name`."""
        found = []
        for action, parameters in self.calls:
            verb = _VERB.match(action)
            if verb is not None:
                found.append(f"{action} {parameters[f'{action[verb.end() :]}Name']}")
        return found

    def note(self, action: str, parameters: dict[str, Any]) -> None:
        """Remembers one request."""
        self.calls.append((action, parameters))
        if action in _KEPT:
            name, asked, described = _KEPT[action]
            value = parameters.get(asked)
            self.kept[name, parameters[name]] = {} if value is None else {described: value}

    def complete(self, action: str, parameters: dict[str, Any], answer: bytes) -> bytes:
        """Adds what moto forgot to a description."""
        name = _DESCRIBED.get(action)
        if name is None:
            return answer
        kept = self.kept.get((name, parameters[name]), {})
        return json.dumps({**json.loads(answer), **kept}).encode()


@contextlib.contextmanager
def remembering(upstream: str) -> Iterator[SageMakerMemory]:
    """Serves in front of the AWS server at `upstream` for the block."""
    memory = SageMakerMemory()
    target = urlsplit(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _hand_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            service, _, action = self.headers.get("X-Amz-Target", "").partition(".")
            mine = service == "SageMaker"
            parameters = json.loads(body) if mine and body else {}
            connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=60)
            with contextlib.closing(connection):
                connection.request(self.command, self.path, body, dict(self.headers.items()))
                answer = connection.getresponse()
                content = answer.read()
            if mine and answer.status == 200:
                memory.note(action, parameters)
                content = memory.complete(action, parameters, content)
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _OWN_HEADERS:
                    self.send_header(name, value)
            # A HEAD's answer tells the length of what it does not send.
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _hand_on  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    memory.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield memory
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
