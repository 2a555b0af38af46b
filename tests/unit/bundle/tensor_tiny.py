"""Small models over tensors in every format, made in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

WIDTH, OUT = 6, 3
SAME = 1e-5


def weights(seed: int = 3) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    return (
        generator.normal(size=(WIDTH, OUT)).astype(np.float32),
        generator.normal(size=OUT).astype(np.float32),
    )


def expected(x: Any) -> Any:
    """What every model of this file computes."""
    matrix, bias = weights()
    return np.tanh(x @ matrix + bias)


def write_onnx(path: Path, *, over_the_batch: bool = False) -> Path:
    """`x` (n, 6) to `y` (n, 3); `over_the_batch` adds the mean of all rows to each."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    matrix, bias = weights()
    nodes = [
        helper.make_node("MatMul", ["x", "matrix"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["tanh" if over_the_batch else "y"]),
    ]
    if over_the_batch:
        nodes += [
            helper.make_node("ReduceMean", ["tanh"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Add", ["tanh", "mean"], ["y"]),
        ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", OUT])],
        [numpy_helper.from_array(matrix, "matrix"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def write_sum(path: Path) -> Path:
    """`a` (n, k) + `b` (m, k) to `c`: axes that are free one by one, and must fit together."""
    import onnx
    from onnx import TensorProto, helper

    def value(name: str, *axes: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, axes)

    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["c"])],
        "sum",
        [value("a", "n", "k"), value("b", "m", "l")],
        [value("c", "p", "q")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def write_openvino(path: Path) -> Path:
    """The same as IR, through ONNX."""
    import openvino

    source = write_onnx(path.with_suffix(".source.onnx"))
    openvino.save_model(openvino.convert_model(source), path, compress_to_fp16=False)
    source.unlink()
    return path


def _function() -> Any:
    import tensorflow as tf

    matrix, bias = weights()
    module: Any = tf.Module()
    module.matrix, module.bias = tf.Variable(matrix), tf.Variable(bias)

    @tf.function(input_signature=[tf.TensorSpec((None, WIDTH), tf.float32, name="x")])  # type: ignore[untyped-decorator]
    def run(x: Any) -> Any:
        return {"y": tf.tanh(tf.matmul(x, module.matrix) + module.bias)}

    module.run = run
    return module


def write_saved_model(path: Path, *, signature: str = "serving_default") -> Path:
    """The same as TensorFlow saves it."""
    import tensorflow as tf

    module = _function()
    tf.saved_model.save(module, str(path), signatures={signature: module.run})
    return path


def write_tflite(path: Path) -> Path:
    """The same for LiteRT, with a signature and a free first axis."""
    import tensorflow as tf

    folder = write_saved_model(path.with_suffix(".saved"))
    path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert())
    return path


WRITERS = {
    "onnx": ("model.onnx", write_onnx),
    "openvino": ("model.xml", write_openvino),
    "litert": ("model.tflite", write_tflite),
    "tensorflow": ("saved_model", write_saved_model),
}
"""By engine: the name its runtime wants, and what writes it."""
