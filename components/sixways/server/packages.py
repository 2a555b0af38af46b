"""Installs what a host lacks from its distribution's own packages."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from sixways.server.facts import OLDEST_PYTHON, PYTHONS, Facts
from sixways.server.ssh import HostError, Remote
from sixways_bundle import Problem

INSTALL_SECONDS = 900.0
# Another package manager may hold the lock: fresh hosts update themselves.
_APT = (
    "env", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_MODE=l", "APT_LISTCHANGES_FRONTEND=none",
    "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3",
)  # fmt: skip
_DNF = ("dnf", "-y", "--setopt=install_weak_deps=False")
# What a need is called: its command, and the package of each family that brings it.
_NEEDS = {
    "nginx": ("nginx", "nginx", "nginx"),
    "firewall": ("nft", "nftables", "nftables"),
    "acme": ("certbot", "certbot", "certbot"),
    "nodeExporter": ("prometheus-node-exporter|node_exporter", "prometheus-node-exporter",
                     "/usr/bin/node_exporter"),
    "selinux": ("semanage", "policycoreutils-python-utils", "policycoreutils-python-utils"),
}  # fmt: skip
_LACKING = r"""
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
for need in "$@"; do
    found=
    for name in $(echo "$need" | tr '|' ' '); do
        command -v "$name" >/dev/null && found=yes
    done
    [ "$found" ] || echo "$need"
done
"""


def lacking(
    remote: Remote, facts: Facts, needs: Sequence[str], further: Sequence[str]
) -> list[str]:
    """The packages that have to be installed; looks only.

    Args:
        remote: the host.
        facts: of it.
        needs: keys of `_NEEDS`.
        further: packages that are wanted by name.

    Raises:
        HostError: the distribution has no Python that is new enough.
    """
    second = facts.family == "rhel"
    commands = {_NEEDS[need][0]: _NEEDS[need][2 if second else 1] for need in needs}
    said = remote.run("sh", "-c", _LACKING, "lacking", *commands).stdout.split()
    wanted = [commands[command] for command in said]
    wanted += [name for name in further if not _installed(remote, facts, name)]
    if not facts.python:
        wanted += _python(remote, facts)
    return list(dict.fromkeys(wanted))


def install(
    remote: Remote, facts: Facts, packages: Sequence[str], on_line: Callable[[str], None]
) -> None:
    """Installs them; none is not even a look at the index.

    Raises:
        HostError: the package manager's own words.
    """
    if not packages:
        return
    try:
        if facts.family == "rhel":
            remote.run(*_DNF, "install", *packages, seconds=INSTALL_SECONDS, on_line=on_line)
            return
        _refresh(remote, on_line)
        remote.run(*_APT, "install", "--no-install-recommends", *packages,
                   seconds=INSTALL_SECONDS, on_line=on_line)  # fmt: skip
    except HostError as error:
        where = "EPEL has what RHEL has not: `dnf install epel-release`. " * (
            facts.family == "rhel"
        )
        raise HostError(
            error.message,
            [Problem("packages", " ".join(packages), "packages that the host's repositories have",
                     f"{where}Correct `packages` or the host's repositories")],
        ) from None  # fmt: skip


def offered(remote: Remote, facts: Facts, names: Sequence[str]) -> str | None:
    """The first of these packages that the host's repositories have; None: none of them."""
    if facts.family == "rhel":
        for name in names:
            done = remote.run("dnf", "-q", "repoquery", "--qf", "%{name}\n", name, check=False,
                              seconds=INSTALL_SECONDS)  # fmt: skip
            if done.stdout.split():
                return name
        return None
    for look_again in (False, True):
        if look_again:  # its index may be old, or not there at all
            _refresh(remote, lambda _: None)
        said = remote.run("apt-cache", "policy", *names, check=False).stdout
        found = set(re.findall(r"^(\S+):\n.*\n *Candidate: \d", said, re.M))
        for name in names:
            if name in found:
                return name
    return None


def _refresh(remote: Remote, on_line: Callable[[str], None]) -> None:
    remote.run(*_APT, "update", seconds=INSTALL_SECONDS, on_line=on_line)


def _installed(remote: Remote, facts: Facts, name: str) -> bool:
    if facts.family == "rhel":
        return remote.run("rpm", "-q", "--whatprovides", name, check=False).ok
    done = remote.run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}", name, check=False)
    return done.stdout.startswith("ii")


def _python(remote: Remote, facts: Facts) -> list[str]:
    """The packages with an interpreter that is new enough and can make environments."""
    for name, version in _pythons(remote, facts).items():
        if tuple(int(part) for part in version.split(".")[:2]) >= OLDEST_PYTHON:
            return [name] if facts.family == "rhel" else [name, f"{name}-venv"]
    raise HostError(
        f"{remote.access} has no Python that is new enough, and its distribution offers none",
        [Problem("python", f"{facts.distribution} {facts.version}",
                 f"Python {'.'.join(map(str, OLDEST_PYTHON))} or newer",
                 "upgrade the host, or install one with its venv module")],
    )  # fmt: skip


def _pythons(remote: Remote, facts: Facts) -> dict[str, str]:
    """What the distribution offers, and in which version."""
    if facts.family == "rhel":
        form = "%{name} %{version}\n"
        done = remote.run("dnf", "-q", "repoquery", "--latest-limit=1", "--qf", form, *PYTHONS,
                          seconds=INSTALL_SECONDS)  # fmt: skip
        offered = dict(re.findall(r"^(python\S*) (\d+\.\d+)", done.stdout, re.M))
    else:
        _refresh(remote, lambda _: None)
        done = remote.run("apt-cache", "policy", *PYTHONS)
        offered = dict(re.findall(r"^(python\S*):\n.*\n *Candidate: (\d+\.\d+)", done.stdout, re.M))
    return {name: offered[name] for name in PYTHONS if name in offered}
