import os
import sys
import time
from pathlib import Path

import pytest
from bench.processes import NotStarted, Pins, Process, at_work, wait_until

_PINS = Pins(frozenset(os.sched_getaffinity(0)), frozenset(os.sched_getaffinity(0)))
# Starts a child in a session of its own, without our mark in its environment, and counts.
_COUNTS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                         env={}, start_new_session=True)
print(child.pid, flush=True)
for line in sys.stdin:
    print(time.process_time(), flush=True)
"""


def _state(pid: int) -> str:
    stat = Path(f"/proc/{pid}/stat")
    return stat.read_text().rpartition(")")[2].split()[0] if stat.exists() else "gone"


def _until_state(pid: int, wanted: str) -> None:
    until = time.monotonic() + 10
    while _state(pid) not in wanted and time.monotonic() < until:
        time.sleep(0.01)
    assert _state(pid) in wanted


def test_children_are_stopped_and_ended_with_their_contender() -> None:
    process = Process([sys.executable, "-c", _COUNTS], _PINS, pipes=True)
    child = int(process.read_line())
    try:
        process.pause()
        _until_state(child, "T")
        with at_work(process):
            _until_state(child, "SR")
            assert float(process.ask("{}")) > 0
        _until_state(child, "T")
    finally:
        process.close()
    assert _state(child) in ("gone", "Z")


def test_a_contender_runs_on_its_processors_only() -> None:
    one = Pins(frozenset([min(_PINS.servers)]), _PINS.client)
    code = "import os; print(len(os.sched_getaffinity(0)), os.environ['OMP_NUM_THREADS'])"
    process = Process([sys.executable, "-c", code], one, pipes=True)
    try:
        assert process.read_line().split() == ["1", "1"]
    finally:
        process.close()


def test_one_that_ends_before_it_is_ready_is_reported_with_its_last_words() -> None:
    process = Process([sys.executable, "-c", "raise SystemExit('port is taken')"], _PINS)
    try:
        with pytest.raises(NotStarted, match="it ended: port is taken"):
            wait_until(lambda: False, process, 30)
    finally:
        process.close()


def test_one_that_takes_too_long_is_reported() -> None:
    process = Process([sys.executable, "-c", "import time; time.sleep(60)"], _PINS)
    try:
        with pytest.raises(NotStarted, match="not ready after 0 s"):
            wait_until(lambda: False, process, 0.2)
    finally:
        process.close()
