"""The Host resource on machines that really run: through the real CLI, over ssh."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sixways.server import firewall, ground, layout
from sixways.server.facts import gather
from sixways.server.firewall import Firewall
from sixways.server.ssh import Access, HostError, connected
from tests.engine.pulumi_stack import Stack
from tests.host.machine import Machine, own_machine

pytestmark = [pytest.mark.host, pytest.mark.engine]
_PROGRAM = """
import json
from pathlib import Path

import pulumi
from sixways.server.host import Host

args = json.loads(Path("args.json").read_text())
args["private_key"] = pulumi.Output.secret(args["private_key"])
host = Host("web", args)
for name in ("distribution", "family", "version", "python", "systemd_version", "nginx_version",
             "cpus", "memory_bytes", "free_bytes", "gpus", "user_made", "installed", "status"):
    pulumi.export(name, getattr(host, name))
"""
# All that anybody could have left behind, but for what packages and logs are.
_LISTING = r"""
find /etc /opt /root /home /srv /usr/local /var/lib /var/spool \( -path /var/lib/apt \
    -o -path /var/lib/dpkg -o -path /var/lib/systemd -o -path /etc/ld.so.cache \
    -o -name '*-' \) -prune -o -type f -exec sha256sum {} + -o -printf '%M %u %g %p %l\n' | sort
