"""The site of a host in a running Nginx, before a server that says what it was asked."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from sixways.server.files import Site
from tests.nginx import NGINX, configuration, needs_nginx
from tests.ports import free_port
from tests.unit.components.server.test_files import self_signed

pytestmark = needs_nginx
_KEY = {"Authorization": "Bearer sk-secret-key-of-mine"}


class _Upstream(BaseHTTPRequestHandler):
    """Answers with the request's headers; `/stream` in two pieces, the second when told."""

    protocol_version = "HTTP/1.1"
    go_on = threading.Event()
    connections: ClassVar[set[tuple[str, int]]] = set()

    def do_GET(self) -> None:
        self.connections.add(self.client_address[:2])
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nfirst\r\n")
            self.wfile.flush()
            self.go_on.wait(10)
            self.wfile.write(b"6\r\nsecond\r\n0\r\n\r\n")
            return
        body = json.dumps(dict(self.headers)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


class Front:
    """A running Nginx and what it logs."""

    def __init__(self, folder: Path, port: int, upstream: int) -> None:
        self.folder, self.port, self.upstream = folder, port, upstream
        self.client = httpx.Client(
            base_url=f"https://127.0.0.1:{port}",
            verify=False,  # noqa: S501 - the certificate is made here
            timeout=20,
        )

    def log(self) -> list[dict[str, Any]]:
        lines = (self.folder / "sixways.access.log").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def last(self) -> dict[str, Any]:
        """The last request's entry; it is written after the answer."""
        for _ in range(100):
            if entries := self.log():
                return entries[-1]
            time.sleep(0.02)
        raise AssertionError("nothing is logged")


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), _Upstream)
    upstream.daemon_threads = True
    _Upstream.go_on.clear()
    _Upstream.connections.clear()
    thread = threading.Thread(target=upstream.serve_forever, args=(0.05,))
    thread.start()
    port = free_port()
    site = Site(
        port=port,
        redirect_http=False,
        upstreams=(f"127.0.0.1:{upstream.server_address[1]}",),
        max_body_bytes=1000,
        requests_per_minute=60,
        burst=2,
        metrics_from=("192.0.2.0/24",),
        trusted_proxies=("127.0.0.0/8",),
    )
    self_signed(tmp_path)
    text = site.render()
    for place in ("/etc/sixways", "/var/log/nginx"):
        text = text.replace(place, str(tmp_path))
    # Not every test machine has IPv6.
    (tmp_path / "site.conf").write_text(re.sub(r"listen \[::\].*\n", "", text))
    (tmp_path / "nginx.conf").write_text(configuration(tmp_path))
    child = subprocess.Popen(
        [str(NGINX), "-e", str(tmp_path / "start.log"), "-c", str(tmp_path / "nginx.conf")]
    )
    made = Front(tmp_path, port, upstream.server_address[1])
    try:
        _wait(port, child)
        yield made
    finally:
        made.client.close()
        child.terminate()
        child.wait(10)
        _Upstream.go_on.set()
        upstream.shutdown()
        upstream.server_close()
        thread.join()


