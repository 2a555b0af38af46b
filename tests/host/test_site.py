"""A `Site` on a machine that boots, made, changed, mended and taken away by the real Pulumi.

The tests run in order: each starts from what the one before it left. The server behind the site is
a small one; Nginx before a slot is tried without a machine in tests/unit/components/server.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sixways.naming import to_camel
from sixways.plugin.certificate import self_signed
from sixways.plugin.resource import Call
from sixways.plugin.site import SiteResource
from sixways.server import acme, host_site, layout
from tests.conftest import private_pulumi, require
from tests.engine.pulumi_stack import Stack
from tests.host.machine import Machine, own_machine

pytestmark = [pytest.mark.host, pytest.mark.engine]
_PROGRAM = """
import json
import pulumi
from sixways.server.certificate import SelfSignedCertificate
from sixways.server.site import Site

with open("settings.json") as file:
    given = json.load(file)
fleet = SelfSignedCertificate("fleet", {"names": ["sixways-fleet"]})
own = {"fleet_certificate": fleet.certificate, "fleet_key": fleet.private_key}
if "acme" not in given["site"]:
    shown = SelfSignedCertificate("shown", given["certificate"])
    own |= {"certificate": shown.certificate, "certificate_key": shown.private_key}
    pulumi.export("certificate", shown.certificate)
site = Site("site", {**given["access"], **own, **given["site"]})
for name in ("url", "not_after", "status"):
    pulumi.export(name, getattr(site, name))
"""
_SERVER = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b"the model"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
"""
_KEY = {"Authorization": "Bearer sk-secret-key-of-mine"}


class Deployed:
    """A machine, and the stack whose site is on it."""

    def __init__(self, machine: Machine, stack: Stack) -> None:
        self.machine, self.stack = machine, stack
        self.site: dict[str, Any] = {
            "nginx_version": "1.22.1",
            "server_names": [machine.address],
            "metrics_from": ["127.0.0.0/8"],
        }
        self.certificate: dict[str, Any] = {"names": [machine.address], "days": 30}
        self.before = self.files()

    def up(self, *arguments: str, check: bool = True) -> str:
        settings = {
            # Somebody whose sudo asks for no password.
            "access": self.machine.access("deploy"),
            "site": self.site,
            "certificate": self.certificate,
        }
        (self.stack.project / "settings.json").write_text(json.dumps(settings))
        return self.stack.up("--skip-preview", *arguments, check=check).stdout

    def files(self) -> dict[str, str]:
        """The digests of all that is Nginx's or ours; of logs, that they are there."""
        found = {}
        folders = ("etc/nginx", "etc/sixways", "etc/sysctl.d", "var/log/nginx", "var/lib/sixways")
        for folder in folders:
            for path in (self.machine.root / folder).rglob("*"):
                read = path.is_file() and path.suffix != ".log"
                found[str(path)] = hashlib.sha256(path.read_bytes() if read else b"").hexdigest()
        return found

    def get(self, path: str = "/v1/x", **headers: str) -> httpx.Response:
        """From a caller who believes the certificate of the stack, and no other."""
        context = ssl.create_default_context(cadata=self.stack.outputs()["certificate"])
        with httpx.Client(verify=context, timeout=10) as client:
            return client.get(f"https://{self.machine.address}{path}", headers=headers)

    def nginx(self) -> str:
        """The process of Nginx's master."""
        return self.machine.run("systemctl", "show", "-P", "MainPID", "nginx").strip()


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("site")
    project = folder / "project"
    project.mkdir()
    (project / "Pulumi.yaml").write_text("name: shop\nruntime: python\n")
    (project / "__main__.py").write_text(_PROGRAM)
    with (
        own_machine(folder) as machine,
        Stack(project, private_pulumi(folder / "pulumi")) as stack,
    ):
        names = machine.read("/etc/hosts")
        machine.write("/etc/hosts", f"{names}{machine.address} site.test\n")
        for port in (layout.PORTS["blue"], 8443):
            machine.write(f"/srv/{port}.py", _SERVER.replace("PORT", str(port)))
            machine.run("systemd-run", "-q", "python3", f"/srv/{port}.py")
        yield Deployed(machine, stack)


def test_up_serves_over_https(deployed: Deployed) -> None:
    deployed.up()
    answer = deployed.get()
    assert (answer.status_code, answer.text) == (200, "the model")
    outputs = deployed.stack.outputs()
    assert outputs["url"] == f"https://{deployed.machine.address}"
    assert outputs["status"] == "serving"
    assert deployed.get("/metrics").status_code == 403
    inside = deployed.machine.run("curl", "-sk", "https://127.0.0.1/metrics")
    assert inside == "the model"
    plain = httpx.get(f"http://{deployed.machine.address}/v1/x?a=1")
    assert plain.status_code == 308
    assert plain.headers["location"] == f"https://{deployed.machine.address}/v1/x?a=1"
    said = deployed.machine.run("nginx", "-t")
    assert "warn" not in said
    key = deployed.machine.run("stat", "-c", "%a %U", host_site.CERTIFICATE_KEY)
    assert key == "600 root\n"


