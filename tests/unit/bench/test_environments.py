from pathlib import Path

import pytest
from bench import environments
from bench.embeddings import peers
from bench.processes import CHECKOUT, NotStarted


def _pins(file: Path) -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
    pairs = (line.partition("==") for line in lines if "==" in line)
    return {name.partition("[")[0]: version for name, _, version in pairs}


@pytest.mark.parametrize("folder", sorted(p.parent for p in environments.PEERS.glob("*/*.py")))
def test_the_same_engine_is_the_same_version(folder: Path) -> None:
    ours = _pins(CHECKOUT / "constraints.txt")
    theirs = _pins(folder / "requirements.txt")
    engines = {"openvino", "onnxruntime", "tokenizers", "numpy", "torch"} & theirs.keys()
    assert engines
    assert {name: theirs[name] for name in engines} == {name: ours[name] for name in engines}


def test_every_requirement_of_a_peer_is_pinned() -> None:
    for file in environments.PEERS.glob("*/requirements.txt"):
        lines = [line.partition("#")[0].strip() for line in file.read_text().splitlines()]
        assert [line for line in lines if line and "==" not in line] == []


def test_every_peer_is_asked_in_both_settings() -> None:
    asked = [(kind.peer, setting) for kind, setting in peers()]
    folders = {file.parent.name for file in environments.PEERS.glob("*/serve.py")}
    assert sorted(asked) == sorted(
        (peer, setting) for peer in folders for setting in ("as documented", "same engine")
    )


def test_other_requirements_get_another_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "PEERS", tmp_path)
    monkeypatch.setenv("SIXWAYS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "peer").mkdir()
    requirements = tmp_path / "peer" / "requirements.txt"
    requirements.write_text("a==1\n")
    first = environments.folder_of("peer")
    assert first == environments.folder_of("peer")
    assert first.parent == tmp_path / "cache" / "bench"
    requirements.write_text("a==2\n")
    assert environments.folder_of("peer") != first


def test_an_environment_that_cannot_be_made_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "PEERS", tmp_path)
    monkeypatch.setenv("SIXWAYS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(environments, "UV", tmp_path / "uv")
    (tmp_path / "uv").write_text("#!/bin/sh\necho no such thing\nexit 2\n")
    (tmp_path / "uv").chmod(0o755)
    (tmp_path / "peer").mkdir()
    (tmp_path / "peer" / "requirements.txt").write_text("a==1\n")
    with pytest.raises(NotStarted, match="cannot be made: no such thing"):
        environments.environment("peer")


def test_the_version_of_a_peer_is_that_of_its_requirements() -> None:
    assert environments.pinned("ray_serve", "ray").count(".") == 2
    with pytest.raises(KeyError, match="no line nothing==VERSION"):
        environments.pinned("ray_serve", "nothing")
