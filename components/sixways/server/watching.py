"""Prometheus, and perhaps Grafana, on a host: packages, files, and a unit that runs."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec
import yaml

from sixways.observability import files as rendered
from sixways.observability.prometheus import (
    DCGM_EXPORTER_PORT,
    NODE_EXPORTER_PORT,
    RUNBOOK,
    Target,
    configuration,
    scrape_configs,
)
from sixways.observability.slo import Slo
from sixways.server.facts import Facts, gather
from sixways.server.files import template
from sixways.server.nginx import File, differing, listeners, put
from sixways.server.packages import install, offered
from sixways.server.ssh import HostError, Remote
from sixways_bundle import BundleError, Problem

UNIT = "sixways-prometheus"
FOLDER = "/etc/sixways-monitoring"
OWNER = f"{FOLDER}/owner.json"
HOLDER = f"{FOLDER}/holder"
UNIT_FILE = f"/etc/systemd/system/{UNIT}.service"
_CA = f"{FOLDER}/ca.pem"
_BOARDS = f"{FOLDER}/dashboards"
_DATA = (f"/var/lib/private/{UNIT}", f"/var/lib/{UNIT}")
_GRAFANA = "grafana-server"
_GRAFANA_PORT = 3000
_SOURCE = "/etc/grafana/provisioning/datasources/sixways.yaml"
_PROVIDER = "/etc/grafana/provisioning/dashboards/sixways.yaml"
_DROP_IN = f"/etc/systemd/system/{_GRAFANA}.service.d/sixways.conf"
_GRAFANA_ENV = f"{FOLDER}/grafana.env"
_PROMETHEUS = {"debian": ("prometheus",), "rhel": ("prometheus", "golang-github-prometheus")}
"""Its packages; RHEL's is in EPEL."""
_READY_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What is watched, and how.

    Attributes:
        name: the job, and the objective's name.
        owner: project and stack.
        slo: the objective.
        targets: the hosts that are scraped.
        ca: certificates (PEM) that the hosts' are trusted by; None: the system's.
        server_name: the name in the hosts' certificates; None: their addresses.
        port: where it listens, on loopback.
        scrape_seconds: pause between two scrapes.
        retention_days: how long samples are kept.
        storage_gb: how much they may take; the oldest go first.
        node_exporter: whether each host's is scraped.
        dcgm_exporter: whether each host's is scraped.
        alertmanagers: `ADDRESS:PORT` of whoever is told of alerts.
        runbook: the page to whose sections alerts lead.
        grafana: whether Grafana shows it.
        grafana_password: of its user `admin`, where it is installed for this.
    """

    name: str
    owner: str
    slo: Slo
    targets: tuple[Target, ...]
    ca: str | None = None
    server_name: str | None = None
    port: int = 9090
    scrape_seconds: int = 15
    retention_days: int = 15
    storage_gb: int = 5
    node_exporter: bool = False
    dcgm_exporter: bool = False
    alertmanagers: tuple[str, ...] = ()
    runbook: str = RUNBOOK
    grafana: bool = False
    grafana_password: str | None = field(default=None, repr=False)

    def shown(self) -> dict[str, str]:
        """Scrape file, rules and dashboard, for whoever has a Prometheus already."""
        return rendered.monitoring_files(
            self.slo,
            name=self.name,
            targets=self.targets,
            ca_file=_CA if self.ca else None,
            server_name=self.server_name,
            node_exporter_port=NODE_EXPORTER_PORT if self.node_exporter else None,
            dcgm_exporter_port=DCGM_EXPORTER_PORT if self.dcgm_exporter else None,
            runbook=self.runbook,
        )

    def files(self, prometheus: str) -> dict[str, File]:
        """What lies on the host; `prometheus` is the program's path there."""
        shown = self.shown()
        whole = configuration(
            scrape_configs(
                self.name,
                self.targets,
                ca_file=_CA if self.ca else None,
                server_name=self.server_name,
                node_exporter_port=NODE_EXPORTER_PORT if self.node_exporter else None,
                dcgm_exporter_port=DCGM_EXPORTER_PORT if self.dcgm_exporter else None,
            ),
            scrape_seconds=self.scrape_seconds,
            rule_files=[rendered.RULES],
            alertmanagers=self.alertmanagers,
        )
        found = {
            f"{FOLDER}/prometheus.yml": File(whole),
            f"{FOLDER}/{rendered.RULES}": File(shown[rendered.RULES]),
            UNIT_FILE: File(self._unit(prometheus)),
        }
        if self.ca:
            found[_CA] = File(self.ca)
        if self.grafana:
            found |= self._grafana(shown[rendered.DASHBOARD])
        return found

    def _unit(self, prometheus: str) -> str:
        return template("sixways.server", "files", f"{UNIT}.service").render(
            name=self.name,
            prometheus=prometheus,
            folder=FOLDER,
            unit=UNIT,
            port=self.port,
            retention_days=self.retention_days,
            storage_gb=self.storage_gb,
        )

    def _grafana(self, board: str) -> dict[str, File]:
        source = {"name": f"Sixways {self.name}", "uid": f"sixways-{self.name}"[:40],
                  "type": "prometheus", "access": "proxy",
                  "url": f"http://127.0.0.1:{self.port}"}  # fmt: skip
        provider = {"name": f"sixways-{self.name}", "type": "file", "options": {"path": _BOARDS}}
        return {
            # With `prune` what a file no longer names goes from Grafana too.
            _SOURCE: File(_yaml({"apiVersion": 1, "prune": True, "datasources": [source]})),
            _PROVIDER: File(_yaml({"apiVersion": 1, "providers": [provider]})),
            f"{_BOARDS}/sixways.json": File(board),
        }