ls /var/log
systemctl list-unit-files --no-legend
nft list ruleset
"""


@dataclass
class Program:
    """A stack with one host."""

    stack: Stack
    owner: str

    def args(self, made: Machine, user: str = "root", **further: Any) -> None:
        """What the next command wants."""
        args = {**made.access(user), "owner": self.owner, **further}
        (self.stack.project / "args.json").write_text(json.dumps(args))

    def refuses(self, *words: str, preview: bool = True) -> None:
        """The update fails with these words, already in its preview."""
        done = self.stack.preview(check=False) if preview else self.stack.up(check=False)
        assert done.returncode != 0, done.stdout
        for word in words:
            assert word in done.stdout, done.stdout


@pytest.fixture
def program(tmp_path: Path, pulumi_env: dict[str, str]) -> Iterator[Program]:
    project = tmp_path / "project"
    project.mkdir()
    (project / "Pulumi.yaml").write_text("name: shop\nruntime: python\n")
    (project / "__main__.py").write_text(_PROGRAM)
    with Stack(project, pulumi_env) as stack:
        yield Program(stack, "shop/test")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with own_machine(tmp_path_factory.mktemp("machine")) as one:
        yield one


def _opens(made: Machine, port: int) -> bool:
    """Whether somebody answers, be it with a refusal; a firewall answers nothing."""
    try:
        socket.create_connection((made.address, port), 0.7).close()
    except ConnectionRefusedError:
        return True
    except TimeoutError:
        return False
    return True


def _listing(made: Machine) -> list[str]:
    return made.run("sh", "-c", _LISTING).splitlines()


def test_a_host_is_made_ready_changed_and_left_as_it_was(made: Machine, program: Program) -> None:
    made.run("systemctl", "start", "nftables")
    before = _listing(made)
    stack = program.stack
    program.args(made, "deploy", packages=["jq"])
    stack.up()
    found = stack.outputs()
    assert (found["distribution"], found["family"], found["version"]) == ("debian", "debian", "12")
    assert found["python"] == "/usr/bin/python3"
    assert found["systemd_version"] == 252
    assert found["nginx_version"].startswith("1.22.")
    assert found["installed"] == ["jq"]
    assert found["memory_bytes"] > 1e9
    assert found["free_bytes"] > 1e9
    assert made.run("jq", "-n", "1").strip() == "1"
    assert made.run("stat", "-c", "%U %a", layout.STATE).strip() == f"{layout.USER} 750"
    assert made.run("stat", "-c", "%U %a", layout.INCOMING).strip() == "deploy 700"
    assert json.loads(made.read(layout.OWNER))["owner"] == program.owner
    (state,) = (r for r in stack.resources() if r["type"] == "sixways:server:Host")
    assert "PRIVATE KEY" not in json.dumps(state)
    stack.up("--expect-no-changes")

    # In place: closed, but for ssh, https and what is wanted; once more after a restart.
    assert _opens(made, 80)
    program.args(made, "deploy", packages=["jq"], firewall={
        "allow_ssh_from": [f"{made.gateway}/32"], "allow_https_from": ["10.0.0.0/8", "fd00::/8"],
        "fleet": ["10.99.0.1"], "ports": [8080]})  # fmt: skip
    assert "1 updated" in stack.up("--skip-preview").stdout.replace("~ 1", "1")
    stack.up("--expect-no-changes")
    ports = (22, 80, 443, 5443, 8080, 9100)
    assert [port for port in ports if _opens(made, port)] == [22, 443, 8080]
    made.run("systemctl", "restart", "nftables")  # begins with `flush ruleset`
    made.wait_until(lambda: not _opens(made, 80), 20, "the rules did not come back")

    # Drift: somebody took the rules out.
    made.run("nft", "delete", "table", "inet", "sixways")
    assert "the firewall's rules are not loaded" in stack.run("refresh", "--yes").stdout
    stack.up("--skip-preview")
    assert not _opens(made, 80)

    program.args(made, "deploy", packages=["jq"])
    stack.up("--skip-preview")
    assert _opens(made, 80)
    assert not made.read(firewall.RULES)

    stack.destroy()
    assert _listing(made) == before
    assert "jq" in made.run("dpkg", "-l", "jq")  # packages stay


def test_bad_inputs_are_named_and_change_nothing(made: Machine, program: Program) -> None:
    before = _listing(made)
    program.args(made, host_key=f"ssh-ed25519 {68 * 'A'}")
    program.refuses("hostKey", "a key as in")
    made_up = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKPmBFdLGp3aDx+k7R1w0DKkfxBRDqZNSQr5JX0UzPUM"
    program.args(made, host_key=made_up)
    program.refuses("not the host that is meant", made.access()["host_key"])  # type: ignore[arg-type]
    program.args(made, user="nobody")
    program.refuses("nobody@", "is not let in")
    program.args(made, user="guest")
    program.refuses("cannot become root", "NOPASSWD")
    program.args(made, firewall={"allow_ssh_from": ["192.0.2.0/24"]})
    program.refuses("firewall.allowSshFrom", f"networks that hold {made.gateway}")
    program.args(made, firewall={"ports": [0], "fleet": ["web:2"], "open": True}, packages=["a;b"])
    program.refuses("firewall.ports[0]", "firewall.fleet[0]", "firewall.open", "packages[0]")
    program.args(made, packages=["no-such-package-anywhere"])
    program.refuses("no-such-package-anywhere", "Correct `packages`", preview=False)

    release = made.read("/etc/os-release")
    made.run("rm", "/etc/os-release")  # a link to /usr/lib/os-release
    made.write("/etc/os-release", 'ID=alpine\nPRETTY_NAME="Alpine Linux v3.20"\n')
    program.args(made)
    program.refuses("Alpine Linux v3.20", "Debian from 12")
    made.run("ln", "-sf", "../usr/lib/os-release", "/etc/os-release")
    assert made.read("/etc/os-release") == release

    made.write(layout.OWNER, '{"owner": "shop/prod", "address": "web"}')
    program.refuses("serves for another stack", "shop/prod, whose host it is")
    made.run("rm", "-r", layout.ETC)

    program.args(made, address="10.213.255.2")
    assert "not looked at yet" in program.stack.preview().stdout
    program.refuses("does not answer", "10.213.255.2, port 22", preview=False)
    assert _listing(made) == before


def test_rules_that_close_the_way_are_taken_back(made: Machine) -> None:
    with connected(Access(**made.access())) as remote:  # type: ignore[arg-type]
        facts = gather(remote)
        ground.save(remote, ground.Mark(owner="shop/test", address=made.address))
        # Whoever applies them is not in these networks: `require_way` would have said so.
        wanted = Firewall.of({"firewall": {"allowSshFrom": ["192.0.2.0/24"]}}, facts, lambda _: [])
        with pytest.raises(HostError, match=r"closed the way to root@.*, and was taken back"):
            firewall.apply(remote, wanted, lambda _: None)
        assert remote.run("nft", "list", "tables").stdout.count("sixways") == 0

        # The same where the one who applies them is cut off, or dies.
        remote.write(firewall._TRIED, wanted.render())
        firewall._load_for_a_while(remote, 2)
        assert not _opens(made, 22)
        made.wait_until(lambda: _opens(made, 22), 20, "the rules were not taken back")
        ground.clear(remote, ground.Mark(owner="shop/test", address=made.address))


def test_a_host_under_another_address_and_one_without_systemd(
    made: Machine, program: Program, tmp_path: Path
) -> None:
    stack = program.stack
    program.args(made)
    stack.up("--skip-preview")
    # The same host by another address: taken over, and not taken away with the old one.
    second = made.address.removesuffix("2") + "3"
    made.run("ip", "addr", "add", f"{second}/24", "dev", "host0")
    program.args(made, address=second)
    assert "1 replaced" in stack.up("--skip-preview").stdout.replace("+-1", "1")
    assert json.loads(made.read(layout.OWNER))["address"] == second
    assert made.run("id", layout.USER)

    with own_machine(tmp_path / "plain", systemd=False) as plain:
        program.args(plain)
        program.refuses("is not run by systemd", "supervisord")
        program.args(plain, supervisor="supervisord", firewall={})
        program.refuses("is not run by systemd", "leave it out")
        program.args(plain, supervisor="supervisord")
        stack.up("--skip-preview")
        assert stack.outputs()["systemd_version"] == 0
        assert not made.read(layout.OWNER)
        assert layout.USER not in made.read("/etc/passwd")
        assert plain.run("id", layout.USER)
        stack.destroy()
        assert layout.USER not in plain.read("/etc/passwd")
