"""A host that keeps files in memory and answers commands as it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sixways.server.ssh import Access, Done, HostError, Remote

OS_RELEASE = {
    "debian 12": """PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
VERSION_ID="12"
ID=debian""",
    "ubuntu 24.04": """PRETTY_NAME="Ubuntu 24.04.3 LTS"
VERSION_ID="24.04"
ID=ubuntu
ID_LIKE=debian""",
    "linuxmint 22": """ID=linuxmint
ID_LIKE="ubuntu debian"
PRETTY_NAME="Linux Mint 22"
VERSION_ID="22\"""",
    "rhel 9.6": """ID="rhel"
ID_LIKE="fedora"
VERSION_ID="9.6"
PRETTY_NAME="Red Hat Enterprise Linux 9.6 (Plow)\"""",
    "rocky 9.6": """ID="rocky"
ID_LIKE="rhel centos fedora"
VERSION_ID="9.6"
PRETTY_NAME="Rocky Linux 9.6 (Blue Onyx)\"""",
    "almalinux 10.0": """ID="almalinux"
ID_LIKE="rhel centos fedora"
VERSION_ID="10.0"
PRETTY_NAME="AlmaLinux 10.0 (Purple Lion)\"""",
    "amzn 2023": """ID="amzn"
ID_LIKE="fedora"
VERSION_ID="2023"
PRETTY_NAME="Amazon Linux 2023.8.20250818\"""",
    "alpine 3.20": """ID=alpine
VERSION_ID=3.20.3
PRETTY_NAME="Alpine Linux v3.20\"""",
    "opensuse-leap 15.6": """VERSION_ID="15.6"
ID="opensuse-leap"
ID_LIKE="suse opensuse"
PRETTY_NAME="openSUSE Leap 15.6\"""",
}
"""The lines of /etc/os-release that count, as these distributions have them."""
_APT = ("debian 12", "ubuntu 24.04", "linuxmint 22")


def said(system: str, *further: str, **changes: str) -> str:
    """What the script of `facts` says on such a host; `changes` replace its lines."""
    lines = {
        "architecture": "x86_64",
        "cpus": "4",
        "memory": "16000000",
        "free": "50000000",
        "systemd": "252",
        "nginx": "1.22.1",
        "manager": "apt-get" if system in _APT else "dnf",
        "python": "/usr/bin/python3 3.11",
        "selinux": "Disabled",
        "connection": "10.0.0.9 51234 10.0.0.2 22",
        **changes,
    }
    release = [f"os {line}" for line in OS_RELEASE[system].splitlines()]
    rest = [f"{word} {value}" for word, value in lines.items() if value]
    return "\n".join([*release, *rest, *further]) + "\n"


Answer = str | int | Callable[[], str]


@dataclass
class FakeHost(Remote):
    """Answers a command by what begins it; everything else succeeds and says nothing.

    Attributes:
        answers: beginning of a command, words joined by spaces: what it says, or its status.
        ran: every command that it was given.
        files: path: bytes.
        before_run: sees each command first, and may raise.
    """

    answers: dict[str, Answer] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    before_run: Callable[[str], None] = lambda _: None
    access: Access = field(
        default_factory=lambda: Access(address="10.0.0.2", host_key="ssh-ed25519 AAAA")
    )

    def run(self, *command: str, check: bool = True, **_: object) -> Done:
        # A script goes by the name that it is given: `sh facts …`.
        line = " ".join(("sh", *command[3:]) if command[:2] == ("sh", "-c") else command)
        self.before_run(line)
        self.ran.append(line)
        if command[0] == "rm":
            gone = command[command.index("--") + 1 :]
            self.files = {p: b for p, b in self.files.items() if not p.startswith(gone)}
        for start, answer in self.answers.items():
            if line.startswith(start):
                if isinstance(answer, int):
                    if check and answer:
                        raise HostError(f"{line}: status {answer}")
                    return Done(answer, "", "")
                return Done(0, answer if isinstance(answer, str) else answer(), "")
        return Done(0, "", "")

    def read(self, path: str) -> bytes | None:
        return self.files.get(path)

    def write(self, path: str, data: bytes | str, **_: object) -> bool:
        self.run("write", path)
        self.files[path] = data.encode() if isinstance(data, str) else data
        return True

    def exists(self, path: str) -> bool:
        return path in self.files or any(line.endswith(f" {path}") for line in self.ran)
