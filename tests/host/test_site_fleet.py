"""Two machines of a fleet, of which one loses its power while it is asked."""

from __future__ import annotations

import ssl
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from sixways.naming import to_camel
from sixways.plugin.certificate import self_signed
from sixways.plugin.resource import Call
from sixways.plugin.site import SiteResource
from sixways.server import layout
from sixways.server.host_site import FLEET_NAME
from tests.host.machine import Machine, own_machine

pytestmark = pytest.mark.host
_SERVER = """
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        time.sleep(0.05)
        head = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(b"NAME")
        self.wfile.write(head + b"NAME")
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", 5001), Handler).serve_forever()
"""


class Callers:
    """Callers of one host on kept connections; they wait as long as the OpenAI client's retry."""

    def __init__(self, url: str, certificate: str) -> None:
        self._url, self._certificate = url, certificate
        self._end = threading.Event()
        self.answers: list[tuple[int, str]] = []
        self.failures: list[str] = []
        self.longest = 0.0
        self._threads = [threading.Thread(target=self._call) for _ in range(4)]

    def _call(self) -> None:
        context = ssl.create_default_context(cadata=self._certificate)
        with httpx.Client(verify=context, timeout=30) as client:
            while not self._end.is_set():
                start = time.monotonic()
                try:
                    answer = client.get(self._url)
                    self.answers.append((answer.status_code, answer.text))
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                self.longest = max(self.longest, time.monotonic() - start)

    def wait_for(self, name: str, number: int = 20) -> None:
        """Until that many more answers come from there."""
        start = len(self.answers)
        Machine.wait_until(
            lambda: sum(n == name for _, n in self.answers[start:]) >= number, 30, f"no {name}"
        )

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


def _made(machine: Machine, shared: dict[str, Any]) -> dict[str, Any]:
    access = {to_camel(name): value for name, value in machine.access().items()}
    resource, call = SiteResource(), _call()
    inputs, problems = resource.check(call, {**access, **shared})
    assert problems == []
    return resource.create(call, inputs, preview=False)[1]


def _call() -> Call:
    return Call("urn:pulumi:test::shop::sixways:server:Site::site", lambda *_: None)


def test_a_host_that_loses_its_power_costs_no_request(tmp_path: Path) -> None:
    with own_machine(tmp_path / "a") as first, own_machine(tmp_path / "b") as second:
        addresses = [first.address, second.address]
        shown, fleet = self_signed(addresses, 2), self_signed([FLEET_NAME], 2)
        shared = {
            "nginxVersion": "1.22.1", "peers": addresses,
            "certificate": shown.certificate, "certificateKey": shown.private_key,
            "fleetCertificate": fleet.certificate, "fleetKey": fleet.private_key,
        }  # fmt: skip
        states = []
        for name, machine in (("first", first), ("second", second)):
            machine.write("/root/server.py", _SERVER.replace("NAME", name))
            machine.run("systemd-run", "-q", "python3", "/root/server.py")
            states.append(_made(machine, shared))
        with Callers(f"https://{first.address}/v1/x", shown.certificate) as callers:
            callers.wait_for("first")
            callers.wait_for("second")
            second.kill()
            # Those that are on their way to it wait longest, and are answered by the other.
            callers.wait_for("first", 400)
        assert callers.failures == []
        assert {status for status, _ in callers.answers} == {200}
        assert callers.longest < 20

        second.start()
        second.run("systemd-run", "-q", "python3", "/root/server.py")
        with Callers(f"https://{first.address}/v1/x", shown.certificate) as callers:
            callers.wait_for("second", 1)  # by itself
        assert first.run("sysctl", "-n", "net.ipv4.tcp_retries2") == "5\n"
        SiteResource().delete(_call(), "", states[0])
        assert first.run("sysctl", "-n", "net.ipv4.tcp_retries2") == "15\n"
        assert not first.read(layout.FLEET_SYSCTL)
