"""Bundles on their way to a host: only what is missing is sent, and only what is right is named."""

from __future__ import annotations

import hashlib
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from sixways.server import bundles, layout, transfer
from sixways.server.bundles import Wanted
from sixways.server.ssh import ConnectionLost, Done, HostError
from sixways.server.transfer import open_incoming
from sixways.server.work import Interrupted, Work
from sixways_bundle import BundleError, Manifest
from sixways_bundle.manifest import FileEntry, Quality, Source, Variant
from tests.unit.components.server.local_remote import LocalRemote, remote

__all__ = ["remote"]
MODEL, TOKENIZER = b"m" * 300_000, b"t" * 50_000


def bundle(folder: Path, model: bytes = MODEL, tokenizer: bytes = TOKENIZER) -> Wanted:
    """A bundle of two files, and what stands beside its manifest."""

    def file(path: str, data: bytes) -> FileEntry:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
        return FileEntry(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())

    quality = Quality(metric="cosine", value=1, worst=1, threshold=0.9, samples=1)
    manifest = Manifest(
        schema=1,
        name="small",
        task="embeddings",
        architecture="none",
        source=Source(uri="file:x", revision="1", licence="MIT", sha256="0"),
        max_tokens=8,
        dimensions=2,
        tokenizer=(file("tokenizer/tokenizer.json", tokenizer),),
        variants=(
            Variant(
                name="onnx-int8",
                engine="onnx",
                precision="int8",
                files=(file("variants/onnx-int8/model.onnx", model),),
                size=len(model),
                reference_size=len(model),
                quality=quality,
                tools={},
            ),
        ),
    )
    (folder / "bundle.json").write_bytes(manifest.to_bytes())
    (folder / "build.json").write_text("{}")
    return Wanted(manifest.digest, folder)


def bring(remote: LocalRemote, *wanted: Wanted) -> Work:
    """Makes these bundles be on the host; returns what it took."""
    work = Work()
    todo = bundles.plan(remote, wanted, work)
    open_incoming(remote)
    remote.folder(layout.BUNDLES)
    bundles.install(remote, todo, sys.executable, work)
    return work


def test_a_bundle_is_sent_once_and_whole(remote: LocalRemote, tmp_path: Path) -> None:
    first = bundle(tmp_path / "first")
    assert bring(remote, first, first).sent == len(MODEL) + len(TOKENIZER)
    assert (Path(first.place) / "build.json").is_file()
    assert bring(remote, first).sent == 0
    assert len(remote.uploads) == 2
    assert [path.name for path in Path(layout.BUNDLES).iterdir()] == [first.hex]


def test_files_that_another_bundle_has_are_linked(remote: LocalRemote, tmp_path: Path) -> None:
    first, second = bundle(tmp_path / "first"), bundle(tmp_path / "second", model=b"n" * 1000)
    bring(remote, first)
    assert bring(remote, second).sent == 1000
    same = "tokenizer/tokenizer.json"
    assert (Path(first.place) / same).samefile(Path(second.place) / same)


def test_the_host_needs_no_bundle_on_this_machine_that_it_has(
    remote: LocalRemote, tmp_path: Path
) -> None:
    first = bundle(tmp_path / "first")
    bring(remote, first)
    assert bring(remote, Wanted(first.digest, tmp_path / "gone")).sent == 0


def test_an_upload_goes_on_after_a_cut(remote: LocalRemote, tmp_path: Path) -> None:
    first = bundle(tmp_path / "first")
    remote.cut_after = 20_000
    with pytest.raises(ConnectionLost):
        bring(remote, first)
    assert not Path(first.place).exists()
    assert bring(remote, first).sent == len(MODEL) + len(TOKENIZER) - 20_000


def test_a_part_of_something_else_is_sent_anew(remote: LocalRemote, tmp_path: Path) -> None:
    first = bundle(tmp_path / "first")
    open_incoming(remote)
    for data in (MODEL, TOKENIZER):
        part = Path(layout.INCOMING) / hashlib.sha256(data).hexdigest()
        part.write_bytes(b"x" * 1000)
    bring(remote, first)
    assert (Path(first.place) / "tokenizer/tokenizer.json").read_bytes() == TOKENIZER


