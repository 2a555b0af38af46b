"""The site of a host with two slots in a running Nginx, alone and as one of a fleet.

The servers behind it are small ones that say who they are; a host of the fleet is an Nginx of its
own on another loopback address.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from sixways.plugin.certificate import SelfSigned, self_signed
from sixways.server import layout
from sixways.server.host_site import FLEET_NAME, HostSite
from tests.ports import free_port

_NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
needs_nginx = pytest.mark.skipif(_NGINX is None, reason="no nginx")
_KEY = {"Authorization": "Bearer sk-secret-key-of-mine"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nfirst\r\n")
            self.server.go_on.wait(10)
            self.wfile.write(b"6\r\nsecond\r\n0\r\n\r\n")
            return
        body = json.dumps({"name": self.server.name, "headers": dict(self.headers)}).encode()
        # In one piece, as uvloop sends it: an answer that has begun cannot come from another host.
        self.wfile.write(
            f"HTTP/1.1 {self.server.status} X\r\nX-Request-Id: {self.headers['X-Request-Id']}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    """A slot's server."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name, self.status, self.go_on = name, 200, threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self.thread.start()

    def end(self) -> None:
        self.go_on.set()
        self.shutdown()
        self.server_close()
        self.thread.join()


class Host:
    """An Nginx with a host's site before two servers."""

    def __init__(self, folder: Path, address: str, certificate: SelfSigned, **site: Any) -> None:
        self.folder, self.address = folder, address
        self.slots = {slot: _Server(f"{slot} of {address}") for slot in layout.SLOTS}
        self.port: int = site["port"]
        self.child: subprocess.Popen[bytes] | None = None
        for name in ("site", "fleet"):
            (folder / f"{name}.crt").write_text(certificate.certificate)
            (folder / f"{name}.key").write_text(certificate.private_key)
        self.write(HostSite(nginx_version=_version(), redirect_http=False, **site))
        paths = "".join(
            f"{kind}_temp_path {folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            # The tests' folders are closed to other users.
            f"{'user root root; ' if os.geteuid() == 0 else ''}"
            f"daemon off; pid {folder}/pid; worker_processes 2; events {{}} "
            f"http {{ {paths} include {folder}/site.conf; }}"
        )

    def write(self, site: HostSite) -> None:
        """The site with this test's places, addresses and ports in it."""
        text = site.render()
        for place in (layout.TLS, "/var/log/nginx"):
            text = text.replace(place, str(self.folder))
        text = text.replace(layout.GREEN_IS_LIVE, str(self.folder / "green"))
        for slot, port in layout.PORTS.items():
            text = text.replace(f"127.0.0.1:{port} ", f"127.0.0.1:{self._address(slot)} ")
        text = re.sub(r"listen \[::\].*\n", "", text)  # not every test machine has IPv6
        (self.folder / "site.conf").write_text(text.replace("listen ", f"listen {self.address}:"))

    def _address(self, slot: str) -> int:
        return int(self.slots[slot].server_address[1])

    def start(self) -> None:
        # Standard error has what is said before the logs are open: warnings too.
        with (self.folder / "start.log").open("wb") as said:
            self.child = subprocess.Popen(
                [str(_NGINX), "-e", "stderr", "-c", str(self.folder / "nginx.conf")],
                stderr=said,
                process_group=0,
            )
        for _ in range(500):
            with contextlib.suppress(httpx.TransportError):
                self.get("/readyz")
                break
            time.sleep(0.02)
        assert (self.folder / "start.log").read_text() == ""

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"https://{self.address}:{self.port}",
            verify=False,  # noqa: S501 - the certificate is another test's
            timeout=20,
        )

    def get(self, path: str, **headers: str) -> httpx.Response:
        with self.client() as client:
            return client.get(path, headers=headers)

    def switch(self, slot: str) -> None:
        """What a release does."""
        if slot == "green":
            (self.folder / "green").touch()
        else:
            (self.folder / "green").unlink()

    def last(self) -> dict[str, Any]:
        """The last request's entry; it is written after the answer."""
        for _ in range(100):
            if lines := (self.folder / "sixways.access.log").read_text().splitlines():
                entry: dict[str, Any] = json.loads(lines[-1])
                return entry
            time.sleep(0.02)
        raise AssertionError("nothing is logged")

    def kill(self) -> None:
        """All at once, without a goodbye; the servers too."""
        if self.child is not None:
            subprocess.run(["kill", "-KILL", "--", f"-{self.child.pid}"], check=False)
            self.child.wait(10)
            self.child = None
        for server in self.slots.values():
            server.end()
        self.slots = {}


