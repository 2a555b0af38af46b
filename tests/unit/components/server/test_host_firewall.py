"""The rules that a host's firewall is made of, and those that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from sixways.server import firewall
from sixways.server.firewall import Firewall, problems
from sixways.server.ssh import HostError
from tests.unit.components.server.fake_host import FakeHost
from tests.unit.components.server.test_host_facts import facts

HERE = facts("debian 12")


def names(name: str) -> list[str]:
    return {"web2": ["10.0.0.4", "fd00::4"]}[name]


def rules(given: dict[str, Any], **further: Any) -> list[str]:
    text = Firewall.of({"firewall": given, **further}, HERE, names).render()
    return [line.strip() for line in text.splitlines() if "dport {" in line]


def test_only_ssh_and_https_are_open_where_nothing_else_is_said() -> None:
    assert rules({}) == ["tcp dport { 22 } accept", "tcp dport { 443 } accept"]
    assert "policy drop;" in Firewall.of({"firewall": {}}, HERE, names).render()


def test_networks_ports_and_the_fleet() -> None:
    given = {
        "allowSshFrom": ["10.0.0.0/24", "fd00::/8"], "allowHttpsFrom": ["192.0.2.0/24"],
        "fleet": ["10.0.0.3", "web2"], "ports": [8080, 80], "httpsPort": 8443,
    }  # fmt: skip
    assert rules(given, nodeExporter=True) == [
        "ip saddr { 10.0.0.0/24 } tcp dport { 22 } accept",
        "ip6 saddr { fd00::/8 } tcp dport { 22 } accept",
        "ip saddr { 192.0.2.0/24 } tcp dport { 8443 } accept",
        "ip saddr { 10.0.0.3/32, 10.0.0.4/32 } tcp dport { 8443, 5443, 9100 } accept",
        "ip6 saddr { fd00::4/128 } tcp dport { 8443, 5443, 9100 } accept",
        "tcp dport { 80, 8080 } accept",
    ]


def test_a_forwarded_port_is_not_what_is_opened() -> None:
    found = facts("debian 12", connection="10.0.0.9 51234 10.0.0.2 2200")
    assert "tcp dport { 2200 } accept" in Firewall.of({"firewall": {}}, found, names).render()


def test_rules_that_lock_out_whoever_applies_them_are_refused() -> None:
    wanted = Firewall.of({"firewall": {"allowSshFrom": ["192.0.2.0/24"]}}, HERE, names)
    with pytest.raises(HostError, match=r"allowSshFrom: '192.0.2.0/24' .*10.0.0.9"):
        wanted.require_way(HERE, "root@web")
    Firewall.of({"firewall": {"allowSshFrom": ["10.0.0.9"]}}, HERE, names).require_way(
        HERE, "root@web"
    )


def test_a_second_firewall_is_refused() -> None:
    with pytest.raises(HostError, match=r"firewalld' .*firewall-cmd --permanent --add-service"):
        firewall.require_alone(facts("rocky 9.6", firewall="firewalld"), "root@web")
    with pytest.raises(HostError, match="not run by systemd"):
        firewall.require_alone(facts("debian 12", systemd=""), "root@web")
    firewall.require_alone(HERE, "root@web")


def test_a_name_that_the_host_cannot_look_up_is_refused() -> None:
    host = FakeHost(answers={"getent ahosts web2": "10.0.0.4 STREAM web2\n10.0.0.4 DGRAM\n"})
    assert firewall.lookup(host)("web2") == ["10.0.0.4"]
    host.answers = {"getent ahosts web2": "fe80::4%eth0 STREAM web2\n"}
    assert firewall.lookup(host)("web2") == ["fe80::4"]
    host.answers = {"getent": 2}
    with pytest.raises(HostError, match=r"firewall\.fleet: 'web2'"):
        firewall.lookup(host)("web2")


def test_no_rule_hides_behind_the_name_of_an_interface() -> None:
    (found,) = problems({"allowHttpsFrom": ["::% } accept"]})
    assert found.field == "firewall.allowHttpsFrom[0]"


def test_every_bad_rule_is_named_at_once() -> None:
    found = problems(
        {"allowSshFrom": [], "allowHttpsFrom": ["10.0.0.1/8"], "fleet": ["10.0.0.1/8"],
         "ports": [True], "httpsPort": 70000, "open": 1}
    )  # fmt: skip
    assert [problem.field for problem in found] == [
        "firewall.open", "firewall.allowSshFrom", "firewall.allowHttpsFrom[0]", "firewall.fleet[0]",
        "firewall.ports[0]", "firewall.httpsPort",
    ]  # fmt: skip
    assert problems({"fleet": [], "ports": [80]}) == []
    assert [problem.field for problem in problems("on")] == ["firewall"]
