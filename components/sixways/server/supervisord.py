"""supervisord, for hosts without systemd: a daemon of its own environment, one program a slot.

It knows neither limits of memory and processors nor a sandbox: a server below it is a user of its
own and no more. Where the host has `/etc/init.d`, it is started at boot.
"""

from __future__ import annotations

import math
import re

from sixways.server import layout
from sixways.server.files import CLOSE_SECONDS, Unit, template
from sixways.server.ssh import HostError
from sixways.server.supervisors import State, Supervisor

CONFIG = f"{layout.ETC}/supervisord.conf"
PROGRAMS = f"{layout.ETC}/supervisor.d"
INIT = "/etc/init.d/sixways-supervisord"
_STOP_SECONDS = 3700.0
_SAID = re.compile(r"\S+\s+(?P<state>[A-Z]+)\s*(?P<why>.*)")


class Supervisord(Supervisor):
    """A program for each slot; the daemon is started with the first."""

    def start(self, slot: str, unit: Unit) -> None:
        """Writes the program and starts it."""
        self.remote.folder(layout.LOGS, mode=0o750)
        self.remote.folder(
            f"{layout.STATE}/{slot}", mode=0o700, owner=f"{layout.USER}:{layout.USER}"
        )
        self.remote.write(self._log(slot), "", mode=0o640)
        self._start_daemon()
        self.remote.write(self._path(slot), self.expected(slot, unit))
        said = self._control("update", self.name(slot))
        if not self.state(slot).run:
            raise HostError(f"{self.remote.access}: supervisord does not start it: {said}")

    def remove(self, slot: str) -> None:
        """Stops the program and removes its file; the daemon may know it without its file, where
        that was removed before a connection broke."""
        self.remote.remove(self._path(slot))
        if self._runs():
            self._control("update", self.name(slot))  # stops and forgets it, as its file is gone

    def state(self, slot: str) -> State:
        """What supervisord says of the program."""
        said = self._control("status", self.name(slot))
        match = _SAID.fullmatch(said)
        alive = match is not None and match["state"] in ("RUNNING", "STARTING")
        # It does not say how often it started a program; its log does.
        spawned = self.remote.run("grep", "-c", f"spawned: '{self.name(slot)}'",
                                  f"{layout.LOGS}/supervisord.log", check=False)  # fmt: skip
        run = spawned.stdout.strip() if match else ""
        return State(alive, run, f"{match['state']} {match['why']}" if match else said)

    def log(self, slot: str, since: int, lines: int) -> list[str]:
        """From the program's log, which is emptied when it is started."""
        said = self.remote.run("tail", "-n", str(lines), self._log(slot), check=False)
        return said.stdout.splitlines()

    def expected(self, slot: str, unit: Unit) -> str:
        """The program's file."""
        values = {
            "slot": slot,
            "name": self.name(slot),
            "python": unit.python,
            "config": unit.config,
            "home": f"{layout.STATE}/{slot}",
            "user": unit.user,
            "log": self._log(slot),
            "stop_seconds": math.ceil(unit.drain_seconds) + CLOSE_SECONDS,
        }
        return template(__package__, "files", "supervisord-program.conf").render(values)

    def found(self, slot: str) -> str:
        """The program's file on the host."""
        return (self.remote.read(self._path(slot)) or b"").decode(errors="replace")

    def name(self, slot: str) -> str:
        """The program."""
        return f"sixways-{slot}"

    def leave(self) -> None:
        """Ends the daemon and takes its files away."""
        if self._runs():
            self._control("shutdown")
        if self.remote.exists(INIT):
            self.remote.run("update-rc.d", "sixways-supervisord", "remove", check=False)
        self.remote.remove(CONFIG, PROGRAMS, INIT, f"{layout.LOGS}/supervisord.log",
                           *(self._log(slot) for slot in layout.SLOTS))  # fmt: skip

    def _start_daemon(self) -> None:
        self.remote.folder(PROGRAMS)
        values = {"programs": PROGRAMS, "logs": layout.LOGS}
        self.remote.write(CONFIG, template(__package__, "files", "supervisord.conf").render(values))
        if self.remote.exists("/etc/init.d") and not self.remote.exists(INIT):
            values = {"supervisor": layout.SUPERVISOR, "config": CONFIG}
            script = template(__package__, "files", "sixways-supervisord").render(values)
            self.remote.write(INIT, script, mode=0o755)
            self.remote.run("update-rc.d", "sixways-supervisord", "defaults", check=False)
        if not self._runs():
            self.remote.run(f"{layout.SUPERVISOR}/bin/supervisord", "-c", CONFIG)

    def _runs(self) -> bool:
        """Whether the daemon answers; without an environment there is none."""
        program = f"{layout.SUPERVISOR}/bin/supervisorctl"
        return self.remote.run(program, "-c", CONFIG, "pid", check=False).ok

    def _control(self, *words: str) -> str:
        # Its exit status also tells of programs that do not run.
        done = self.remote.run(f"{layout.SUPERVISOR}/bin/supervisorctl", "-c", CONFIG, *words,
                               check=False, seconds=_STOP_SECONDS)  # fmt: skip
        return done.stdout.strip()

    @staticmethod
    def _path(slot: str) -> str:
        return f"{PROGRAMS}/{slot}.conf"

    @staticmethod
    def _log(slot: str) -> str:
        return f"{layout.LOGS}/{slot}.log"
