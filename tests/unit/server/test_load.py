"""From a configured model to an engine."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from sixways_bundle import BundleError, sign
from sixways_bundle.build import Result
from sixways_server import load
from sixways_server.config import ModelConfig, ServerConfig
from sixways_server.engines.base import Engine
from sixways_server.errors import NotReady
from sixways_server.load import open_model
from sixways_server.registry import Registry
from tests.unit.bundle.conftest import Builder, builder, family, source

__all__ = ["builder", "family", "source"]


@pytest.fixture
def bundle(builder: Builder) -> Result:
    return builder(variants=("openvino-int8", "onnx-int8"))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Calls of the encoder engine, which is replaced by one that does nothing."""
    calls: list[tuple[Any, ...]] = []

    class Encoder:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.info = args[0]
            calls.append((*args, kwargs))

        def load(self) -> None:
            calls.append(("load",))

    module = types.ModuleType("sixways_server.engines.encoder")
    module.EncoderEngine = Encoder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def settings(path: Path) -> ServerConfig:
    return ServerConfig(models=(), keys_file=path, threads=3, queue_limit=9, queue_seconds=0.5)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("file:///home/ann/models/mini/", "file:mini"),
        ("file:mini.gguf", "file:mini.gguf"),
        ("hf:org/mini@0123", "hf:org/mini@0123"),
    ],
)
def test_the_source_is_shown_without_the_folder_it_lay_in(uri: str, shown: str) -> None:
    assert load._shown_source(uri) == shown


def test_a_bundle_is_verified_and_opened_with_the_variant_asked_for(
    bundle: Result, opened: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    model = ModelConfig(name="mini", path=str(bundle.path), variant="onnx-int8")
    engine = open_model(model, settings(tmp_path))
    info, kind, directory, tokenizer, options = opened[0]
    assert opened[1] == ("load",)
    assert "/" not in str(info.details["source"])
    assert engine.info is info
    assert (info.name, info.variant, info.engine) == ("mini", "onnx-int8", "onnx")
    assert info.digest == bundle.manifest.digest
    assert info.details["size"] == bundle.manifest.variant("onnx-int8").size
    assert kind == "onnx"
    assert directory == bundle.path / "variants" / "onnx-int8"
    assert tokenizer == bundle.path / "tokenizer" / "tokenizer.json"
    assert options == {
        "threads": 3, "queue_limit": 9, "queue_seconds": 0.5, "options": {"threads": 2}
    }  # fmt: skip
    assert info.details["reason"] == "asked for by name"


def test_what_the_build_chose_from_is_shown_and_a_foreign_report_is_not(
    bundle: Result, opened: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    model = ModelConfig(name="mini", path=str(bundle.path))
    shown = open_model(model, settings(tmp_path)).info.details["selection"]
    assert [row["variant"] for row in shown] == ["openvino-int8", "onnx-int8"]  # type: ignore[attr-defined]
    report = bundle.path / "build.json"
    report.chmod(0o644)
    report.write_text(report.read_text().replace(bundle.manifest.digest, "sha256:other"))
    assert open_model(model, settings(tmp_path)).info.details["selection"] == []
    report.write_text("no JSON")
    assert open_model(model, settings(tmp_path)).info.details["selection"] == []


def test_a_model_over_tensors_is_opened_with_what_its_build_found(tmp_path: Path) -> None:
    from sixways_bundle.build import Request, build
    from sixways_server.engines.tensor import TensorModelEngine
    from tests.unit.bundle.tensor_tiny import write_onnx

    request = Request(name="tiny", source=f"file:{write_onnx(tmp_path / 'tiny.onnx')}")
    result = build(request, cache_dir=tmp_path / "cache")
    engine = open_model(ModelConfig(name="t", path=str(result.path)), settings(tmp_path))
    assert isinstance(engine, TensorModelEngine)
    assert engine._batching
    assert [spec.name for spec in engine.inputs] == ["x"]
    assert engine.info.details["device"] == "CPU"
    assert engine.info.details["reason"] == "the only one of the bundle"


def test_a_flipped_byte_stops_the_start_before_any_engine_opens(
    bundle: Result, opened: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    entry = bundle.manifest.variants[1].files[0]
    file = bundle.path / entry.path
    file.chmod(0o644)
    file.write_bytes(b"x" + file.read_bytes()[1:])
    with pytest.raises(BundleError, match=entry.path):
        open_model(ModelConfig(name="mini", path=str(bundle.path)), settings(tmp_path))
    assert opened == []


def test_with_a_public_key_an_unsigned_bundle_is_not_served(
    bundle: Result, opened: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, Path]] = []

    def refuse(folder: Path, key: Path) -> None:
        asked.append((folder, key))
        raise BundleError("no signature")

    monkeypatch.setattr(sign, "verify_signature", refuse)
    key = tmp_path / "key.pem"
    config = ServerConfig(models=(), keys_file=tmp_path, public_key=key)
    with pytest.raises(BundleError, match="no signature"):
        open_model(ModelConfig(name="mini", path=str(bundle.path)), config)
    assert asked == [(bundle.path, key)]
    assert opened == []


@pytest.mark.parametrize("path", ["dummy:", "dummy:chat?speed=1", "dummy:chat?delay=x"])
def test_a_stand_in_that_is_not_there_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="dummy:embeddings, dummy:chat or dummy:tensor"):
        open_model(ModelConfig(name="a", path=path), settings(tmp_path))


def test_a_model_that_still_loads_is_not_ready() -> None:
    registry = Registry(["mini"])
    assert not registry.ready
    with pytest.raises(NotReady) as caught:
        registry.embedding("mini")
    assert (caught.value.status, caught.value.retry_after) == (503, 1)


def test_a_draining_server_is_not_ready(tmp_path: Path) -> None:
    registry = Registry(["echo"])
    model = ModelConfig(name="echo", path="dummy:chat")
    engine: Engine = open_model(model, settings(tmp_path))
    registry.add("echo", engine)
    assert registry.ready
    registry.draining = True
    assert not registry.ready


def test_a_server_starts_without_what_takes_long_to_import() -> None:
    code = (
        "import sys, sixways_server.serve, sixways_server.app, sixways_server.drain; "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "starlette" in loaded
    heavy = {"fastapi", "torch", "transformers", "pandas", "openvino", "onnxruntime", "pulumi",
             "gunicorn", "opentelemetry", "psutil", "pynvml"}  # fmt: skip
    assert not loaded & heavy