class Mark(msgspec.Struct, kw_only=True, rename="camel"):
    """Whose it is, and what was changed that has to be changed back: `OWNER`.

    Attributes:
        owner: project, stack and name.
        grafana_installed: whether Grafana came for us alone.
    """

    owner: str
    grafana_installed: bool = False


def load(remote: Remote) -> Mark | None:
    """The mark on the host; None: nothing of ours is there."""
    text = remote.read(OWNER)
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=Mark)
    except msgspec.MsgspecError as error:
        raise HostError(f"{remote.access}: {OWNER} cannot be read: {error}") from None


def apply(
    remote: Remote, watch: Watch, owners: tuple[str, ...], say: Callable[[str], None]
) -> None:
    """Brings the host to that.

    Args:
        remote: the host.
        watch: what is wanted.
        owners: of whom a mark on the host may be.
        say: told what is being done.

    Raises:
        HostError: it cannot be; what was there before goes on, and a host without it has nothing.
    """
    say("look at the host")
    facts = gather(remote)
    before = _require(remote, facts, watch, owners)
    missing = _missing(remote, facts, watch)
    mark = Mark(owner=watch.owner)
    if before is not None:
        mark.grafana_installed = before.grafana_installed
    mark.grafana_installed |= missing.get(_GRAFANA) is not None
    remote.folder(FOLDER)
    remote.folder(_BOARDS)
    remote.write(OWNER, f"{json.dumps(msgspec.to_builtins(mark))}\n")
    try:
        _install(remote, facts, missing, say)
        with _put_back_on_error(remote):
            _run(remote, watch, mark, say)
    except BundleError:
        if before is None:
            with contextlib.suppress(BundleError):  # the first failure is the one to tell
                remove(remote)
        raise


def difference(remote: Remote, watch: Watch) -> str:
    """What is not as it was made; empty: all is."""
    program = _program(remote, "prometheus")
    if not program:
        return "Prometheus is gone"
    files = watch.files(program)
    mark = load(remote)
    if watch.grafana and mark is not None and mark.grafana_installed:
        files |= _own_grafana(watch)
    wrong = differing(remote, files)
    if wrong:
        return f"changed: {', '.join(wrong)}"
    stopped = [unit for unit in (UNIT, *[_GRAFANA] * watch.grafana) if not _active(remote, unit)]
    return f"stopped: {', '.join(stopped)}" if stopped else ""