def _wait(port: int, child: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert child.poll() is None
        time.sleep(0.02)
    raise AssertionError("Nginx does not listen")


def test_neither_key_nor_query_is_logged(front: Front) -> None:
    front.client.get("/v1/models?api_key=hidden", headers=_KEY)
    entry = front.last()
    assert entry["path"] == "/v1/models"
    assert entry["status"] == 200
    assert float(entry["upstream_seconds"]) >= 0
    everything = "".join(path.read_text() for path in front.folder.glob("*.log"))
    assert "hidden" not in everything
    assert "secret" not in everything


def test_a_request_keeps_its_id_or_gets_one(front: Front) -> None:
    seen = front.client.get("/x", headers={"X-Request-Id": "mine-1"}).json()
    assert seen["X-Request-Id"] == "mine-1"
    seen = front.client.get("/x", headers={"X-Request-Id": 'a"b{}'}).json()
    assert re.fullmatch("[0-9a-f]{32}", seen["X-Request-Id"])


def test_metrics_are_closed_however_they_are_written(front: Front) -> None:
    for path in ("/metrics", "//metrics", "/x/../metrics", "/%6Detrics", "/metrics?x=1"):
        with socket.create_connection(("127.0.0.1", front.port), timeout=10) as plain:
            context = ssl._create_unverified_context()  # noqa: S323
            with context.wrap_socket(plain) as line:
                line.sendall(
                    f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
                )
                assert line.recv(100).startswith(b"HTTP/1.1 403"), path


def test_health_is_answered_without_a_limit_or_a_log(front: Front) -> None:
    for _ in range(10):
        assert front.client.get("/readyz", headers=_KEY).status_code == 200
    assert front.log() == []


def test_a_key_has_its_own_rate_however_it_is_sent(front: Front) -> None:
    sent = [_KEY, {"X-API-Key": "sk-secret-key-of-mine"}, *4 * [_KEY]]
    answers = [front.client.get("/x", headers=headers) for headers in sent]
    assert [answer.status_code for answer in answers].count(429) >= 2
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    other = {"Authorization": "Bearer sk-another-key-of-mine"}
    assert front.client.get("/x", headers=other).status_code == 200


def test_a_body_over_the_limit_is_refused_in_the_servers_words(front: Front) -> None:
    answer = front.client.post("/x", content=b"x" * 1001)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"
    assert front.client.post("/x", content=b"x" * 1000).status_code == 200


def test_tokens_go_out_as_they_come(front: Front) -> None:
    with front.client.stream("GET", "/stream") as answer:
        pieces = answer.iter_bytes()
        assert next(pieces) == b"first"  # the server has not sent the rest yet
        _Upstream.go_on.set()
        assert b"".join(pieces) == b"second"


def test_connections_to_the_server_are_kept(front: Front) -> None:
    for number in range(3):
        assert front.client.get("/x", headers={"X-API-Key": f"key-{number}"}).status_code == 200
    assert len(_Upstream.connections) == 1


def test_the_clients_address_is_the_one_the_proxy_tells(front: Front) -> None:
    seen = front.client.get("/x", headers={"X-Forwarded-For": "6.6.6.6, 198.51.100.7"}).json()
    assert seen["X-Forwarded-For"] == "198.51.100.7"
    assert front.last()["client"] == "198.51.100.7"


def test_http_2_is_spoken_and_old_tls_is_not(front: Front) -> None:
    assert _negotiate(front.port, ["h2"], ssl.TLSVersion.TLSv1_2) == ("TLSv1.2", "h2")
    assert _negotiate(front.port, ["h2"], ssl.TLSVersion.TLSv1_3) == ("TLSv1.3", "h2")
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{front.port}", "-tls1_1",
         "-cipher", "DEFAULT@SECLEVEL=0"],
        stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=20,
    )  # fmt: skip
    assert b"Cipher is (NONE)" in done.stdout


def _negotiate(port: int, protocols: list[str], most: ssl.TLSVersion) -> tuple[str, str]:
    context = ssl._create_unverified_context()  # noqa: S323
    context.maximum_version = most
    context.set_alpn_protocols(protocols)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain) as line,
    ):
        return str(line.version()), str(line.selected_alpn_protocol())


def test_a_server_that_is_gone_is_a_503_in_the_servers_words(front: Front) -> None:
    # Nobody listens where the site leads now.
    text = (front.folder / "site.conf").read_text()
    unused = free_port()
    (front.folder / "site.conf").write_text(text.replace(f":{front.upstream}", f":{unused}"))
    subprocess.run(
        [str(NGINX), "-e", "stderr", "-c", str(front.folder / "nginx.conf"), "-s", "reload"],
        check=True,
    )
    for _ in range(100):
        answer = front.client.get("/readyz")
        if answer.status_code != 200:
            break
        time.sleep(0.05)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "unavailable"
    assert answer.headers["retry-after"] == "1"
