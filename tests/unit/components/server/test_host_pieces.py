"""What a release leaves on a host: slots, keys, kept releases, and the programs that run it."""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sixways.server import ground, history, keys, layout, releasing, slots, venv
from sixways.server.files import Unit
from sixways.server.history import Record
from sixways.server.ssh import HostError
from sixways.server.supervisord import Supervisord
from sixways.server.transfer import free_bytes
from sixways.server.venv import Environment
from sixways_bundle import BundleError
from tests.unit.components.server.fake_host import FakeHost
from tests.unit.components.server.local_remote import LocalRemote, remote

__all__ = ["remote"]


def record(name: str, since: int, venv_id: str = "v1", bundle: str = "b1") -> Record:
    return Record(id=name, venv=venv_id, bundles=(bundle,), models=(), since=since)


def test_what_no_kept_release_needs_is_removed(remote: LocalRemote) -> None:
    for one in (record("old", 1, "v0", "b0"), record("before", 2), record("now", 3, "v1", "b2")):
        history.note(remote, one)
    for folder, names in ((layout.VENVS, "v0 v1"), (layout.BUNDLES, "b0 b1 b2 .b3.new")):
        for name in names.split():
            remote.folder(f"{folder}/{name}")
    remote.folder(layout.INCOMING)
    assert history.prune(remote, "now", keep=1) == ["before"]
    left = {path.relative_to(layout.HOME).as_posix() for path in Path(layout.HOME).glob("*/*")}
    assert left == {"releases/before", "releases/now", "venvs/v1", "bundles/b1", "bundles/b2"}
    assert not Path(layout.INCOMING).exists()
    assert history.prune(remote, "now", keep=0) == []
    assert [one.id for one in history.releases(remote)] == ["now"]


def test_during_a_release_old_and_new_keys_count() -> None:
    old, new = {"name": "a", "sha256": "1"}, {"name": "a", "sha256": "2"}
    before = keys.text([old]).encode()
    assert keys.joined(before, [new]) == [new, old]
    assert keys.joined(before, [old]) == [old]
    for spoilt in (None, b"{", b'{"keys": 5}', b"[]"):
        assert keys.joined(spoilt, [new]) == [new]


def test_the_switch_is_one_file(remote: LocalRemote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "GREEN_IS_LIVE", f"{layout.HOME}/live/green")
    assert slots.live(remote) == "blue"
    for slot in ("green", "green", "blue", "blue"):
        slots.switch(remote, slot)
        assert slots.live(remote) == slot
        assert slots.other(slot) != slot


def test_room_is_looked_for_where_the_folder_will_be(remote: LocalRemote, tmp_path: Path) -> None:
    assert free_bytes(remote, f"{tmp_path}/not/there/yet") > 0


def wheel(folder: Path, text: str = "x", name: str = "a-1-py3-none-any.whl") -> Path:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("a.py", text * 1000)
    return folder


def test_an_environment_is_named_by_all_that_decides_it(
    remote: LocalRemote, tmp_path: Path
) -> None:
    def named(**changes: object) -> str:
        given = {"requirement": "sixways[server]==1", "python": sys.executable} | changes
        return Environment(**given).id(remote)  # type: ignore[arg-type]

    one, two = (venv.wheels_of(wheel(tmp_path / text, text)) for text in "xy")
    different = [
        named(),
        named(requirement="sixways[server]==2"),
        named(constraints="a==1"),
        named(wheels=one),
        named(wheels=two),
    ]
    assert len(set(different)) == len(different)
    # An index's address is no part of it, nor what is not used.
    assert named(index_url="https://other") == named()
    assert named(wheels=one, constraints="a==1") == named(wheels=one)
    with pytest.raises(HostError, match=r"python: '/bin/false' is not accepted"):
        named(python="/bin/false")


def test_the_size_of_an_environment_is_known_before_it_is_sent(tmp_path: Path) -> None:
    wheels = venv.wheels_of(wheel(tmp_path / "w"))
    assert Environment(requirement="a", python="p", wheels=wheels).unpacked == 1000
    server = Environment(requirement="a", python="p", extras=("server",)).unpacked
    assert Environment(requirement="a", python="p", extras=("server", "torch")).unpacked > server


