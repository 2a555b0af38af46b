"""Which variant is served, and the reasons that are given."""

from __future__ import annotations

import msgspec
import pytest

from sixways_bundle import BundleError, Manifest
from sixways_bundle.build import Result
from sixways_bundle.report import BuildReport
from sixways_server import choice as module
from sixways_server.choice import NEEDS, Needs, choose_variant
from tests.unit.bundle.conftest import Builder, builder, family, source

__all__ = ["builder", "family", "source"]


@pytest.fixture
def bundle(builder: Builder) -> Result:
    """`openvino-int8` before `onnx-int8`, which was the faster one."""
    return builder(variants=("auto", "openvino-int8", "onnx-int8"))


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Modules that are not installed."""
    names: set[str] = set()
    monkeypatch.setattr(module, "find_spec", lambda name: None if name in names else object())
    return names


def test_the_first_variant_that_this_machine_can_run_is_taken(
    bundle: Result, absent: set[str]
) -> None:
    first = choose_variant(bundle.manifest, None)
    assert first.variant.name == "openvino-int8"
    assert first.others == {"onnx-int8": "comes later in the bundle"}
    absent.add("openvino")
    second = choose_variant(bundle.manifest, None)
    assert second.variant.name == "onnx-int8"
    assert second.others == {
        "openvino-int8": "openvino is not installed; pip install 'sixways[server]'"
    }
    with pytest.raises(BundleError, match=r"openvino is not installed; pip install"):
        choose_variant(bundle.manifest, "openvino-int8")
    absent.add("onnxruntime")
    with pytest.raises(BundleError, match=r"openvino-int8: .*onnx-int8: "):
        choose_variant(bundle.manifest, None)


def test_what_was_faster_on_this_kind_of_machine_is_taken(bundle: Result, absent: set[str]) -> None:
    chosen = choose_variant(bundle.manifest, None, bundle.report)
    assert chosen.variant.name == "onnx-int8"
    assert chosen.reason == "the fastest when built on this kind of machine (2.00 ms)"
    assert chosen.others == {"openvino-int8": "slower (4.00 ms)"}
    absent.add("onnxruntime")
    assert choose_variant(bundle.manifest, None, bundle.report).variant.name == "openvino-int8"


@pytest.mark.parametrize("changed", [{"machine": "another"}, {"bundle_digest": "sha256:other"}])
def test_a_report_of_another_machine_or_bundle_decides_nothing(
    bundle: Result, absent: set[str], changed: dict[str, str]
) -> None:
    report: BuildReport = msgspec.structs.replace(bundle.report, **changed)
    assert choose_variant(bundle.manifest, None, report).variant.name == "openvino-int8"


def test_the_variant_asked_for_is_taken_whatever_is_faster(
    bundle: Result, absent: set[str]
) -> None:
    absent.add("onnxruntime")
    chosen = choose_variant(bundle.manifest, "openvino-int8", bundle.report)
    assert (chosen.variant.name, chosen.reason) == ("openvino-int8", "asked for by name")
    assert chosen.others["onnx-int8"].startswith("onnxruntime is not installed")


def test_an_unknown_variant_names_those_there_are(bundle: Result) -> None:
    with pytest.raises(BundleError, match="openvino-int8, onnx-int8"):
        choose_variant(bundle.manifest, "onnx-int4")


def with_gpu_variant(manifest: Manifest) -> Manifest:
    """The same with a third variant, last, whose engine needs a GPU."""
    extra = msgspec.structs.replace(manifest.variants[0], name="vllm-bf16", engine="vllm")
    return msgspec.structs.replace(manifest, variants=(*manifest.variants, extra))


def test_a_gpu_is_used_where_there_is_one_and_its_variant_skipped_where_not(
    bundle: Result, absent: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = {**NEEDS, ("vllm", "embeddings"): Needs(("vllm",), "vllm", gpu=True)}
    monkeypatch.setattr(module, "NEEDS", needs)
    manifest = with_gpu_variant(bundle.manifest)
    monkeypatch.setattr(module, "cuda_gpus", lambda: ())
    without = choose_variant(manifest, None)
    assert without.variant.name == "openvino-int8"
    assert without.others["vllm-bf16"] == "needs a CUDA GPU, and this machine shows none"
    monkeypatch.setattr(module, "cuda_gpus", lambda: ("Some GPU",))
    there = choose_variant(manifest, None)
    assert there.variant.name == "vllm-bf16"
    assert there.others["onnx-int8"] == "does not use the GPU"


def test_an_engine_that_does_not_serve_the_task_says_so(bundle: Result) -> None:
    manifest = msgspec.structs.replace(bundle.manifest, task="classify")
    with pytest.raises(BundleError, match="no openvino engine for task classify"):
        choose_variant(manifest, None)


def test_every_extra_that_is_named_exists() -> None:
    import tomllib
    from pathlib import Path

    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extras = {needs.extra for needs in NEEDS.values()}
    assert extras <= project["optional-dependencies"].keys()
