"""Sources are found without importing them, and a wrong one says what would be right."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sixways_bundle import BundleError
from sixways_bundle.sources import resolve


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed package that carries a model and cannot be imported."""
    name = "carries_a_model"
    model = tmp_path / "site" / name / "model"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").write_text("raise ImportError('needs a library')")
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights")
    info = tmp_path / "site" / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {name}\nVersion: 1.2\nLicense: MIT\n")
    (info / "top_level.txt").write_text(name)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return name


def test_a_package_is_not_imported(package: str, tmp_path: Path) -> None:
    found = resolve(f"package:{package}", cache_dir=tmp_path)
    assert package not in sys.modules
    assert found.kind == "encoder"
    assert (found.source.revision, found.source.licence) == (f"{package}==1.2", "MIT")


@pytest.mark.parametrize("name", ["no_such_package_here", "os", "a.b", "../etc"])
def test_a_missing_package_says_how_to_install_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="pip install") as error:
        resolve(f"package:{name}", cache_dir=tmp_path)
    assert error.value.problems[0].field == "source"


@pytest.mark.parametrize("uri", ["minilm", "ftp://x", "", "package:", "s3"])
def test_an_unknown_scheme_lists_those_that_are_read(uri: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"package:.*file:.*hf:"):
        resolve(uri, cache_dir=tmp_path)


@pytest.mark.parametrize("uri", ["hf:org/name", "hf:name@main", "hf:a/b/c@main", "hf:org/name@"])
def test_a_hub_source_needs_a_revision(uri: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="<org>/<name>@<revision>"):
        resolve(uri, cache_dir=tmp_path)


def test_a_gguf_file_is_an_llm(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert resolve(f"file:{tmp_path}/m.gguf", cache_dir=tmp_path / "c").kind == "llm"
    assert resolve(f"file:{tmp_path}", cache_dir=tmp_path / "c").path == tmp_path / "m.gguf"


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(BundleError, match="safetensors"):
        resolve(f"file:{tmp_path}", cache_dir=tmp_path / "c")


def test_several_models_in_one_source_are_listed(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(BundleError, match=r"a\.gguf, b\.gguf"):
        resolve(f"file:{tmp_path}", cache_dir=tmp_path / "c")


def test_the_digest_follows_content_not_place(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.gguf").write_bytes(b"same")
    one, two = (resolve(f"file:{tmp_path}/{f}", cache_dir=tmp_path / "c") for f in ("one", "two"))
    assert one.source.sha256 == two.source.sha256
    (tmp_path / "two" / "m.gguf").write_bytes(b"other")
    again = resolve(f"file:{tmp_path}/two", cache_dir=tmp_path / "c")
    assert again.source.sha256 != one.source.sha256


@pytest.mark.parametrize("uri", ["package:__main__", "file:~no-such-user-here/x"])
def test_a_name_that_python_stumbles_over_is_refused_as_any_other(uri: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError) as error:
        resolve(uri, cache_dir=tmp_path)
    assert error.value.problems[0].field == "source"


@pytest.mark.parametrize(
    ("file", "named", "kind"),
    [
        ("m.onnx", "m.onnx", "onnx"),
        ("m.tflite", "m.tflite", "tflite"),
        ("m/saved_model.pb", "m", "saved-model"),
    ],
)
def test_a_model_over_tensors_is_found_by_itself_and_in_its_folder(
    tmp_path: Path, file: str, named: str, kind: str
) -> None:
    path = tmp_path / "source" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"model")
    for uri in (f"file:{tmp_path}/source", f"file:{tmp_path}/source/{named}"):
        found = resolve(uri, cache_dir=tmp_path / "c")
        assert (found.kind, found.path) == (kind, tmp_path / "source" / named)


def test_an_ir_needs_its_weights_and_both_files_count(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "m.xml").write_text("<net/>")
    with pytest.raises(BundleError, match=r"OpenVINO IR, with its \*\.bin"):
        resolve(f"file:{source}", cache_dir=tmp_path / "c")
    (source / "m.bin").write_bytes(b"weights")
    found = resolve(f"file:{source}", cache_dir=tmp_path / "c")
    assert (found.kind, found.path) == ("openvino", source / "m.xml")
    (source / "m.bin").write_bytes(b"others!")
    assert resolve(f"file:{source}", cache_dir=tmp_path / "c").source.sha256 != found.source.sha256


def test_an_encoder_that_brings_exports_along_is_an_encoder(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "onnx").mkdir(parents=True)
    (source / "config.json").write_text("{}")
    (source / "model.safetensors").write_bytes(b"weights")
    (source / "onnx" / "model.onnx").write_bytes(b"export")
    assert resolve(f"file:{source}", cache_dir=tmp_path / "c").kind == "encoder"
