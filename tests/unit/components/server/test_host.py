"""What the Host resource accepts, what it says an update will do, and what it undoes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from sixways.plugin import host as plugin
from sixways.plugin.host import HostResource
from sixways.plugin.resource import Call, PartlyMade, Values
from sixways.plugin.values import UNKNOWN
from sixways.server import layout
from sixways.server.host import Host
from sixways.server.ssh import ConnectionLost, HostError
from sixways_bundle import BundleError, Problem
from tests.unit.components.server.fake_host import FakeHost, said

GIVEN: Values = {"address": "10.0.0.2", "hostKey": "ssh-ed25519 AAAA", "owner": "shop/prod"}
HOST = HostResource()
LOG: list[str] = []


@pytest.fixture
def call() -> Call:
    LOG.clear()
    return Call("urn:pulumi:dev::x::sixways:server:Host::web", lambda _, m, __: LOG.append(m))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    """A Debian that lacks nothing, and whose user is made when somebody makes it."""
    there = FakeHost()
    there.answers = {"sh facts": said("debian 12")}

    def answer(line: str) -> None:
        made = any("useradd" in ran for ran in there.ran)
        gone = any("userdel" in ran for ran in there.ran)
        there.answers["getent"] = 0 if made and not gone else 2

    there.before_run = answer

    @contextlib.contextmanager
    def connect(_: Values) -> Iterator[FakeHost]:
        yield there

    monkeypatch.setattr(plugin, "host", connect)
    return there


def checked(call: Call, **changes: Any) -> Values:
    inputs, problems = HOST.check(call, {**GIVEN, **changes})
    assert not problems
    return inputs


def test_every_bad_input_is_named_at_once(call: Call) -> None:
    _, found = HOST.check(
        call,
        {"address": "", "hostKey": "k", "port": 0, "acme": "yes", "supervisor": "runit",
         "packages": ["-y", "jq-", "g++"], "firewall": {"ports": [0]}, "nodexporter": True},
    )  # fmt: skip
    assert {problem.field for problem in found} == {
        "nodexporter", "address", "port", "owner", "acme", "supervisor", "packages[0]",
        "packages[1]", "firewall.ports[0]",
    }  # fmt: skip


def test_what_is_not_known_yet_is_passed_over(call: Call) -> None:
    given = dict.fromkeys((*GIVEN, "packages", "supervisor", "acme"), UNKNOWN)
    _, found = HOST.check(call, {**given, "firewall": {"fleet": [UNKNOWN]}})
    assert found == []


def test_another_address_is_another_host_and_all_else_changes_in_place(call: Call) -> None:
    state = {**checked(call), "status": "ready"}
    assert not HOST.diff(call, state, checked(call))
    assert HOST.diff(call, state, checked(call, address="10.0.0.3")).replace == ["address"]
    changes = HOST.diff(call, {**state, "status": "user sixways is gone"},
                        checked(call, firewall={}, user="deploy", hostKey="k"))  # fmt: skip
    assert set(changes.update) == {"user", "hostKey", "firewall", "status"}
    assert not changes.replace


def test_a_host_becomes_ready_and_nobodys_again(call: Call, fake: FakeHost) -> None:
    resource_id, state = HOST.create(call, checked(call), preview=False)
    assert resource_id == "10.0.0.2"
    assert (state["status"], state["userMade"], state["installed"]) == ("ready", True, [])
    assert json.loads(fake.files[layout.OWNER])["userMade"] is True
    assert HOST.read(call, resource_id, state) == state
    HOST.delete(call, resource_id, state)
    assert fake.files == {}
    assert f"/usr/sbin/userdel {layout.USER}" in fake.ran
    assert HOST.read(call, resource_id, state) is None
    HOST.delete(call, resource_id, state)  # again


def test_a_user_that_was_there_before_stays(call: Call, fake: FakeHost) -> None:
    fake.ran.append("useradd, long ago")
    resource_id, state = HOST.create(call, checked(call), preview=False)
    assert state["userMade"] is False
    HOST.delete(call, resource_id, state)
    assert not any("userdel" in line for line in fake.ran)


def test_a_create_that_fails_is_undone(call: Call, fake: FakeHost) -> None:
    fake.answers[f"install -d -m 750 -o {layout.USER}"] = 1
    with pytest.raises(HostError, match="install -d"):
        HOST.create(call, checked(call), preview=False)
    assert fake.files == {}
    assert f"/usr/sbin/userdel {layout.USER}" in fake.ran


def test_a_create_that_cannot_be_undone_stays_in_the_state(call: Call, fake: FakeHost) -> None:
    answer = fake.before_run

    def lose(line: str) -> None:
        answer(line)
        if "useradd" in line or any("useradd" in ran for ran in fake.ran):
            fake.ran.append(line)
            raise HostError("the connection broke")

    fake.before_run = lose
    with pytest.raises(PartlyMade, match="the connection broke") as error:
        HOST.create(call, checked(call), preview=False)
    assert HOST.diff(call, error.value.outputs, checked(call)).update == ["status"]


def test_a_failed_create_leaves_what_another_update_made(call: Call, fake: FakeHost) -> None:
    fake.files[layout.OWNER] = b'{"owner": "shop/prod", "address": "10.0.0.2", "userMade": true}'
    fake.answers["sh lacking"] = "nginx\n"
    fake.answers["env"] = 100
    with pytest.raises(BundleError, match="packages: 'nginx'"):
        HOST.create(call, checked(call), preview=False)
    assert layout.OWNER in fake.files


def test_a_host_of_another_stack_is_refused_and_left(call: Call, fake: FakeHost) -> None:
    fake.files[layout.OWNER] = b'{"owner": "shop/dev", "address": "10.0.0.2"}'
    for preview in (True, False):
        with pytest.raises(HostError, match=r"owner: 'shop/prod' .*shop/dev, whose host it is"):
            HOST.create(call, checked(call), preview=preview)
    HOST.delete(call, "10.0.0.2", checked(call))
    assert layout.OWNER in fake.files
    assert "the host is shop/dev's by now" in LOG[-1]


def test_an_old_address_of_a_host_that_was_taken_over_removes_nothing(
    call: Call, fake: FakeHost
) -> None:
    _, old = HOST.create(call, checked(call), preview=False)
    HOST.create(call, checked(call, address="web.example.com"), preview=False)
    HOST.delete(call, "10.0.0.2", old)
    assert json.loads(fake.files[layout.OWNER])["address"] == "web.example.com"


def test_a_host_that_gets_another_name_is_not_removed_under_the_old_one(
    call: Call, fake: FakeHost
) -> None:
    _, old = HOST.create(call, checked(call), preview=False)
    resource_id, new = HOST.create(call, checked(call), preview=False)
    HOST.delete(call, resource_id, old)
    assert not any("userdel" in line for line in fake.ran)
    assert HOST.read(call, resource_id, new) == new
    HOST.update(call, new, checked(call, packages=["jq"]), preview=False)
    HOST.delete(call, resource_id, new)
    assert fake.files == {}


def test_a_take_over_that_fails_leaves_the_host_whose_it_was(call: Call, fake: FakeHost) -> None:
    _, old = HOST.create(call, checked(call), preview=False)
    before = dict(fake.files)
    fake.answers[f"install -d -m 750 -o {layout.USER}"] = 1
    with pytest.raises(HostError, match="install -d"):
        HOST.create(call, checked(call, address="web.example.com"), preview=False)
    assert fake.files == before
    HOST.delete(call, "10.0.0.2", old)
    assert fake.files == {}


def test_a_preview_looks_and_changes_nothing(call: Call, fake: FakeHost) -> None:
    fake.answers = {"sh facts": said("debian 12", python="")}
    _, outputs = HOST.create(call, checked(call, firewall={}), preview=True)
    assert (outputs["systemdVersion"], outputs["python"]) == (252, UNKNOWN)
    assert fake.files == {}
    assert len(fake.ran) == 1
    with pytest.raises(HostError, match="would lock out"):
        HOST.create(call, checked(call, firewall={"allowSshFrom": ["192.0.2.1"]}), preview=True)


def test_a_preview_forgives_a_host_that_is_not_there_yet(
    call: Call, fake: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(_: Values) -> FakeHost:
        raise ConnectionLost("root@10.0.0.2 does not answer", [Problem("address", "", "")])

    monkeypatch.setattr(plugin, "host", silent)
    _, outputs = HOST.create(call, checked(call), preview=True)
    assert outputs["python"] is UNKNOWN
    assert "not looked at yet: root@10.0.0.2 does not answer" in LOG[-1]


def test_selinux_lets_nginx_through_and_is_set_back(call: Call, fake: FakeHost) -> None:
    fake.answers["sh facts"] = said("rhel 9.6", selinux="Enforcing", firewall="firewalld")
    fake.answers["/usr/sbin/getsebool"] = "httpd_can_network_connect --> off\n"
    fake.answers["/usr/sbin/semanage port -l"] = (
        "http_port_t                    tcp      80, 81, 443, 8443, 9000\n"
    )
    resource_id, state = HOST.create(call, checked(call), preview=False)
    assert "/usr/sbin/setsebool -P httpd_can_network_connect on" in fake.ran
    assert "/usr/sbin/semanage port -a -t http_port_t -p tcp 5443" in fake.ran
    assert any("firewalld is active" in line for line in LOG)
    HOST.delete(call, resource_id, state)
    assert "/usr/sbin/setsebool -P httpd_can_network_connect off" in fake.ran
    assert "/usr/sbin/semanage port -d -p tcp 5443" in fake.ran


def test_the_wire_and_python_know_the_same_outputs() -> None:
    from sixways.naming import to_camel

    assert {to_camel(name) for name in Host.__annotations__} == set(plugin._OUTPUTS)
