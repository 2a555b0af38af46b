"""Servers are told apart, none is left behind, and a taken port is named.

The servers are real processes of the model server with its stand-in models.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from sixways.local import process
from sixways.local.process import Running, ServedModel
from sixways_bundle import BundleError
from tests.ports import free_port

KEY = "a-key-for-this-test"
DUMMY = ServedModel(name="echo", path="dummy:chat", digest="")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An endpoint's folder; nothing of it lives after the test."""
    path = tmp_path / "stack" / "local"
    yield path
    process.remove(path)


def start(folder: Path, port: int, *models: ServedModel) -> Running:
    return process.start(
        folder,
        models or (DUMMY,),
        host="127.0.0.1",
        port=port,
        api_key=KEY,
        cancelled=threading.Event(),
        report=lambda message: None,
    )


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_pid_that_was_used_again_is_not_our_server(folder: Path) -> None:
    running = start(folder, free_port())
    assert running.alive
    assert not msgspec.structs.replace(running, birth="another boot:1").alive


def test_stopping_does_not_touch_a_foreign_process(folder: Path) -> None:
    running = start(folder, free_port())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        foreign = msgspec.structs.replace(running, pid=child.pid)
        process._save(folder, process._Processes(serving=running, leaving=foreign))
        process.remove(folder)
        assert child.poll() is None
        child.communicate(b"\n")
    assert not running.alive


def test_a_process_that_ended_and_was_not_collected_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert process.birth(child.pid) is None


def test_a_server_that_cannot_start_leaves_the_one_that_serves(folder: Path) -> None:
    port = free_port()
    running = start(folder, port)
    missing = ServedModel(name="minilm", path=str(folder / "nothing"), digest="sha256:0")
    with pytest.raises(BundleError, match="did not start"):
        start(folder, port, missing)
    assert process.load(folder) == running
    assert running.alive
    assert answers(port)


def test_the_key_is_in_no_file(folder: Path) -> None:
    start(folder, free_port())
    files = [path for path in folder.iterdir() if path.is_file()]
    assert len(files) >= 4
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def test_the_server_sees_no_secret_of_the_shell(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PULUMI_CONFIG_PASSPHRASE", "SIXWAYS_KEY", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a-secret-of-the-shell")
    running = start(folder, free_port())
    assert b"a-secret-of-the-shell" not in Path(f"/proc/{running.pid}/environ").read_bytes()


def test_an_update_that_was_killed_before_it_was_ready_leaves_nobody(folder: Path) -> None:
    port = free_port()
    program = (
        "import sys, threading; from pathlib import Path\n"
        "from sixways.local import process; from sixways.local.process import ServedModel\n"
        "process.start(Path(sys.argv[1]), [ServedModel(name='e', path='dummy:chat?load=60',"
        " digest='')], host='127.0.0.1', port=int(sys.argv[2]), api_key='a-key-for-this-test',"
        " cancelled=threading.Event(), report=print)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(folder), str(port)]) as starter:
        deadline = time.monotonic() + 30
        while not process.lives(folder):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        starter.kill()
    assert process.lives(folder)
    running = start(folder, port)
    assert running.alive
    assert process._load(folder).starting is None
    process.remove(folder)
    assert not answers(port)


def test_an_old_server_whose_stop_was_missed_is_stopped_by_the_next_removal(folder: Path) -> None:
    port = free_port()
    old = start(folder, port)
    new = start(folder, port)
    assert old.alive
    assert new.alive
    process.remove(folder)
    assert not old.alive
    assert not new.alive
    assert not folder.exists()


def test_everything_below_the_run_folder_can_be_ended_at_once(folder: Path) -> None:
    running = start(folder, free_port())
    process.remove_all(folder.parents[1])
    assert not running.alive


def test_a_bundle_that_was_written_anew_is_noticed(folder: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "bundle.json").write_text("{}")
    model = ServedModel(name="m", path=str(bundle), digest="")
    running = msgspec.structs.replace(
        start(folder, free_port()), models=(model,), stamps=(model.stamp(),)
    )
    assert running.current
    (bundle / "bundle.json").unlink()
    (bundle / "other").write_text("")
    (bundle / "bundle.json").write_text("{}")
    assert not running.current


def test_a_taken_port_names_who_holds_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(BundleError, match=rf"pid {os.getpid()} listens") as error:
            process.require_free("127.0.0.1", port)
    assert error.value.problems[0].field == "port"
    process.require_free("127.0.0.1", port)