def remove(remote: Remote) -> None:
    """Takes away unit, files and data. Packages stay: nobody knows who uses them by now."""
    mark = load(remote) or Mark(owner="")
    if remote.exists(UNIT_FILE):
        remote.run("systemctl", "disable", "--now", "--quiet", UNIT, check=False)
    showed = remote.exists(_SOURCE)
    if mark.grafana_installed:
        remote.run("systemctl", "disable", "--now", "--quiet", _GRAFANA, check=False)
    remote.remove(UNIT_FILE, _SOURCE, _PROVIDER, _DROP_IN, *_DATA)
    remote.run("rmdir", "--ignore-fail-on-non-empty", _DROP_IN.rpartition("/")[0], check=False)
    remote.run("systemctl", "daemon-reload")
    if showed and not mark.grafana_installed:
        remote.run("systemctl", "try-restart", _GRAFANA, check=False)
    remote.remove(FOLDER)


def _require(remote: Remote, facts: Facts, watch: Watch, owners: tuple[str, ...]) -> Mark | None:
    """Refuses what can be refused before anything is changed; returns the host's mark."""
    name = str(remote.access)
    mark = load(remote)
    if mark is not None and mark.owner not in owners:
        raise HostError(
            f"{name} monitors for another stack",
            [Problem("owner", watch.owner, f"{mark.owner}, whose it is ({OWNER})",
                     "use another host, or destroy that stack's first")],
        )  # fmt: skip
    if not facts.systemd_version:
        raise HostError(
            f"{name} is not run by systemd",
            [Problem("address", remote.access.address, "a host with systemd", "use another host, "
                     "or the outputs scrape and rules with a Prometheus that you have")],
        )  # fmt: skip
    ours = (
        _active(remote, UNIT)
        and f"127.0.0.1:{watch.port}" in (remote.read(UNIT_FILE) or b"").decode()
    )
    if not ours and (programs := listeners(remote).get(watch.port)):
        raise HostError(
            f"{name}: a port is taken",
            [Problem("prometheusPort", str(watch.port), "a port that no other program listens at",
                     f"choose another port, or stop {', '.join(sorted(programs))} on the host")],
        )  # fmt: skip
    return mark


def _missing(remote: Remote, facts: Facts, watch: Watch) -> dict[str, str]:
    """The packages that are to be installed, by the unit that each brings.

    Raises:
        HostError: the host's repositories do not have one.
    """
    wanted: dict[str, tuple[str, tuple[str, ...]]] = {}
    if not (_program(remote, "prometheus") and _program(remote, "promtool")):
        wanted["prometheus"] = ("address", _PROMETHEUS[facts.family])
    if watch.grafana and not remote.run("systemctl", "cat", _GRAFANA, check=False).ok:
        wanted[_GRAFANA] = ("grafana", ("grafana",))
    found = {unit: offered(remote, facts, names) for unit, (_, names) in wanted.items()}
    where = {"debian": "Grafana Labs' repository for apt", "rhel": "EPEL"}[facts.family]
    problems = [
        Problem(wanted[unit][0], " or ".join(wanted[unit][1]),
                "a package that the host's repositories have",
                f"add {where} to the host" + (", or leave grafana out" * (unit == _GRAFANA)))
        for unit, package in found.items()
        if package is None
    ]  # fmt: skip
    if problems:
        raise HostError(f"{remote.access} cannot install what it needs", problems)
    return {unit: package for unit, package in found.items() if package is not None}


def _install(
    remote: Remote, facts: Facts, missing: dict[str, str], say: Callable[[str], None]
) -> None:
    """Their own services would listen on all addresses, so they are not started at all."""
    if not missing:
        return
    units = [f"{unit}.service" for unit in missing]
    say(f"install {' '.join(missing.values())}")
    remote.run("systemctl", "mask", "--quiet", *units)
    try:
        install(remote, facts, list(missing.values()), say)
    finally:
        remote.run("systemctl", "unmask", "--quiet", *units, check=False)
        remote.run("systemctl", "disable", "--now", "--quiet", *units, check=False)