def test_a_second_up_changes_nothing(deployed: Deployed) -> None:
    deployed.up("--refresh", "--expect-no-changes")


def test_a_limit_changes_in_place(deployed: Deployed) -> None:
    master = deployed.nginx()
    deployed.site |= {"requests_per_minute": 6, "burst": 0}
    shown = deployed.up()
    assert "1 updated" in shown
    answers = [deployed.get(**_KEY) for _ in range(2)]
    refused = _until(lambda: [a for a in (*answers, deployed.get(**_KEY)) if a.status_code == 429])
    assert refused[0].headers["retry-after"] == "10"
    assert deployed.nginx() == master


def test_what_nginx_refuses_is_put_back(deployed: Deployed) -> None:
    before = deployed.files()
    good = dict(deployed.site)
    deployed.site["peers"] = ["no-such-host.invalid"]
    shown = deployed.up(check=False)
    assert "Nginx refuses its configuration" in shown
    assert "host not found in upstream" in shown
    assert deployed.files() == before
    assert deployed.get().status_code == 200
    deployed.site = good


def test_a_port_that_is_taken_is_named(deployed: Deployed) -> None:
    before = deployed.files()
    deployed.site["https_port"] = 8443
    shown = deployed.up(check=False)
    assert "httpsPort: '8443' is not accepted" in shown
    assert "stop python3 on the host" in shown
    assert deployed.files() == before
    del deployed.site["https_port"]


def test_another_certificate_is_taken_up(deployed: Deployed) -> None:
    old = deployed.stack.outputs()["certificate"]
    deployed.certificate["generation"] = 2
    deployed.up()
    assert deployed.stack.outputs()["certificate"] != old
    _until(lambda: deployed.get().status_code == 200)  # by who believes the new one alone


def test_what_somebody_changed_is_mended(deployed: Deployed) -> None:
    path = deployed.machine.root / layout.NGINX_SITE.lstrip("/")
    good = path.read_text()
    path.unlink()
    (deployed.machine.root / host_site.CERTIFICATE.lstrip("/")).write_text("nonsense")
    shown = deployed.up("--refresh")
    assert f"changed: {host_site.CERTIFICATE}, {layout.NGINX_SITE}" in shown
    assert path.read_text() == good
    assert deployed.get().status_code == 200
    deployed.machine.run("systemctl", "stop", "nginx")
    assert "(stopped)" in deployed.up("--refresh")
    assert deployed.get().status_code == 200
    deployed.up("--refresh", "--expect-no-changes")


def test_the_only_host_of_a_fleet_serves_through_it(deployed: Deployed) -> None:
    deployed.site["peers"] = [deployed.machine.address]
    deployed.up()
    _until(lambda: deployed.get().status_code == 200)
    log = deployed.machine.root / host_site.ACCESS_LOG.lstrip("/")
    fleet = f"{deployed.machine.address}:{layout.FLEET_PORT}"
    _until(lambda: json.loads(log.read_text().splitlines()[-1])["upstream"] == fleet)
    del deployed.site["peers"]
    deployed.up()
    assert not deployed.machine.read(host_site.FLEET_KEY)
    _until(lambda: deployed.get().status_code == 200)


