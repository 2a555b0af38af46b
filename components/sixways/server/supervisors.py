"""Who keeps the server in a slot running: systemd, or supervisord where a host has no systemd."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from sixways.server import layout
from sixways.server.files import Unit
from sixways.server.ssh import Remote

_STOP_SECONDS = 3700.0
"""The server's own `drain_seconds` end it before, and its supervisor's limit after these."""
UNITS = "/etc/systemd/system"


@dataclass(frozen=True)
class State:
    """How the server in a slot is.

    Attributes:
        alive: whether a process of it runs.
        run: another after each start, so also after one that nobody asked for.
        why: the supervisor's own words.
    """

    alive: bool
    run: str
    why: str


class Supervisor(ABC):
    """Starts, ends and watches the server of a slot."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    @abstractmethod
    def start(self, slot: str, unit: Unit) -> None:
        """Writes its definition and starts it, now and at every boot.

        Raises:
            HostError: the supervisor refuses.
        """

    @abstractmethod
    def remove(self, slot: str) -> None:
        """Lets it answer what it has accepted, ends it and takes its definition away; what is not
        there is no error."""

    @abstractmethod
    def state(self, slot: str) -> State:
        """How it is."""

    @abstractmethod
    def log(self, slot: str, since: int, lines: int) -> list[str]:
        """The last lines that it wrote since that time (seconds since 1970 on the host)."""

    @abstractmethod
    def expected(self, slot: str, unit: Unit) -> str:
        """Its definition as `start` writes it."""

    @abstractmethod
    def found(self, slot: str) -> str:
        """Its definition as it is on the host; empty where there is none."""

    @abstractmethod
    def name(self, slot: str) -> str:
        """How whoever logs in to the host calls it."""

    @abstractmethod
    def leave(self) -> None:
        """Takes away what the supervisor itself needed of us."""


class Systemd(Supervisor):
    """A unit of its own for each slot, so that a release touches no other."""

    def start(self, slot: str, unit: Unit) -> None:
        """Writes, enables and starts the unit."""
        self.remote.write(self._path(slot), self.expected(slot, unit))
        self.remote.run("systemctl", "daemon-reload")
        self.remote.run("systemctl", "reset-failed", layout.unit(slot), check=False)
        self.remote.run("systemctl", "enable", "--now", layout.unit(slot))

    def remove(self, slot: str) -> None:
        """Stops and disables the unit, and removes its file."""
        if not self.found(slot):
            return
        self.remote.run("systemctl", "disable", "--now", layout.unit(slot),
                        seconds=_STOP_SECONDS)  # fmt: skip
        self.remote.remove(self._path(slot))
        self.remote.run("systemctl", "daemon-reload")
        self.remote.run("systemctl", "reset-failed", layout.unit(slot), check=False)

    def state(self, slot: str) -> State:
        """What systemd says of the unit."""
        fields = ("ActiveState", "SubState", "Result", "InvocationID", "ExecMainStatus")
        said = self.remote.run(
            "systemctl", "show", "-p", ",".join(fields), layout.unit(slot)
        ).stdout
        values = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        why = f"{values.get('ActiveState')}, {values.get('SubState')}"
        if values.get("Result") not in (None, "", "success"):
            why += f", {values['Result']}"
        if values.get("ExecMainStatus") not in (None, "", "0"):
            why += f", status {values['ExecMainStatus']}"
        alive = values.get("ActiveState") == "active"
        return State(alive, values.get("InvocationID", ""), why)

    def log(self, slot: str, since: int, lines: int) -> list[str]:
        """From the journal."""
        command = ["journalctl", "-u", layout.unit(slot), f"--since=@{since}", "-n", str(lines),
                   "-o", "cat", "--no-pager", "-q"]  # fmt: skip
        return self.remote.run(*command, check=False).stdout.splitlines()

    def expected(self, slot: str, unit: Unit) -> str:
        """The unit's file; it is the same for both slots."""
        return unit.render()

    def found(self, slot: str) -> str:
        """The unit's file on the host."""
        return (self.remote.read(self._path(slot)) or b"").decode(errors="replace")

    def name(self, slot: str) -> str:
        """The unit."""
        return layout.unit(slot)

    def leave(self) -> None:
        """systemd is the host's own."""

    @staticmethod
    def _path(slot: str) -> str:
        return f"{UNITS}/{layout.unit(slot)}"