def test_a_file_that_changed_after_the_build_is_not_accepted(
    remote: LocalRemote, tmp_path: Path
) -> None:
    first = bundle(tmp_path / "first")
    (tmp_path / "first/tokenizer/tokenizer.json").write_bytes(b"T" * len(TOKENIZER))
    with pytest.raises(HostError, match=r"tokenizer\.json did not arrive as it should"):
        bring(remote, first)
    assert not Path(first.place).exists()


@pytest.mark.parametrize("kept", [True, False], ids=["damaged", "lost"])
def test_what_was_spoilt_on_the_host_is_sent_again_alone(
    remote: LocalRemote, tmp_path: Path, kept: bool
) -> None:
    first = bundle(tmp_path / "first")
    bring(remote, first)
    file = Path(first.place) / "tokenizer/tokenizer.json"
    file.unlink()
    if kept:
        file.write_bytes(b"x" * len(TOKENIZER))
    assert bring(remote, first).sent == len(TOKENIZER)
    assert file.read_bytes() == TOKENIZER


def test_a_damaged_file_is_mended_from_another_bundle(remote: LocalRemote, tmp_path: Path) -> None:
    first, second = bundle(tmp_path / "first"), bundle(tmp_path / "second", model=b"n" * 1000)
    bring(remote, first, second)
    for place in (first.place, second.place):
        file = Path(place) / "tokenizer/tokenizer.json"
        assert file.read_bytes() == TOKENIZER
    file.unlink()
    file.write_bytes(b"x")
    assert bring(remote, first, second).sent == 0
    assert file.read_bytes() == TOKENIZER


def test_the_servers_own_check_decides(remote: LocalRemote, tmp_path: Path) -> None:
    first = bundle(tmp_path / "first")
    todo = bundles.plan(remote, [first], Work())
    open_incoming(remote)
    remote.folder(layout.BUNDLES)
    with pytest.raises(HostError, match="is another bundle"):
        bundles.verify(remote, str(first.path), "sha256:" + 64 * "0", sys.executable)
    # A folder beside the listed files is noticed by it alone.
    (tmp_path / "first/tokenizer/more").write_text("x")
    with pytest.raises(HostError, match="does not list"):
        bundles.verify(remote, str(first.path), first.digest, sys.executable)
    assert todo.bytes == len(MODEL) + len(TOKENIZER)


def test_path_and_digest_must_be_of_one_bundle(remote: LocalRemote, tmp_path: Path) -> None:
    first = bundle(tmp_path / "first")
    with pytest.raises(BundleError, match="is another bundle"):
        bundles.plan(remote, [Wanted("sha256:" + 64 * "0", first.path)], Work())


def test_an_interrupted_update_ends_in_the_middle_of_an_upload(
    remote: LocalRemote, tmp_path: Path
) -> None:
    first = bundle(tmp_path / "first")
    cancelled = threading.Event()
    work = Work(lambda step, share, message: cancelled.set(), cancelled)
    todo = bundles.plan(remote, [first], Work())
    open_incoming(remote)
    remote.folder(layout.BUNDLES)
    with pytest.raises(Interrupted):
        bundles.install(remote, todo, sys.executable, work)
    assert not Path(first.place).exists()


def test_many_files_are_read_in_several_commands(remote: LocalRemote, tmp_path: Path) -> None:
    class Narrow(LocalRemote):
        """As sshd: the whole command is one argument of a shell."""

        def run(self, *command: str, **given: Any) -> Done:
            assert len(" ".join(command)) < 128 * 1024
            return super().run(*command, **given)

    folder = tmp_path / ("long" * 50)
    folder.mkdir()
    paths = [str(folder / str(number)) for number in range(900)]
    for path in paths:
        Path(path).touch()
    (tmp_path / "other").mkdir()
    assert len(transfer.hashes(Narrow(tmp_path / "other"), paths)) == 900
