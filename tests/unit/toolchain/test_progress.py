"""Long commands are never silent, and failed ones show why."""

from __future__ import annotations

import io
import time

import pytest
from toolchain import progress
from toolchain.progress import CommandFailed, Ticker, run_told

pytestmark = pytest.mark.unit


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_at_once_and_more_while_it_lasts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.02)
    out = io.StringIO()
    with Ticker(out) as ticker:
        ticker.set("compiling")
        assert "compiling" in out.getvalue()
        deadline = time.monotonic() + 5
        while out.getvalue().count("\n") < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert out.getvalue().count("compiling (0:00)\n") >= 3
    assert "\r" not in out.getvalue()


def test_a_terminal_keeps_one_line_and_clears_it_at_the_end() -> None:
    out = Terminal()
    with Ticker(out) as ticker:
        ticker.set("linking")
    assert "linking" in out.getvalue()
    assert "\n" not in out.getvalue()
    assert out.getvalue().endswith("\r\x1b[K")


def test_lines_are_told_as_they_come() -> None:
    told: list[str] = []
    run_told(["sh", "-c", "echo one; echo two >&2"], told.append)
    assert sorted(told) == ["one", "two"]


def test_stdout_can_be_the_answer_while_stderr_is_told() -> None:
    told: list[str] = []
    command = ["sh", "-c", "echo answer; echo progress >&2"]
    assert run_told(command, told.append, keep_stdout=True) == ["answer"]
    assert told == ["progress"]


def test_a_failure_carries_its_status_and_last_lines() -> None:
    command = ["sh", "-c", "i=0; while [ $i -lt 99 ]; do i=$((i+1)); echo line $i; done; exit 6"]
    with pytest.raises(CommandFailed) as caught:
        run_told(command, lambda _: None)
    assert caught.value.status == 6
    assert caught.value.tail[-1] == "line 99"
    assert len(caught.value.tail) == progress.TAIL_LINES
