"""A pid alone proves nothing; a taken port is named."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from sixways.local import process
from sixways.local.process import Running, ServedModel
from sixways_bundle import BundleError
from tests.ports import free_port


def test_a_pid_that_was_used_again_is_not_our_server() -> None:
    own = psutil.Process()
    mine = Running(pid=own.pid, started_at=own.create_time(), generation=1, url="")
    foreign = Running(pid=own.pid, started_at=own.create_time() - 60, generation=1, url="")
    assert mine.process() is not None
    assert foreign.process() is None


def test_stopping_does_not_touch_a_foreign_process() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        stale = psutil.Process(child.pid).create_time() - 60
        process.stop(Running(pid=child.pid, started_at=stale, generation=1, url=""))
        assert child.poll() is None
        child.communicate(b"\n")


def test_a_process_that_ended_and_was_not_collected_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        started = psutil.Process(child.pid).create_time()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        ended = Running(pid=child.pid, started_at=started, generation=1, url="")
        assert ended.process() is None


def test_a_taken_port_names_who_holds_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(BundleError, match=rf"pid {os.getpid()} listens") as error:
            process.require_free("127.0.0.1", port)
    assert error.value.problems[0].field == "port"
    process.require_free("127.0.0.1", port)


def test_a_server_that_cannot_start_leaves_what_ran_before(tmp_path: Path) -> None:
    running = Running(pid=1, started_at=0.0, generation=7, url="http://x")
    folder = tmp_path / "local"
    folder.mkdir()
    (folder / "process.json").write_bytes(process.msgspec.json.encode(running))
    with pytest.raises(BundleError, match="did not start"):
        process.start(
            folder,
            [ServedModel(name="minilm", path=str(tmp_path / "nothing"))],
            host="127.0.0.1",
            port=free_port(),
            api_key="a-key-for-this-test",
            cancelled=threading.Event(),
            report=lambda message: None,
        )
    assert process.load(folder) == running
    assert "a-key-for-this-test" not in "".join(p.read_text() for p in folder.glob("*.json"))
