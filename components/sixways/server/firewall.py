"""The firewall of a host: a table of its own in nftables, which leaves ssh and https open.

A rule that closes the way by which it came is taken back by the host itself: a timer that only a
new connection over ssh can stop.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sixways.server import layout
from sixways.server.facts import Facts
from sixways.server.files import template
from sixways.server.ssh import HostError, Remote, connected
from sixways_bundle import BundleError, Problem

RULES = f"{layout.ETC}/firewall.nft"
SERVICE = "sixways-firewall.service"
_UNIT = f"/etc/systemd/system/{SERVICE}"
_NFT = "/usr/sbin/nft"
_TRIED = f"{RULES}.tried"
_ROLLBACK = "sixways-firewall-rollback"
ROLLBACK_SECONDS = 45
"""After which rules that nobody confirmed are taken back."""
EXPORTER_PORT = 9100
_BACK = f"if [ -s {RULES} ]; then {_NFT} -f {RULES}; else {_NFT} delete table inet sixways; fi"
OPEN_HTTPS = {
    "firewalld": "firewall-cmd --permanent --add-service=https && firewall-cmd --reload",
    "ufw": "ufw allow https",
}
"""How each firewall that a distribution brings lets callers in."""
_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_FIELDS = ("allowSshFrom", "allowHttpsFrom", "fleet", "ports", "httpsPort")


@dataclass(frozen=True, kw_only=True)
class Firewall:
    """What may come in; everything that the host itself begins may go out.

    Attributes:
        ssh_port: where its sshd listens.
        ssh_from: who may reach it; None: everybody.
        https_port: where Nginx listens.
        https_from: who may reach it; None: everybody.
        fleet: the hosts that serve together.
        fleet_ports: what is open to them alone.
        ports: what is open to everybody besides.
    """

    ssh_port: int
    ssh_from: tuple[Network, ...] | None
    https_port: int
    https_from: tuple[Network, ...] | None
    fleet: tuple[Network, ...]
    fleet_ports: tuple[int, ...]
    ports: tuple[int, ...]

    @classmethod
    def of(
        cls, inputs: dict[str, Any], facts: Facts, lookup: Callable[[str], list[str]]
    ) -> Firewall:
        """That of a resource's checked inputs.

        Args:
            inputs: with `firewall`.
            facts: of the host.
            lookup: gives the addresses of a host of the fleet that is known by a name.
        """
        wanted = inputs["firewall"]
        exporter = (EXPORTER_PORT,) if inputs.get("nodeExporter") else ()
        https = wanted.get("httpsPort", 443)
        return cls(
            ssh_port=facts.ssh_port,
            ssh_from=_networks(wanted.get("allowSshFrom")),
            https_port=https,
            https_from=_networks(wanted.get("allowHttpsFrom")),
            fleet=_addresses(wanted.get("fleet", ()), lookup),
            fleet_ports=(https, layout.FLEET_PORT, *exporter),
            ports=tuple(sorted(set(wanted.get("ports", ())))),
        )

    def render(self) -> str:
        """The rules, a file for `nft -f`; loading it again changes nothing."""
        values = {name: getattr(self, name) for name in asdict(self)}
        return template(__package__, "files", "firewall.nft").render(values)

    def require_way(self, facts: Facts, host: str) -> None:
        """Refuses rules that would close the way by which they come.

        Raises:
            HostError: `ssh_from` lacks the address that this connection comes from.
        """
        if self.ssh_from is None or not facts.ssh_from:
            return
        own = ipaddress.ip_address(facts.ssh_from)
        if not any(own in network for network in self.ssh_from):
            raise HostError(
                f"{host}: these rules would lock out whoever applies them",
                [Problem("firewall.allowSshFrom", ", ".join(map(str, self.ssh_from)),
                         f"networks that hold {own}, whence this connection comes",
                         f"add {own}")],
            )  # fmt: skip


def problems(given: object) -> list[Problem]:
    """What is wrong with the input `firewall`."""
    if not isinstance(given, dict):
        return [Problem("firewall", str(given), f"a mapping of {', '.join(_FIELDS)}")]
    found = [
        Problem(f"firewall.{name}", name, ", ".join(_FIELDS), "correct or remove the name")
        for name in sorted(set(given) - set(_FIELDS))
    ]
    for name in ("allowSshFrom", "allowHttpsFrom", "fleet"):
        accepted = "an IP address or network, e.g. 10.0.0.0/8"
        if name == "fleet":
            accepted = "an IP address, or a name that the host can look up"
        values = given.get(name, [])
        if not isinstance(values, list):
            values = [values]
        elif name in given and name != "fleet" and not values:
            found.append(Problem(f"firewall.{name}", "", "at least one network",
                                 "leave it out for everybody"))  # fmt: skip
        for index, value in enumerate(values):
            named = name == "fleet" and isinstance(value, str) and _NAME.fullmatch(value)
            if not (named or (isinstance(value, str) and _is_network(value))):
                found.append(Problem(f"firewall.{name}[{index}]", str(value), accepted))
    ports = given.get("ports", [])
    given_ports = list(enumerate(ports)) if isinstance(ports, list) else [(0, ports)]
    for where, port in [(f"ports[{n}]", p) for n, p in given_ports] + [
        ("httpsPort", given.get("httpsPort", 443))
    ]:
        whole = isinstance(port, int) and not isinstance(port, bool)
        if not (whole and 1 <= port <= 65535):
            found.append(
                Problem(f"firewall.{where}", str(port), "a whole number from 1 to 65535", "e.g. 80")
            )
    return found


def lookup(remote: Remote) -> Callable[[str], list[str]]:
    """Looks a name up on the host, which writes addresses down: a host that starts has no DNS yet.

    Whoever calls what is returned gets a HostError where there is no such name.
    """

    def ask(name: str) -> list[str]:
        lines = remote.run("getent", "ahosts", name, check=False).stdout.splitlines()
        found = sorted({line.split()[0].partition("%")[0] for line in lines if line.strip()})
        if not found:
            raise HostError(
                f"{remote.access} cannot look up {name}",
                [Problem("firewall.fleet", name, "a name that the host can look up",
                         "give the IP address")],
            )  # fmt: skip
        return found

    return ask


def require_alone(facts: Facts, host: str) -> None:
    """Refuses a second firewall, of which each would close what the other opens.

    Raises:
        HostError: the distribution's is active, or systemd is not there to load ours.
    """
    if facts.firewall:
        raise HostError(
            f"{host} has an active firewall",
            [Problem("firewall", facts.firewall, "one firewall on a host",
                     f"leave `firewall` out and run `{OPEN_HTTPS[facts.firewall]}` on the "
                     f"host, or disable {facts.firewall} there")],
        )  # fmt: skip
    if not facts.systemd_version:
        raise HostError(
            f"{host} is not run by systemd, which loads the rules when it starts",
            [Problem("firewall", "", "a host with systemd", "leave it out and use the network's")],
        )


def apply(remote: Remote, wanted: Firewall, on_step: Callable[[str], None]) -> None:
    """Loads the rules, proves by a new connection that ssh still comes in, and keeps them.

    Raises:
        HostError: the rules are not to be had, or closed the way; the old ones are back.
    """
    rules = wanted.render()
    remote.write(_TRIED, rules, mode=0o600)
    try:
        remote.run(_NFT, "-c", "-f", _TRIED)
        on_step(f"load the firewall's rules; they go after {ROLLBACK_SECONDS} s unless ssh works")
        _load_for_a_while(remote, ROLLBACK_SECONDS)
        try:
            with connected(remote.access):
                pass
        except BundleError as error:
            # What was open already may be open still; where it is not, the timer does this.
            with contextlib.suppress(HostError):
                remote.run("sh", "-c", _BACK, seconds=10)
            raise HostError(
                f"the firewall closed the way to {remote.access}, and was taken back: "
                f"{error.message}",
                error.problems,
            ) from None
        remote.write(RULES, rules, mode=0o600)
        remote.write(_UNIT, _service())
        remote.run("systemctl", "daemon-reload")
        remote.run("systemctl", "enable", SERVICE)
        remote.run("systemctl", "reload-or-restart", SERVICE)
        _stop_timer(remote)
    finally:
        with contextlib.suppress(HostError):
            remote.remove(_TRIED)


def remove(remote: Remote) -> None:
    """Takes rules and unit away; that they are not there is success."""
    if remote.exists(_UNIT):
        remote.run("systemctl", "disable", "--now", SERVICE, check=False)
        remote.remove(_UNIT)
        remote.run("systemctl", "daemon-reload")
    if remote.exists(_NFT):
        remote.run(_NFT, "delete", "table", "inet", "sixways", check=False)
    remote.remove(RULES)


def difference(remote: Remote, wanted: Firewall | None) -> str:
    """How the host differs from it; empty: it does not. None: there must be no rules of ours."""
    there = remote.read(RULES)
    if wanted is None:
        return "it has rules that nobody wants" if there is not None else ""
    if there is None or there.decode(errors="replace") != wanted.render():
        return f"{RULES} is not as it was written"
    if not remote.run(_NFT, "list", "table", "inet", "sixways", check=False).ok:
        return "the firewall's rules are not loaded"
    on = remote.run("systemctl", "is-enabled", SERVICE, check=False)
    return "" if on.ok else f"{SERVICE} is {on.stdout.strip() or 'gone'}"


def _service() -> str:
    return template(__package__, "files", SERVICE).render(nft=_NFT, rules=RULES)


def _load_for_a_while(remote: Remote, seconds: float) -> None:
    """Loads what is tried; the host itself takes it back, whatever becomes of this connection."""
    _stop_timer(remote)
    remote.run("systemd-run", f"--unit={_ROLLBACK}", f"--on-active={seconds}", "--collect",
               "--timer-property=AccuracySec=1s", "/bin/sh", "-c", _BACK)  # fmt: skip
    remote.run(_NFT, "-f", _TRIED)


def _stop_timer(remote: Remote) -> None:
    """Before it is started, too: an update that was interrupted left it running."""
    remote.run("systemctl", "stop", f"{_ROLLBACK}.timer", check=False)


def _networks(values: Sequence[str] | None) -> tuple[Network, ...] | None:
    return None if values is None else tuple(ipaddress.ip_network(value) for value in values)


def _addresses(values: Sequence[str], lookup: Callable[[str], list[str]]) -> tuple[Network, ...]:
    found = [
        address
        for value in values
        for address in ([value] if _is_network(value) else lookup(value))
    ]
    return _networks(list(dict.fromkeys(found))) or ()


def _is_network(value: str) -> bool:
    # Python takes anything after `%` for the name of an interface.
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_network(value)) and "%" not in value
    return False
