"""Starts contenders, pins them, stops them while it is not their turn, ends them.

All contenders of a part are started once. Whoever is not at work is stopped (SIGSTOP), so that
an idle server, with the polling of some frameworks, takes no processor time from the others.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec

from bench.client import Job, Tally

CHECKOUT = Path(__file__).resolve().parents[1]
_MARK = "SIXWAYS_BENCH_PROCESS"
_END_SECONDS = 15.0
_ORPHAN_SECONDS = 3.0
_TAIL_LINES = 12


@dataclass(frozen=True)
class Pins:
    """The processors of the contenders and of the client, the same for every contender."""

    servers: frozenset[int]
    client: frozenset[int]

    @classmethod
    def here(cls) -> Pins:
        """With four processors or more the client has one of its own; else all share all."""
        every = sorted(os.sched_getaffinity(0))
        if len(every) < 4:
            return cls(frozenset(every), frozenset(every))
        return cls(frozenset(every[:-1]), frozenset(every[-1:]))

    def __str__(self) -> str:
        def text(some: frozenset[int]) -> str:
            return ",".join(map(str, sorted(some)))

        return f"contenders on processors {text(self.servers)}, client on {text(self.client)}"


class NotStarted(Exception):
    """A contender that cannot take part; says why."""


@dataclass
class Process:
    """A contender that runs, with all processes that it started.

    Args:
        command: what to start.
        pins: the processors it may use.
        environment: more variables.
        pipes: whether it is spoken to over standard input and output.
    """

    command: Sequence[str]
    pins: Pins
    environment: Mapping[str, str] = field(default_factory=dict)
    pipes: bool = False

    def __post_init__(self) -> None:
        self._mark = secrets.token_hex(8)
        threads = str(len(self.pins.servers))
        environment = {
            **os.environ,
            # The processor is what is measured, also where there is a GPU.
            "CUDA_VISIBLE_DEVICES": "",
            # The same number for all: Ray would give torch one thread, others all of the host's.
            "OMP_NUM_THREADS": threads,
            # Models are on this machine; nobody is to look for newer ones.
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONUNBUFFERED": "1",
            _MARK: self._mark,
            **self.environment,
        }
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._child = subprocess.Popen(
            self.command,
            env=environment,
            cwd=CHECKOUT,
            stdin=subprocess.PIPE if self.pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if self.pipes else self.log,
            stderr=self.log,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, self.pins.servers),
        )

    @property
    def ended(self) -> bool:
        return self._child.poll() is not None

    def pause(self) -> None:
        """Stops all its processes where they are."""
        for pid in self._running():
            _signal(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Lets them run again."""
        for pid in self._running():
            _signal(pid, signal.SIGCONT)

    def ask(self, line: str) -> str:
        """Writes a line to it and waits for the line it answers.

        Raises:
            NotStarted: it ended instead.
        """
        assert self._child.stdin is not None
        # Where it has ended, reading says so.
        with suppress(BrokenPipeError):
            self._child.stdin.write(line.encode() + b"\n")
            self._child.stdin.flush()
        return self.read_line()

    def read_line(self) -> str:
        """Waits for a line of its standard output.

        Raises:
            NotStarted: it ended instead.
        """
        assert self._child.stdout is not None
        line: bytes = self._child.stdout.readline()
        if not line:
            raise NotStarted(f"it ended: {self.last_lines()}")
        return line.decode()

    def last_lines(self) -> str:
        """The end of what it wrote to its log."""
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    def close(self) -> None:
        """Ends it and whatever it started."""
        self.go_on()
        known = self._running()
        self._child.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(_END_SECONDS)
        # What it started ends with it, or a little later, or not at all (daemons).
        self._wait(known)
        for pid in self._left(known):
            _signal(pid, signal.SIGKILL)
        self._wait(known)
        with self._child:  # waits, and closes its pipes
            self.log.close()

    def _wait(self, known: Mapping[int, str]) -> None:
        until = time.monotonic() + _ORPHAN_SECONDS
        while self._left(known) and time.monotonic() < until:
            time.sleep(0.05)

    def _left(self, known: Mapping[int, str]) -> set[int]:
        """Those that run still: of the ones we knew, and others with our mark."""
        now = _processes()
        return {pid for pid, born in known.items() if pid in now and now[pid].born == born} | set(
            self._running()
        )

    def _running(self) -> dict[int, str]:
        """Everything with our mark in its environment, and the children of such: when born by id.

        Children inherit the mark and orphans keep it; but a process that gives itself another
        name may write over it.
        """
        mark = f"{_MARK}={self._mark}".encode()
        every = _processes()
        children: dict[int, list[int]] = {}
        for pid, one in every.items():
            children.setdefault(one.parent, []).append(pid)
        found: dict[int, str] = {}
        pending = [pid for pid in every if mark in _environment(pid)]
        while pending:
            pid = pending.pop()
            if pid not in found:
                found[pid] = every[pid].born
                pending += children.get(pid, [])
        return found


@dataclass(frozen=True)
class _Seen:
    parent: int
    born: str  # in clock ticks: with its id it names one process for ever


def _processes() -> dict[int, _Seen]:
    """All processes that are not dead yet."""
    seen = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # ended meanwhile
                # The second field, the name, may hold anything; what follows it does not.
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    seen[int(folder.name)] = _Seen(int(fields[1]), fields[19])
    return seen


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # ended meanwhile, or another user's
        return []


def _signal(pid: int, which: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, which)


def nginx() -> str:
    """The Nginx of this machine; Debian keeps it where only root's PATH leads.

    Raises:
        NotStarted: there is none.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise NotStarted("nginx is not installed")
    return program


@contextmanager
def at_work(process: Process) -> Iterator[None]:
    """Lets a paused contender run for as long as this lasts."""
    process.go_on()
    try:
        yield
    finally:
        process.pause()


def wait_until(ready: Callable[[], bool], process: Process, seconds: float) -> None:
    """Waits until a contender says it is ready.

    Raises:
        NotStarted: it ended first, or took longer.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.ended:
            raise NotStarted(f"it ended: {process.last_lines()}")
        if ready():
            return
        time.sleep(0.1)
    raise NotStarted(f"not ready after {seconds:.0f} s: {process.last_lines()}")


def send(job: Job, pins: Pins) -> Tally:
    """Runs the client with a job, in its own process on its own processors."""
    with tempfile.TemporaryFile() as answer:
        subprocess.run(
            [sys.executable, "-m", "bench.client"],
            input=msgspec.json.encode(job),
            # A file: megabytes through a pipe would keep the client waiting for its reader.
            stdout=answer,
            cwd=CHECKOUT,
            check=True,
            timeout=job.warm_up + job.seconds + job.timeout + 60,
            preexec_fn=lambda: os.sched_setaffinity(0, pins.client),
        )
        answer.seek(0)
        return msgspec.json.decode(answer.read(), type=Tally)