def test_a_folder_without_wheels_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="wheelhouse"):
        venv.wheels_of(tmp_path / "none")
    (tmp_path / "a-1-py3-none-any.whl").write_text("no archive")
    with pytest.raises(BundleError, match=r"a-1-py3-none-any\.whl"):
        venv.wheels_of(tmp_path)


def test_the_program_of_supervisord_is_the_units(remote: LocalRemote) -> None:
    unit = Unit(python="/opt/v/bin/python", config="/etc/sixways/green.json", drain_seconds=9.5)
    text = Supervisord(remote).expected("green", unit)
    read = configparser.ConfigParser(interpolation=None)
    read.read_string(text)
    program = read["program:sixways-green"]
    assert (
        program["command"] == "/opt/v/bin/python -m sixways_server --config /etc/sixways/green.json"
    )
    assert program["user"] == "sixways"
    assert program["stopwaitsecs"] == "30"
    assert program["autorestart"] == "true"


def test_the_keys_file_is_what_the_server_reads(tmp_path: Path) -> None:
    from sixways_server.auth import KeyStore

    key = "sk-" + 40 * "k"
    path = tmp_path / "keys.json"
    path.write_text(
        keys.text([{"name": "shop", "sha256": hashlib.sha256(key.encode()).hexdigest()}])
    )
    assert KeyStore(path).check(key) == "shop"
    assert json.loads(path.read_text())["keys"][0]["name"] == "shop"


def test_the_init_script_is_a_shell_script(tmp_path: Path) -> None:
    from sixways.server.files import template

    script = template("sixways.server", "files", "sixways-supervisord").render(
        supervisor="/opt/sixways/supervisor", config="/etc/sixways/supervisord.conf"
    )
    (tmp_path / "script").write_text(script)
    subprocess.run(["sh", "-n", str(tmp_path / "script")], check=True)


def test_supervisord_ends_a_program_whose_file_is_gone_already() -> None:
    host = FakeHost(answers={f"{layout.SUPERVISOR}/bin/supervisorctl": "4711"})
    Supervisord(host).remove("green")
    assert any(line.endswith("update sixways-green") for line in host.ran)
    host = FakeHost(answers={f"{layout.SUPERVISOR}/bin/supervisorctl": 127})
    Supervisord(host).remove("green")  # there is no daemon
    assert not any("update" in line for line in host.ran)


@pytest.mark.parametrize("mounted", [True, False])
def test_a_disk_of_the_users_stays_mounted(
    remote: LocalRemote, tmp_path: Path, mounted: bool
) -> None:
    disk = tmp_path / "opt"
    for folder in (disk, tmp_path / "var"):
        folder.mkdir()
    busy = f'[ "$4" != {disk} ] || {{ echo busy >&2; exit 1; }}; exec /bin/rm "$@"'
    for name, text in (("rm", busy), ("mountpoint", f"exit {0 if mounted else 1}")):
        (tmp_path / "shims" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "shims" / name).chmod(0o755)
    empty = ("sh", "-c", ground._EMPTY, "empty", str(disk), str(tmp_path / "var"))
    assert remote.run(*empty, check=False).ok is mounted
    assert disk.is_dir()
    assert (tmp_path / "var").is_dir() is not mounted


def test_the_requests_go_back_before_anything_else_is_undone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = FakeHost(answers={"journalctl": _slow})
    live: list[str] = []
    monkeypatch.setattr(slots, "switch", lambda _, slot: live.append(slot))
    release: Any = SimpleNamespace(supervisor="systemd")
    said, undone = releasing._undo(
        lambda: contextlib.nullcontext(host), host, release, "green", "blue", 0, None
    )
    assert live == ["blue"]
    assert (said, undone) == (["(it could not be undone: journalctl took longer)"], False)


def _slow() -> str:
    raise HostError("journalctl took longer")