def _curl(*arguments: str) -> str:
    """The HTTP version and the status of an answer."""
    shown = ("-s", "-o", "/dev/null", "-w", "%{http_version} %{http_code}")
    done = subprocess.run(["curl", *shown, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def _version() -> str:
    said = subprocess.run([str(_NGINX), "-v"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"nginx/([\d.]+)", said)
    assert found is not None
    return found[1]


@contextlib.contextmanager
def _hosts(folder: Path, *addresses: str, **site: Any) -> Iterator[list[Host]]:
    certificate = self_signed([FLEET_NAME, *addresses], 2)
    made = []
    try:
        for address in addresses:
            (folder / address).mkdir()
            made.append(Host(folder / address, address, certificate, port=free_port(), **site))
        for host in made:
            host.start()
        yield made
    finally:
        for host in made:
            host.kill()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    limits = {"requests_per_minute": 30, "burst": 2, "max_body_bytes": 1000}
    with _hosts(tmp_path, "127.0.0.1", metrics_from=("192.0.2.0/24",), **limits) as hosts:
        yield hosts[0]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[list[Host]]:
    addresses = ("127.0.0.2", "127.0.0.3")
    with _hosts(tmp_path, *addresses, peers=addresses) as hosts:
        yield hosts


class Load:
    """Callers on kept connections, each as fast as it gets answers."""

    def __init__(self, host: Host, callers: int = 4) -> None:
        self._host, self._end = host, threading.Event()
        self.answers: list[tuple[int, str]] = []
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def _call(self) -> None:
        with self._host.client() as client:
            while not self._end.is_set():
                try:
                    answer = client.post("/v1/x", content=b"x")
                    self.answers.append((answer.status_code, answer.json().get("name", "")))
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))

    def wait_for(self, name: str, number: int = 50) -> None:
        """Until that many more answers come from there."""
        start, deadline = len(self.answers), time.monotonic() + 20
        while sum(n == name for _, n in self.answers[start:]) < number:
            assert time.monotonic() < deadline, f"{name}: {self.answers[-5:]}, {self.failures[:5]}"
            time.sleep(0.01)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
        assert self.failures == []
        assert {status for status, _ in self.answers} == {200}


@needs_nginx
def test_the_traffic_moves_between_the_slots_without_a_lost_request(host: Host) -> None:
    with Load(host) as load:  # without a key there is no limit
        load.wait_for("blue of 127.0.0.1")
        for slot in ("green", "blue", "green"):
            host.switch(slot)
            moved = len(load.answers)
            load.wait_for(f"{slot} of 127.0.0.1")
            # Those that were on their way may still come from the old one, and no others.
            late = {name for _, name in load.answers[moved + 8 :]}
            assert late == {f"{slot} of 127.0.0.1"}


@needs_nginx
def test_limits_are_answered_in_the_servers_words(host: Host) -> None:
    answers = [host.get("/v1/x", **_KEY) for _ in range(5)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert refused[0].headers["retry-after"] == "2"  # 30 a minute
    assert refused[0].json()["error"]["code"] == "rate_limit_exceeded"
    assert host.get("/v1/x", Authorization="Bearer sk-another-key-of-mine").status_code == 200
    with host.client() as client:
        large = client.post("/v1/x", content=b"x" * 1001)
    assert large.status_code == 413
    assert large.json()["error"]["code"] == "body_too_large"
    for answer in (refused[0], large):
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


@needs_nginx
def test_a_request_has_one_id_from_the_caller_to_the_log(host: Host) -> None:
    answer = host.get("/v1/x?secret=1", **{"X-Request-Id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.json()["headers"]["X-Request-Id"] == "mine-1"
    entry = host.last()
    assert (entry["request_id"], entry["path"], entry["status"]) == ("mine-1", "/v1/x", 200)
    for field in ("seconds", "upstream_seconds", "upstream_header_seconds"):
        assert float(entry[field]) >= 0
    assert entry["upstream"].startswith("127.0.0.1:")


@needs_nginx
def test_tokens_go_out_as_they_come_from_either_slot(host: Host) -> None:
    for slot, server in host.slots.items():
        if slot == "green":
            host.switch(slot)
        with host.client() as client, client.stream("GET", "/stream") as answer:
            pieces = answer.iter_bytes()
            assert next(pieces) == b"first"  # the server has not sent the rest yet
            server.go_on.set()
            assert b"".join(pieces) == b"second"


@needs_nginx
def test_a_caller_may_speak_http_2(host: Host) -> None:
    seen = _curl("-k", "--http2", f"https://127.0.0.1:{host.port}/v1/x")
    assert seen == "2 200"


@needs_nginx
def test_metrics_are_closed_to_the_outside(host: Host) -> None:
    for path in ("/metrics", "//metrics", "/x/../metrics", "/%6Detrics", "/metrics?x=1"):
        seen = _curl("-k", "--path-as-is", f"https://127.0.0.1:{host.port}{path}")
        assert seen.endswith(" 403"), path


@needs_nginx
def test_a_slot_that_is_gone_is_a_503_that_asks_to_come_again(host: Host) -> None:
    host.slots.pop("green").end()
    host.switch("green")
    answer = host.get("/readyz")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["code"] == "unavailable"


@needs_nginx
def test_a_fleet_shares_the_requests_of_one_host(fleet: list[Host]) -> None:
    first, second = fleet
    with Load(first) as load:
        for host in fleet:
            load.wait_for(f"blue of {host.address}")
        second.switch("green")
        load.wait_for("green of 127.0.0.3")
    answer = first.get("/v1/x", **{"X-Request-Id": "mine-2", "X-Forwarded-For": "6.6.6.6"})
    headers = answer.json()["headers"]
    assert headers["X-Request-Id"] == "mine-2"
    assert headers["X-Forwarded-For"] == "127.0.0.1"  # the caller's own, not what it says


@needs_nginx
def test_metrics_are_those_of_the_host_that_is_asked(fleet: list[Host]) -> None:
    fleet[1].switch("green")
    for _ in range(4):
        assert fleet[0].get("/metrics").json()["name"] == "blue of 127.0.0.2"
        assert fleet[1].get("/metrics").json()["name"] == "green of 127.0.0.3"


@needs_nginx
def test_a_host_that_is_not_ready_gets_no_requests(fleet: list[Host]) -> None:
    with Load(fleet[0]) as load:
        load.wait_for("blue of 127.0.0.3")
        fleet[1].slots["blue"].status = 503
        load.wait_for("blue of 127.0.0.2", 100)
        fleet[1].slots["blue"].status = 200
        load.wait_for("blue of 127.0.0.3", 1)  # it comes back by itself


@needs_nginx
def test_a_killed_host_costs_no_request(fleet: list[Host]) -> None:
    with Load(fleet[0]) as load:
        load.wait_for("blue of 127.0.0.3")
        fleet[1].kill()
        load.wait_for("blue of 127.0.0.2", 200)


@needs_nginx
def test_the_hosts_believe_nobody_else(fleet: list[Host], tmp_path: Path) -> None:
    other = self_signed([FLEET_NAME], 2)
    (tmp_path / "other.crt").write_text(other.certificate)
    (tmp_path / "other.key").write_text(other.private_key)
    own = tmp_path / "127.0.0.2" / "fleet"
    for certificate, expected in ((None, "400"), (tmp_path / "other", "400"), (own, "200")):
        shown = [] if certificate is None else [
            "--cert", f"{certificate}.crt", "--key", f"{certificate}.key"]  # fmt: skip
        url = f"https://127.0.0.2:{layout.FLEET_PORT}/v1/x"
        assert _curl(*shown, "--cacert", f"{own}.crt", url) == f"1.1 {expected}"
    # Nor does a host send anything to one that shows another certificate.
    for kind in ("crt", "key"):
        shutil.copy(tmp_path / f"other.{kind}", tmp_path / "127.0.0.3" / f"fleet.{kind}")
    conf = str(fleet[1].folder / "nginx.conf")
    subprocess.run([str(_NGINX), "-e", "stderr", "-c", conf, "-s", "reload"], check=True)
    for _ in range(200):
        answers = {fleet[0].get("/v1/x").json()["name"] for _ in range(6)}
        if answers == {"blue of 127.0.0.2"}:
            break
    assert answers == {"blue of 127.0.0.2"}


def test_http_2_is_asked_for_as_the_version_has_it() -> None:
    old, new = HostSite(nginx_version="1.22.1").render(), HostSite(nginx_version="1.25.1").render()
    assert "listen 443 ssl http2;" in old
    assert "http2 on;" not in old
    assert "listen 443 ssl;" in new
    assert "http2 on;" in new


def test_port_80_leads_to_https_and_answers_acme() -> None:
    text = HostSite(nginx_version="1.22.1", port=8443, challenges="/x").render()
    assert "return 308 https://$host:8443$request_uri;" in text
    assert "location ^~ /.well-known/acme-challenge/" in text
    without = HostSite(nginx_version="1.22.1", redirect_http=False, challenges="/x").render()
    assert "return 404;" in without
    assert "listen 80" not in HostSite(nginx_version="1.22.1", redirect_http=False).render()


def test_a_peer_may_be_an_address_of_either_kind_or_a_name() -> None:
    peers = ("10.0.0.1", "fd00::1", "b.example.com")
    text = HostSite(nginx_version="1.22.1", peers=peers).render()
    for server in ("10.0.0.1:5443", "[fd00::1]:5443", "b.example.com:5443"):
        assert f"server {server} max_fails" in text


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"server_names": ("a;b",)}, "server_names"),
        ({"server_names": ()}, "server_names"),
        ({"peers": ("10.0.0.1\n",)}, "peers"),
        ({"certificate_key": "/x y"}, "certificate_key"),
        ({"challenges": "/x{"}, "challenges"),
        ({"trusted_proxies": ("10.0.0.0/33",)}, "trusted_proxies"),
        ({"metrics_from": ("all",)}, "metrics_from"),
        ({"nginx_version": "1.14.1"}, "nginx_version"),
        ({"nginx_version": "new"}, "nginx_version"),
    ],
)
def test_a_value_that_would_be_another_setting_is_refused(
    values: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValueError, match=field):
        HostSite(**{"nginx_version": "1.22.1", **values})
