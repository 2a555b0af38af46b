"""Run a long command and keep telling what it does.

On a terminal one line is rewritten in place; elsewhere (a log, CI) a plain line appears every ten
seconds, so that nothing looks hung and no log is flooded.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

TERMINAL_EVERY_S = 0.2
PLAIN_EVERY_S = 10.0
# What a failed command is allowed to show of itself.
TAIL_LINES = 25


class Ticker:
    """A status line that stays alive by itself between the events that change it."""

    def __init__(self, out: IO[str] | None = None) -> None:
        self._out = out if out is not None else sys.stderr
        self._terminal = self._out.isatty()
        self._text = ""
        self._shown = 0.0
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Ticker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        if self._terminal:
            self._out.write("\r\x1b[K")
            self._out.flush()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def set(self, text: str) -> None:
        """Say what is happening now; the first text of a run is shown at once."""
        with self._lock:
            first = not self._text
            self._text = text
        if first:
            self._show()

    def _run(self) -> None:
        every = TERMINAL_EVERY_S if self._terminal else PLAIN_EVERY_S
        while not self._stopped.wait(every):
            self._show()

    def _show(self) -> None:
        with self._lock:
            seconds = int(self.elapsed_s)
            line = f"  {self._text} ({seconds // 60}:{seconds % 60:02d})"
            self._out.write(f"\r\x1b[K{line[:160]}" if self._terminal else f"{line}\n")
            self._out.flush()


class CommandFailed(Exception):
    """A command ended with an error; the message carries the end of what it wrote."""

    def __init__(self, command: Sequence[str], status: int, tail: Sequence[str]) -> None:
        self.status = status
        self.tail = list(tail)
        shown = "\n".join(f"    {line}" for line in self.tail)
        super().__init__(f"`{' '.join(command[:3])} ...` ended with status {status}:\n{shown}")


def run_told(
    command: Sequence[str],
    tell: Callable[[str], None],
    *,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
    keep_stdout: bool = False,
) -> list[str]:
    """Run a command and pass each line that it writes to `tell`.

    :param keep_stdout: `tell` gets stderr only; the lines of stdout are the answer.
    :raises CommandFailed: a status other than 0.
    :raises OSError: the command cannot be started.
    """
    kept: list[str] = []
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    process = subprocess.Popen(
        list(command),
        cwd=cwd,
        env=dict(environ) if environ is not None else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if keep_stdout else subprocess.STDOUT,
        text=True,
        errors="replace",
    )

    def keep() -> None:
        kept.extend(line.rstrip("\n") for line in process.stdout or [])

    reader = threading.Thread(target=keep, daemon=True)
    try:
        if keep_stdout:
            reader.start()
        for line in (process.stderr if keep_stdout else process.stdout) or []:
            tail.append(line.rstrip())
            tell(line.rstrip())
        status = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        if keep_stdout:
            reader.join()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    if status:
        raise CommandFailed(command, status, tail)
    return kept
