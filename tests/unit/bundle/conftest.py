"""A source on disk and a build that uses the fake family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sixways_bundle import build as build_module
from sixways_bundle.build import Request, Result, build
from tests.unit.bundle.fake import RECIPES, FakeFamily


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder that looks like an encoder in the Hugging Face layout."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> FakeFamily:
    """The family that every build of this test opens."""
    fake = FakeFamily()
    monkeypatch.setattr(build_module, "recipes", lambda kind: RECIPES)
    monkeypatch.setattr(build_module, "_open", lambda resolved: fake)
    return fake


Builder = Callable[..., Result]


@pytest.fixture
def builder(source: Path, family: FakeFamily, tmp_path: Path) -> Builder:
    """Builds `name` from `source` into a cache of this test."""

    def run(**changes: object) -> Result:
        wanted = {"name": "mini", "source": f"file:{source}", **changes}
        return build(Request(**wanted), cache_dir=tmp_path / "cache")  # type: ignore[arg-type]

    return run