def test_an_acme_server_gives_the_certificate(deployed: Deployed, tmp_path: Path) -> None:
    """With the real certbot, and the small ACME server of Let's Encrypt for tests."""
    pebble = shutil.which("pebble")
    install = "go install github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.1"
    require("host", None if pebble else f"pebble is not on PATH; {install}")
    machine = deployed.machine
    issued = _start_pebble(machine, Path(str(pebble)), tmp_path)
    machine.run("apt-get", "-q", "update")
    machine.run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qy", "install",
                "--no-install-recommends", "certbot")  # fmt: skip
    # The certificate that is there serves until the new one comes.
    deployed.site |= {"server_names": ["site.test"]}
    deployed.site["acme"] = {
        "email": "ops@site.test", "domains": ["site.test"], "agree_tos": True,
        "directory_url": "https://localhost:14000/dir",
    }  # fmt: skip
    deployed.up()
    _until(lambda: "Pebble" in _shown(machine))
    serial = _shown(machine)
    assert machine.run("systemctl", "is-active", "certbot.timer").strip() == "active"
    deployed.up("--refresh", "--expect-no-changes")
    assert deployed.stack.outputs()["url"] == "https://site.test"

    # What the timer does when the time has come.
    machine.run("certbot", "renew", "--force-renewal", "--no-random-sleep-on-renew")
    _until(lambda: _shown(machine) != serial)
    assert "Pebble" in _shown(machine)
    deployed.up("--refresh", "--expect-no-changes")

    # One that is refused leaves what was there.
    before = deployed.files()
    domains = deployed.site["acme"]["domains"]
    deployed.site["acme"]["domains"] = ["site.test", "nobody.test"]
    assert "no certificate for site.test, nobody.test" in deployed.up(check=False)
    assert deployed.files() == before
    assert "Pebble" in _shown(machine)
    deployed.site["acme"]["domains"] = domains

    del deployed.site["acme"]
    deployed.site["server_names"] = [machine.address]
    deployed.up()
    _until(lambda: deployed.get().status_code == 200)
    assert not machine.run("ls", "/etc/letsencrypt/renewal").strip()
    assert not machine.read(acme.HOOK)
    assert issued.exists()


def test_destroy_leaves_nginx_as_it_was(deployed: Deployed) -> None:
    deployed.stack.destroy()
    assert deployed.files() == deployed.before
    assert deployed.machine.run("systemctl", "is-active", "nginx") == "active\n"
    default = httpx.get(f"http://{deployed.machine.address}/")
    assert "Welcome to nginx" in default.text
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"https://{deployed.machine.address}/")


def _until(question: Callable[[], Any]) -> Any:
    """Old workers answer for a moment after a reload, and the log comes after the answer."""

    def asked() -> Any:
        try:
            return question()
        except httpx.TransportError:
            return None

    return Machine.wait_until(asked, 10, "it is not so")


def _shown(machine: Machine) -> str:
    """Who signed the certificate that the site shows, and its number."""
    ask = "openssl s_client -connect 127.0.0.1:443 -servername site.test </dev/null 2>/dev/null"
    return machine.run("sh", "-c", f"{ask} | openssl x509 -noout -issuer -serial")


def _start_pebble(machine: Machine, pebble: Path, folder: Path) -> Path:
    """An ACME server in the machine, which trusts its certificate."""
    certificate = folder / "localhost.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost", "-keyout", str(folder / "localhost.key"),
         "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    shutil.copy(pebble, machine.root / "usr/local/bin/pebble")
    for name in ("localhost.pem", "localhost.key"):
        machine.write(f"/srv/{name}", (folder / name).read_text())
    machine.write("/usr/local/share/ca-certificates/pebble.crt", certificate.read_text())
    machine.run("update-ca-certificates")
    settings = {"pebble": {
        "listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000",
        "certificate": "/srv/localhost.pem", "privateKey": "/srv/localhost.key",
        "httpPort": 80, "tlsPort": 443,
    }}  # fmt: skip
    machine.write("/srv/pebble.json", json.dumps(settings))
    machine.run("systemd-run", "-q", "-E", "PEBBLE_VA_NOSLEEP=1", "/usr/local/bin/pebble",
                "-config", "/srv/pebble.json")  # fmt: skip
    machine.wait_until(
        lambda: "newNonce" in machine.run("curl", "-s", "https://localhost:14000/dir",
                                          check=False), 20, "pebble does not answer")  # fmt: skip
    return certificate


def test_a_host_without_systemd_gets_its_nginx_started_and_stopped(tmp_path: Path) -> None:
    resource, made = SiteResource(), self_signed(["localhost"], 30)
    call = Call("urn:pulumi:test::shop::sixways:server:Site::site", lambda *_: None)
    with own_machine(tmp_path, systemd=False) as machine:
        access = {to_camel(name): value for name, value in machine.access().items()}
        pair = {"certificate": made.certificate, "certificateKey": made.private_key}
        inputs, problems = resource.check(call, {**access, **pair, "nginxVersion": "1.22.1"})
        assert problems == []
        name, state = resource.create(call, inputs, preview=False)
        seen = machine.run("curl", "-sk", "https://127.0.0.1/readyz")
        assert json.loads(seen)["error"]["code"] == "unavailable"  # there is no server
        assert resource.read(call, name, state) == state
        limited = {**inputs, "requestsPerMinute": 60}
        state = resource.update(call, state, limited, preview=False)
        assert resource.read(call, name, {**limited, **state}) == {**limited, **state}
        resource.delete(call, name, {**limited, **state})
        machine.wait_until(
            lambda: "nginx" not in machine.run("ps", "-A", "-o", "comm="), 10, "Nginx runs"
        )
        assert not machine.read(layout.NGINX_SITE)
