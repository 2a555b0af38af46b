"""What a host is, told from what its script says; and what it lacks."""

from __future__ import annotations

import pytest

from sixways.server import packages
from sixways.server.facts import Facts, parse
from sixways.server.ssh import HostError
from tests.unit.components.server.fake_host import FakeHost, said

DEBIAN_POLICY = """python3:
  Installed: (none)
  Candidate: 3.9.2-3
  Version table:
python3.12:
  Installed: (none)
  Candidate: 3.12.1-1
  Version table:
"""


def facts(system: str, *further: str, **changes: str) -> Facts:
    return parse(said(system, *further, **changes), "root@10.0.0.2", 2222)


@pytest.mark.parametrize(
    ("system", "family"),
    [("debian 12", "debian"), ("ubuntu 24.04", "debian"), ("linuxmint 22", "debian"),
     ("rhel 9.6", "rhel"), ("rocky 9.6", "rhel"), ("almalinux 10.0", "rhel"),
     ("amzn 2023", "rhel")],
)  # fmt: skip
def test_the_family_follows_from_the_distribution(system: str, family: str) -> None:
    found = facts(system)
    assert (f"{found.distribution} {found.version}", found.family) == (system, family)


@pytest.mark.parametrize("system", ["alpine 3.20", "opensuse-leap 15.6"])
def test_another_distribution_is_refused_by_name(system: str) -> None:
    with pytest.raises(HostError, match=r"(Alpine Linux v3|openSUSE Leap 15).*Debian from 12"):
        facts(system, manager="")


def test_a_distribution_without_its_package_manager_is_refused() -> None:
    with pytest.raises(HostError, match=r"Debian GNU/Linux 12 .bookworm. without apt-get"):
        facts("debian 12", manager="dnf")


def test_another_processor_is_refused() -> None:
    with pytest.raises(HostError, match=r"architecture: 'armv7l' .*x86_64 or aarch64"):
        facts("debian 12", architecture="armv7l")


def test_the_facts_are_what_the_host_says() -> None:
    found = facts("debian 12", "gpu NVIDIA H100 80GB", "gpu NVIDIA H100 80GB")
    assert found.outputs() == {
        "distribution": "debian", "family": "debian", "version": "12", "architecture": "x86_64",
        "cpus": 4, "memoryBytes": 16_384_000_000, "freeBytes": 51_200_000_000,
        "python": "/usr/bin/python3", "systemdVersion": 252, "nginxVersion": "1.22.1",
        "gpus": ["NVIDIA H100 80GB", "NVIDIA H100 80GB"],
    }  # fmt: skip
    assert (found.ssh_from, found.ssh_port) == ("10.0.0.9", 22)
    bare = facts("debian 12", systemd="", nginx="", python="", connection="")
    assert (bare.systemd_version, bare.nginx_version, bare.python) == (0, "", "")
    assert (bare.ssh_from, bare.ssh_port) == ("", 2222)
    assert facts("debian 12", connection="::ffff:10.0.0.9 1 ::ffff:10.0.0.2 22").ssh_from == (
        "10.0.0.9"
    )


def test_an_old_python_does_not_count() -> None:
    newer = "python /usr/bin/python3.12 3.12"
    assert facts("rocky 9.6", python="/usr/bin/python3 3.9").python == ""
    assert facts("rocky 9.6", newer, python="/usr/bin/python3 3.9").python == "/usr/bin/python3.12"


def test_a_host_that_has_everything_lacks_nothing_and_asks_no_index() -> None:
    host = FakeHost(answers={"dpkg-query": "ii "})
    assert packages.lacking(host, facts("debian 12"), ["nginx"], ["jq"]) == []
    packages.install(host, facts("debian 12"), [], print)
    assert not any("apt-get" in line for line in host.ran)


def test_debian_gets_the_newest_python_that_it_offers() -> None:
    host = FakeHost(answers={"apt-cache": DEBIAN_POLICY, "sh lacking": "nginx\nnft\n"})
    wanted = packages.lacking(host, facts("debian 12", python=""), ["nginx", "firewall"], [])
    assert wanted == ["nginx", "nftables", "python3.12", "python3.12-venv"]
    packages.install(host, facts("debian 12"), wanted, print)
    assert host.ran[-1].startswith("env DEBIAN_FRONTEND=noninteractive")
    assert host.ran[-1].endswith(f"install --no-install-recommends {' '.join(wanted)}")


def test_rhel_gets_its_packages_from_dnf() -> None:
    offered = "python3 3.9.21\npython3.12 3.12.9\npython3.11 3.11.11\n"
    host = FakeHost(
        answers={
            "dnf -q repoquery": offered,
            "sh lacking": "prometheus-node-exporter|node_exporter\n",
            "rpm": 1,
        }
    )
    found = facts("rocky 9.6", python="")
    wanted = packages.lacking(host, found, ["nginx", "nodeExporter"], ["jq"])
    assert wanted == ["/usr/bin/node_exporter", "jq", "python3.12"]
    packages.install(host, found, wanted, print)
    assert host.ran[-1] == (
        "dnf -y --setopt=install_weak_deps=False install /usr/bin/node_exporter jq python3.12"
    )
    host.answers = {"dnf": 1}
    with pytest.raises(HostError, match="dnf install epel-release"):
        packages.install(host, found, wanted, print)


def test_a_distribution_that_is_too_old_is_refused_before_anything_is_installed() -> None:
    host = FakeHost(answers={"apt-cache": DEBIAN_POLICY.split("python3.12")[0]})
    with pytest.raises(HostError, match=r"no Python that is new enough(.|\n)*3.11 or newer"):
        packages.lacking(host, facts("debian 12", python=""), ["nginx"], [])
    assert not any(" install " in line for line in host.ran)
