"""`Monitoring` on a machine that boots: made, changed, mended and taken away by the real Pulumi.

One long life, since a machine costs time. What is watched is an Nginx on the same machine that
shows a server's metrics over https; a whole server is in test_prometheus.py.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from sixways.plugin.certificate import self_signed
from sixways.server.watching import FOLDER, UNIT, UNIT_FILE
from sixways_server.metrics import Metrics
from tests.conftest import private_pulumi
from tests.engine.pulumi_stack import Stack
from tests.host.machine import Machine, own_machine

pytestmark = [pytest.mark.host, pytest.mark.engine]
_PROGRAM = """
import json
import pulumi
from sixways.server import Monitoring

with open("settings.json") as file:
    watch = Monitoring("watch", json.load(file))
for name in ("url", "grafana_url", "rules", "scrape", "dashboard", "status"):
    pulumi.export(name, getattr(watch, name))
"""
_SITE = """
server {
    listen 443 ssl;
    ssl_certificate /etc/nginx/shown.crt;
    ssl_certificate_key /etc/nginx/shown.key;
    location = /metrics { alias /var/www/metrics; default_type text/plain; }
}
"""
_PASSWORD = "a-password-of-its-own"
_GRAFANA_UNIT = """[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
"""


class Deployed:
    """A machine, and the stack whose Prometheus is on it."""

    def __init__(self, machine: Machine, stack: Stack, certificate: str) -> None:
        self.machine, self.stack = machine, stack
        self.args: dict[str, Any] = {
            "owner": "shop/test",
            "name": "shop",
            "targets": [{"name": "here", "address": machine.address}],
            "ca": certificate,
            "scrape_seconds": 1,
            "slo": {"latency_ms": 250},
        }

    def up(self, *arguments: str, check: bool = True, **changes: Any) -> str:
        self.args |= changes
        # Somebody whose sudo asks for no password.
        settings = {**self.machine.access("deploy"), **self.args}
        (self.stack.project / "settings.json").write_text(json.dumps(settings))
        return self.stack.up("--skip-preview", *arguments, check=check).stdout

    def ask(self, path: str) -> Any:
        """The data of Prometheus' answer; None where it does not answer."""
        said = self.machine.run("curl", "-sG", f"http://127.0.0.1:9090/api/v1/{path}", check=False)
        try:
            return json.loads(said)["data"]
        except (json.JSONDecodeError, KeyError):
            return None

    def scrapes(self) -> bool:
        """Whether Prometheus reads the metrics of its target."""
        found = self.ask("targets") or {"activeTargets": []}
        return [target["health"] for target in found["activeTargets"]] == ["up"]

    def left(self) -> set[str]:
        """Whatever is ours, or Grafana's settings."""
        found = self.machine.run(
            "find", "/etc", "/var/lib", "-name", "*sixways*", "-o", "-path", f"{FOLDER}*"
        )
        return set(found.split())


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("monitoring")
    made: list[str] = []

    def before(machine: Machine) -> None:
        shown = self_signed([machine.address], 30)
        machine.write("/etc/nginx/shown.crt", shown.certificate)
        machine.write("/etc/nginx/shown.key", shown.private_key)
        machine.write("/etc/nginx/conf.d/shown.conf", _SITE)
        machine.write("/var/www/metrics", Metrics().text().decode())
        made.append(shown.certificate)

    project = folder / "project"
    project.mkdir()
    (project / "Pulumi.yaml").write_text("name: shop\nruntime: python\n")
    (project / "__main__.py").write_text(_PROGRAM)
    with (
        own_machine(folder / "machine", before=before) as machine,
        Stack(project, private_pulumi(folder / "pulumi")) as stack,
    ):
        yield Deployed(machine, stack, made[0])


def test_a_host_is_watched_until_it_is_no_longer_wanted(deployed: Deployed) -> None:
    machine = deployed.machine
    assert not deployed.left()

    # Debian has no Grafana: nothing is begun.
    said = deployed.up(check=False, grafana=True, grafana_password=_PASSWORD)
    words = "grafana: 'grafana' is not accepted; accepted: a package that the host's repositories"
    assert words in said
    assert not deployed.left()
    assert not machine.run("sh", "-c", "command -v prometheus || true")
    del deployed.args["grafana"], deployed.args["grafana_password"]

    assert "1 created" in deployed.up()
    machine.wait_until(deployed.scrapes, 30, "the target is not read")
    groups = deployed.ask("rules")["groups"]
    assert sum(len(group["rules"]) for group in groups) == 21
    (target,) = deployed.ask("targets")["activeTargets"]
    assert target["scrapeUrl"] == f"https://{machine.address}:443/metrics"
    instance = f"{machine.address}:443"
    assert target["labels"] == {"instance": instance, "job": "shop", "host": "here"}
    heard = machine.run("ss", "-Hltn", "sport = :9090").split()
    assert heard.count("127.0.0.1:9090") == 1
    assert "*:9090" not in heard
    # The distribution's own would listen on all addresses.
    assert machine.run("systemctl", "is-active", "prometheus", check=False).strip() == "inactive"
    assert machine.run("systemctl", "is-enabled", "prometheus", check=False).strip() == "disabled"
    outputs = deployed.stack.outputs()
    assert outputs["rules"] == machine.read(f"{FOLDER}/rules.yml")
    assert outputs["url"] == "http://127.0.0.1:9090"
    deployed.up("--expect-no-changes")

    _changes_in_place(deployed)
    _refuses_what_another_stack_has(deployed)
    _shows_it_in_grafana(deployed)

    deployed.stack.destroy()
    assert not deployed.left()
    assert machine.run("systemctl", "is-active", UNIT, check=False).strip() == "inactive"
    assert machine.run("systemctl", "is-active", "grafana-server", check=False).strip() != "active"
    assert machine.run("sh", "-c", "command -v prometheus"), "packages stay"
    machine.run("systemctl", "is-active", "nginx")


def _changes_in_place(deployed: Deployed) -> None:
    machine = deployed.machine
    # Rules alone: Prometheus reads them anew and is not restarted.
    pid = machine.run("systemctl", "show", "-P", "MainPID", UNIT)
    assert "1 updated" in deployed.up(slo={"latency_ms": 500})
    assert machine.run("systemctl", "show", "-P", "MainPID", UNIT) == pid
    rules = json.dumps(deployed.ask("rules"))
    assert "longer than 500 ms" in rules

    assert "1 updated" in deployed.up(retention_days=30)
    assert "--storage.tsdb.retention.time=30d" in machine.read(UNIT_FILE)
    assert machine.run("systemctl", "show", "-P", "MainPID", UNIT) != pid
    machine.wait_until(deployed.scrapes, 30, "the target is not read")

    # Somebody's hand on the host is found and mended.
    machine.run("systemctl", "stop", UNIT)
    machine.write(f"{FOLDER}/rules.yml", "groups: []\n")
    said = deployed.up("--refresh")
    assert f"changed: {FOLDER}/rules.yml; the next update mends it" in said
    assert "1 updated" in said
    machine.wait_until(deployed.scrapes, 30, "the target is not read")
    assert len(deployed.ask("rules")["groups"]) == 2


def _refuses_what_another_stack_has(deployed: Deployed) -> None:
    project = deployed.stack.project
    with Stack(project, deployed.stack.env, "other") as other:
        (project / "settings.json").write_text(
            json.dumps({**deployed.machine.access(), **deployed.args, "owner": "shop/other"})
        )
        said = other.up("--skip-preview", check=False).stdout
        assert "owner: 'shop/other' is not accepted; accepted: shop/test, whose it is" in said
    assert deployed.scrapes()
    deployed.up("--expect-no-changes")


def _shows_it_in_grafana(deployed: Deployed) -> None:
    machine = deployed.machine
    _offer_grafana(machine)
    deployed.up(grafana=True, grafana_password=_PASSWORD)
    machine.run("systemctl", "is-active", "grafana-server")
    pid = machine.run("systemctl", "show", "-P", "MainPID", "grafana-server").strip()
    environment = machine.run("cat", f"/proc/{pid}/environ").split("\0")
    assert "GF_SERVER_HTTP_ADDR=127.0.0.1" in environment
    assert f"GF_SECURITY_ADMIN_PASSWORD={_PASSWORD}" in environment
    assert machine.run("stat", "-c", "%a %U", f"{FOLDER}/grafana.env").strip() == "600 root"
    board = machine.read(f"{FOLDER}/dashboards/sixways.json")
    assert deployed.stack.outputs()["dashboard"] == board
    provider = machine.read("/etc/grafana/provisioning/dashboards/sixways.yaml")
    assert yaml.safe_load(provider)["providers"][0]["options"]["path"] == f"{FOLDER}/dashboards"
    state = json.dumps(deployed.stack.resources())
    assert _PASSWORD not in state
    deployed.up("--expect-no-changes")


def _offer_grafana(machine: Machine) -> None:
    """A repository with a package `grafana`, as Grafana Labs has one."""
    package = machine.root / "srv/grafana"
    unit = package / "usr/lib/systemd/system/grafana-server.service"
    for path, text in (
        (unit, _GRAFANA_UNIT),
        (package / "DEBIAN/control",
         "Package: grafana\nVersion: 12.0.0\nArchitecture: all\nMaintainer: nobody\n"
         "Description: stands in for Grafana\n"),
    ):  # fmt: skip
        path.parent.mkdir(parents=True)
        path.write_text(text)
    built = machine.root / "srv/grafana.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", str(package), str(built)],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    data = built.read_bytes()
    control = (package / "DEBIAN/control").read_text()
    machine.write("/srv/Packages", f"{control}Filename: ./grafana.deb\nSize: {len(data)}\n"
                  f"SHA256: {hashlib.sha256(data).hexdigest()}\n")  # fmt: skip
    machine.write("/etc/apt/sources.list.d/grafana.list", "deb [trusted=yes] file:/srv ./\n")
