"""Hosts of a fleet on loopback: an Nginx each, with a site before two small servers, under load."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from sixways.plugin.certificate import SelfSigned, self_signed
from sixways.server import layout
from sixways.server.host_site import FLEET_NAME, HostSite
from tests.nginx import NGINX, configuration
from tests.ports import free_port


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
        self.http_port = free_port()
        if "challenges" in site:
            site["challenges"] = str(folder / site["challenges"])
        self.child: subprocess.Popen[bytes] | None = None
        for name in ("site", "fleet"):
            (folder / f"{name}.crt").write_text(certificate.certificate)
            (folder / f"{name}.key").write_text(certificate.private_key)
        self.write(HostSite(nginx_version=_version(), redirect_http=False, **site))
        (folder / "nginx.conf").write_text(configuration(folder, workers=2))

    def write(self, site: HostSite) -> None:
        """The site with this test's places, addresses and ports in it."""
        text = site.render()
        for place in (layout.TLS, "/var/log/nginx"):
            text = text.replace(place, str(self.folder))
        text = text.replace(layout.GREEN_IS_LIVE, str(self.folder / "green"))
        for slot, port in layout.PORTS.items():
            text = text.replace(f"127.0.0.1:{port} ", f"127.0.0.1:{self._address(slot)} ")
        text = text.replace("listen 80;", f"listen {self.http_port};")
        text = re.sub(r"listen \[::\].*\n", "", text)  # not every test machine has IPv6
        (self.folder / "site.conf").write_text(text.replace("listen ", f"listen {self.address}:"))

    def _address(self, slot: str) -> int:
        return int(self.slots[slot].server_address[1])

    def start(self) -> None:
        # Standard error has what is said before the logs are open: warnings too.
        with (self.folder / "start.log").open("wb") as said:
            self.child = subprocess.Popen(
                [str(NGINX), "-e", "stderr", "-c", str(self.folder / "nginx.conf")],
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


def curl(*arguments: str) -> str:
    """The HTTP version and the status of an answer."""
    shown = ("-s", "-o", "/dev/null", "-w", "%{http_version} %{http_code}")
    done = subprocess.run(["curl", *shown, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def _version() -> str:
    said = subprocess.run([str(NGINX), "-v"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"nginx/([\d.]+)", said)
    assert found is not None
    return found[1]


@contextlib.contextmanager
def running_hosts(folder: Path, *addresses: str, **site: Any) -> Iterator[list[Host]]:
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