def _run(remote: Remote, watch: Watch, mark: Mark, say: Callable[[str], None]) -> None:
    program = _program(remote, "prometheus")
    files = watch.files(program)
    if mark.grafana_installed and watch.grafana:
        files |= _own_grafana(watch)
    unit_before = remote.read(UNIT_FILE)
    wrong = differing(remote, files)
    say("write the files")
    if watch.grafana:
        for path in (_DROP_IN, _SOURCE, _PROVIDER):
            remote.folder(path.rpartition("/")[0])
    put(remote, files)
    gone = [path for path in (_CA, _SOURCE, _PROVIDER, _DROP_IN, f"{_BOARDS}/sixways.json",
                              _GRAFANA_ENV) if path not in files]  # fmt: skip
    showed = remote.exists(_SOURCE) and _SOURCE in gone
    remote.remove(*gone)
    _check(remote)
    remote.run("systemctl", "daemon-reload")
    restart = not _active(remote, UNIT) or unit_before != files[UNIT_FILE].text.encode()
    remote.run("systemctl", "enable", "--quiet", UNIT)
    if restart:
        say("start Prometheus")
        remote.run("systemctl", "restart", UNIT)
    elif wrong:
        remote.run("systemctl", "reload", UNIT)
    _wait(remote, watch.port)
    if watch.grafana and (_SOURCE in wrong or not _active(remote, _GRAFANA)):
        say("start Grafana")
        remote.run("systemctl", "enable", "--quiet", _GRAFANA)
        remote.run("systemctl", "restart", _GRAFANA)
    elif showed:
        remote.run("systemctl", *(("disable", "--now") if mark.grafana_installed
                                  else ("try-restart",)), _GRAFANA)  # fmt: skip


def _own_grafana(watch: Watch) -> dict[str, File]:
    """A Grafana that came for this alone: on loopback, and with no password that all know."""
    drop_in = (
        "[Service]\n"
        f"Environment=GF_SERVER_HTTP_ADDR=127.0.0.1 GF_SERVER_HTTP_PORT={_GRAFANA_PORT}\n"
        f"EnvironmentFile={_GRAFANA_ENV}\n"
    )
    password = f"GF_SECURITY_ADMIN_PASSWORD={watch.grafana_password}\n"
    return {_DROP_IN: File(drop_in), _GRAFANA_ENV: File(password, 0o600)}


def _check(remote: Remote) -> None:
    done = remote.run("promtool", "check", "config", f"{FOLDER}/prometheus.yml", check=False)
    if not done.ok:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise HostError(f"{remote.access}: Prometheus refuses its configuration: {said}")


def _wait(remote: Remote, port: int) -> None:
    end = time.monotonic() + _READY_SECONDS
    ask = ("promtool", "query", "instant", f"http://127.0.0.1:{port}", "vector(1)")
    while not remote.run(*ask, check=False).ok:
        if time.monotonic() > end or remote.run(
            "systemctl", "is-failed", "--quiet", UNIT, check=False
        ).ok:  # fmt: skip
            said = remote.run("journalctl", "-u", UNIT, "-n", "10", "-o", "cat", check=False).stdout
            raise HostError(
                f"{remote.access}: Prometheus does not answer on port {port}:\n{said.strip()}"
            )
        time.sleep(0.3)


@contextlib.contextmanager
def _put_back_on_error(remote: Remote) -> Iterator[None]:
    """Where the block fails, configuration and unit are what they were, and that runs again."""
    paths = (f"{FOLDER}/prometheus.yml", f"{FOLDER}/{rendered.RULES}", _CA, UNIT_FILE)
    before = {path: remote.read(path) for path in paths}
    try:
        yield
    except BundleError:
        with contextlib.suppress(BundleError):
            for path, data in before.items():
                if data is not None:
                    remote.write(path, data)
            if before[UNIT_FILE] is not None:
                remote.run("systemctl", "daemon-reload")
                remote.run("systemctl", "restart", UNIT)
        raise


def _active(remote: Remote, unit: str) -> bool:
    return remote.run("systemctl", "is-active", "--quiet", unit, check=False).ok


def _program(remote: Remote, name: str) -> str:
    return remote.run("sh", "-c", f"command -v {name}", check=False).stdout.strip()


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False)
