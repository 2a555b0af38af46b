"""What a host is: asked with one script, which needs nothing but a POSIX shell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sixways.naming import to_camel
from sixways.server import layout
from sixways.server.ssh import HostError, Remote
from sixways_bundle import Problem

OLDEST_PYTHON = (3, 11)
PYTHONS = ("python3", "python3.14", "python3.13", "python3.12", "python3.11")
"""Interpreters that are looked for, the distribution's own first."""
ARCHITECTURES = ("x86_64", "aarch64")
"""For which there are wheels of the engines."""
_FAMILIES = {
    "debian": ("debian", "ubuntu"),
    "rhel": ("rhel", "fedora", "centos", "rocky", "almalinux", "ol", "amzn"),
}
_MANAGERS = {"debian": "apt-get", "rhel": "dnf"}
_ACCEPTED = "Debian from 12, Ubuntu from 24.04, RHEL from 9 and what is made from them"
# Each line is a word and what belongs to it. /run/systemd/system is what sd_booted(3) looks for.
_SCRIPT = r"""
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
sed -n 's/^\(ID\|ID_LIKE\|VERSION_ID\|PRETTY_NAME\)=/os \1=/p' /etc/os-release 2>/dev/null
echo "architecture $(uname -m)"
echo "cpus $(getconf _NPROCESSORS_ONLN)"
sed -n 's/^MemTotal: *\([0-9]*\) kB/memory \1/p' /proc/meminfo
place=$1
while [ ! -d "$place" ]; do place=${place%/*}; [ "$place" ] || place=/; done
df -Pk "$place" | awk 'NR == 2 {print "free " $4}'
[ -d /run/systemd/system ] && systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/systemd \1/p'
nginx -v 2>&1 | sed -n 's,.*nginx/\([0-9.]*\).*,nginx \1,p'
for name in apt-get dnf; do command -v $name >/dev/null && echo "manager $name"; done
shift
for name in "$@"; do
    path=$(command -v "$name") && "$path" -c 'import ensurepip, sys, venv
print("python", sys.argv[1], "%d.%d" % sys.version_info[:2])' "$path" 2>/dev/null
done
sed -n 's/^Model:[ \t]*/gpu /p' /proc/driver/nvidia/gpus/*/information 2>/dev/null
echo "selinux $(getenforce 2>/dev/null || echo Disabled)"
# A firewall of the distribution's own.
firewall-cmd --state >/dev/null 2>&1 && echo "firewall firewalld"
ufw status 2>/dev/null | grep -q '^Status: active' && echo "firewall ufw"
# Whence this connection comes and where it ends: in the environment of sshd's child, above sudo.
pid=$$
while [ "${pid:-0}" -gt 1 ]; do
    ends=$(tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | sed -n 's/^SSH_CONNECTION=//p')
    if [ "$ends" ]; then echo "connection $ends"; break; fi
    pid=$(awk '$1 == "PPid:" {print $2}' "/proc/$pid/status")
done
exit 0
"""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A host, as it is.

    Attributes:
        distribution: `debian`, `ubuntu`, `rocky`, …
        family: `debian` or `rhel`.
        version: of the distribution.
        architecture: `x86_64` or `aarch64`.
        cpus: processors that are online.
        memory_bytes: main memory.
        free_bytes: free space where bundles and environments lie.
        python: path of the interpreter to use, with `venv`; empty: none is new enough.
        systemd_version: 0 where systemd does not run the host.
        nginx_version: empty where there is none.
        gpus: model of each NVIDIA GPU.
        selinux: whether SELinux is in force.
        firewall: `firewalld` or `ufw` where one of them is active; else empty.
        ssh_from: address this connection comes from; empty where sshd does not tell.
        ssh_port: where the host's sshd listens, which a forwarded port hides.
    """

    distribution: str
    family: str
    version: str
    architecture: str
    cpus: int
    memory_bytes: int
    free_bytes: int
    python: str
    systemd_version: int
    nginx_version: str
    gpus: tuple[str, ...]
    selinux: bool
    firewall: str
    ssh_from: str
    ssh_port: int

    def outputs(self) -> dict[str, Any]:
        """What a resource tells, names as on the wire."""
        hidden = ("selinux", "firewall", "ssh_from", "ssh_port")
        found = {to_camel(name): value for name, value in asdict(self).items()
                 if name not in hidden}  # fmt: skip
        return {**found, "gpus": list(self.gpus)}


def gather(remote: Remote) -> Facts:
    """Asks the host.

    Raises:
        HostError: it is of a distribution or an architecture that is not supported.
    """
    done = remote.run("sh", "-c", _SCRIPT, "facts", layout.HOME, *PYTHONS)
    return parse(done.stdout, str(remote.access), remote.access.port)


def parse(said: str, host: str, port: int) -> Facts:
    """The facts of what the script said.

    Args:
        said: its output.
        host: for messages.
        port: that was connected to; counts where sshd does not tell its own.

    Raises:
        HostError: see `gather`.
    """
    lines: dict[str, list[str]] = {}
    for line in said.splitlines():
        word, _, rest = line.partition(" ")
        lines.setdefault(word, []).append(rest.strip())

    def one(word: str) -> str:
        return lines.get(word, [""])[0]

    release = dict(re.findall(r"^(\w+)=[\"']?(.*?)[\"']?$", "\n".join(lines.get("os", ())), re.M))
    _require(host, release, lines.get("manager", ()), one("architecture"))
    ends = one("connection").split()
    return Facts(
        distribution=release["ID"],
        family=_family(release),
        version=release.get("VERSION_ID", ""),
        architecture=one("architecture"),
        cpus=int(one("cpus") or 1),
        memory_bytes=int(one("memory") or 0) * 1024,
        free_bytes=int(one("free") or 0) * 1024,
        python=_newest(lines.get("python", ())),
        systemd_version=int(one("systemd") or 0),
        nginx_version=one("nginx"),
        gpus=tuple(lines.get("gpu", ())),
        selinux=one("selinux") in ("Enforcing", "Permissive"),
        firewall=one("firewall"),
        ssh_from=ends[0].removeprefix("::ffff:") if ends else "",
        ssh_port=int(ends[3]) if len(ends) == 4 else port,
    )


def _family(release: Mapping[str, str]) -> str:
    names = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    for name in names:
        for family, members in _FAMILIES.items():
            if name in members:
                return family
    return ""


def _require(
    host: str, release: Mapping[str, str], managers: list[str] | tuple[str, ...], machine: str
) -> None:
    name = release.get("PRETTY_NAME") or release.get("ID") or "no /etc/os-release"
    family = _family(release)
    if not family or _MANAGERS[family] not in managers:
        without = f" without {_MANAGERS[family]}" if family else ""
        raise HostError(
            f"{host} is of a distribution that is not supported",
            [Problem("distribution", f"{name}{without}", _ACCEPTED, "use another host, or the way "
                     "container")],
        )  # fmt: skip
    if machine not in ARCHITECTURES:
        raise HostError(
            f"{host} has a processor that the engines are not built for",
            [Problem("architecture", machine, " or ".join(ARCHITECTURES), "use another host")],
        )


def _newest(found: list[str] | tuple[str, ...]) -> str:
    """The distribution's own interpreter where it will do, else the newest that does."""
    for line in found:
        path, _, version = line.rpartition(" ")
        if tuple(int(part) for part in version.split(".")) >= OLDEST_PYTHON:
            return path
    return ""
