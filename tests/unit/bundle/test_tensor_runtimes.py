"""Models over tensors in every engine: the same function, the same names, the same refusals."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sixways_bundle.errors import BundleError, MissingExtra
from sixways_bundle.runtime import TENSORS, InputRefused, TensorRuntime, TensorSpec, open_tensor
from tests.unit.bundle import tensor_tiny as tiny

MODULES = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "litert": "ai_edge_litert.interpreter",
    "tensorflow": "tensorflow",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for engine, (name, write) in tiny.WRITERS.items():
        found[engine] = tmp_path_factory.mktemp(engine)
        write(found[engine] / name)
    return found


@pytest.fixture(params=TENSORS)
def runtime(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Iterator[TensorRuntime]:
    opened = open_tensor(request.param, folders[request.param], threads=1)
    yield opened
    opened.close()


def rows(count: int, seed: int = 0) -> dict[str, Any]:
    return {"x": np.random.default_rng(seed).normal(size=(count, tiny.WIDTH)).astype(np.float32)}


def test_every_engine_tells_the_same_names_types_and_free_axes(runtime: TensorRuntime) -> None:
    assert runtime.inputs == (TensorSpec("x", "float32", (-1, tiny.WIDTH)),)
    assert runtime.outputs == (TensorSpec("y", "float32", (-1, tiny.OUT)),)
    assert runtime.device == "CPU"


def test_every_engine_computes_the_function_for_any_number_of_rows(runtime: TensorRuntime) -> None:
    for count in (1, 5, 2):
        given = rows(count, seed=count)
        answer = runtime.infer(given)
        assert list(answer) == ["y"]
        assert answer["y"].dtype == np.float32
        assert np.allclose(answer["y"], tiny.expected(given["x"]), atol=tiny.SAME)


def test_an_answer_is_not_overwritten_by_the_next(runtime: TensorRuntime) -> None:
    first = runtime.infer(rows(2))["y"]
    kept = first.copy()
    runtime.infer(rows(2, seed=9))
    assert np.array_equal(first, kept)


def test_a_shape_that_the_engine_refuses_is_told_apart_and_harms_nothing(
    runtime: TensorRuntime,
) -> None:
    with pytest.raises(InputRefused):
        runtime.infer({"x": np.zeros((2, tiny.WIDTH + 1), np.float32)})
    given = rows(3)
    assert np.allclose(runtime.infer(given)["y"], tiny.expected(given["x"]), atol=tiny.SAME)


@pytest.mark.parametrize("engine", TENSORS)
def test_a_missing_file_is_named(engine: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"a folder with .*(model\.|saved_model)"):
        open_tensor(engine, tmp_path)


@pytest.mark.parametrize("engine", TENSORS)
def test_a_file_that_is_no_model_is_refused(engine: str, tmp_path: Path) -> None:
    name = tiny.WRITERS[engine][0]
    path = tmp_path / name / "saved_model.pb" if engine == "tensorflow" else tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("no model")
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(BundleError, match=r"cannot open (?s:.*)Fix: build the bundle again"):
        open_tensor(engine, tmp_path)


@pytest.mark.parametrize("engine", TENSORS)
def test_a_library_that_is_missing_names_its_extra(
    engine: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, MODULES[engine], None)
    extra = {"litert": "litert", "tensorflow": "tensorflow"}.get(engine, "server")
    with pytest.raises(MissingExtra, match=rf"pip install 'sixways\[{extra}\]'"):
        open_tensor(engine, folders[engine])


def test_an_engine_without_a_runtime_lists_those_that_have_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="openvino, onnx, litert, tensorflow"):
        open_tensor("vllm", tmp_path)


def test_a_saved_model_without_the_usual_signature_says_how_to_save_it(tmp_path: Path) -> None:
    tiny.write_saved_model(tmp_path / "saved_model", signature="other")
    with pytest.raises(BundleError, match=r"'other' is not accepted.*serving_default"):
        open_tensor("tensorflow", tmp_path)


def test_texts_go_through_tensorflow_and_onnx(tmp_path: Path) -> None:
    import onnx
    import tensorflow as tf
    from onnx import TensorProto, helper

    module: Any = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="t")])  # type: ignore[untyped-decorator]
    def same(t: Any) -> Any:
        return {"u": tf.identity(t)}

    module.same = same
    tf.saved_model.save(module, str(tmp_path / "saved_model"), {"serving_default": module.same})
    graph = helper.make_graph(
        [helper.make_node("Identity", ["t"], ["u"])],
        "same",
        [helper.make_tensor_value_info("t", TensorProto.STRING, ["n"])],
        [helper.make_tensor_value_info("u", TensorProto.STRING, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "model.onnx"))
    texts = np.array(["grün", ""], dtype=object)
    for engine in ("tensorflow", "onnx"):
        runtime = open_tensor(engine, tmp_path)
        assert runtime.inputs == (TensorSpec("t", "str", (-1,)),)
        answer = runtime.infer({"t": texts})["u"]
        assert answer.tolist() == ["grün", ""]
        assert answer.dtype == object
        runtime.close()


@pytest.mark.parametrize(("offered", "used", "device"), [(True, True, "CUDA"), (True, False, "CPU"),
                                                         (False, False, "CPU")])  # fmt: skip
def test_cuda_is_asked_for_where_onnx_runtime_offers_it_and_told_where_it_is_used(
    folders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    offered: bool,
    used: bool,
    device: str,
) -> None:
    import onnxruntime

    names = ["CPUExecutionProvider"]
    asked: list[Any] = []
    real = onnxruntime.InferenceSession

    def session(path: str, options: Any, *, providers: list[Any]) -> Any:
        asked.extend(providers)
        opened = real(path, options, providers=["CPUExecutionProvider"])
        if used:
            opened.get_providers = lambda: ["CUDAExecutionProvider", *names]
        return opened

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(
        onnxruntime,
        "get_available_providers",
        lambda: (["CUDAExecutionProvider"] if offered else []) + names,
    )
    assert open_tensor("onnx", folders["onnx"]).device == device
    cuda = [("CUDAExecutionProvider", {"use_tf32": "0"})] if offered else []
    assert asked == [*cuda, *names]
