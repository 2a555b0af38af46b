"""Language models as OpenVINO IR: converted from GGUF, made exact, compressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13

from sixways_bundle.errors import BundleError, Problem
from sixways_bundle.quantize.encoder_quiet import quiet
from sixways_bundle.runtime.llm import MODEL

_INT4_GROUP = 32
_DECOMPRESSION = ("Convert", "Reshape", "Multiply", "Subtract")


def convert(gguf: Path, folder: Path) -> Path:
    """Converts with the reader of OpenVINO GenAI, which also opens GGUF files for serving.

    Args:
        gguf: the model.
        folder: an empty or missing folder; it gets the IR.

    Returns:
        The IR's `.xml` file.

    Raises:
        BundleError: the reader does not take the model.
    """
    import openvino_genai  # type: ignore[import-untyped]

    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "model.gguf"  # the reader writes the IR beside the file it was given
    link.symlink_to(gguf.resolve())
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = 1
    try:
        openvino_genai.ContinuousBatchingPipeline(
            link, scheduler, "CPU", {"enable_save_ov_model": True}
        )
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[-1]
        raise BundleError(
            f"OpenVINO GenAI cannot convert {gguf.name}",
            [Problem("source", str(gguf), f"a model that its GGUF reader takes ({reason})",
                     "choose another file of the model, e.g. Q8_0 or F16")],
        ) from None  # fmt: skip
    finally:
        link.unlink()
    return folder / MODEL


def save_exact(converted: Path, reference: Path, out: Path) -> int:
    """Saves the converted model with the zero points that the GGUF file really has.

    A block of Q4_1 or Q4_K is `scale * q + minimum`. The reader turns the minimum into a zero
    point and rounds that to a whole number of 4 bits, which changes every weight of the block by
    up to half a step. Here it becomes `-minimum / scale` in float16, found from the dequantized
    weights of `reference`, the same graph in float16.

    Args:
        converted: IR of the model as shipped.
        reference: IR of the model dequantized to float16.
        out: the variant's folder.

    Returns:
        How many matrices were mended.

    Raises:
        BundleError: the two graphs are not of the same model.
    """
    core = openvino.Core()
    model: Any = core.read_model(converted)
    exact: Any = core.read_model(reference)
    mended = 0
    ours, theirs = _products(model), _products(exact)
    if len(ours) != len(theirs):
        raise BundleError(
            f"two conversions of one model differ ({len(ours)} and {len(theirs)} products). "
            "Fix: use the versions of OpenVINO that sixways names"
        )
    for product, plain in zip(ours, theirs, strict=True):
        chain, levels = _weights(product)
        if levels is None or levels.get_element_type() != openvino.Type.u4:
            continue
        _, dense = _weights(plain)
        if dense is None:
            continue
        subtract = next((n for n in chain if n.get_type_name() == "Subtract"), None)
        multiply = next((n for n in chain if n.get_type_name() == "Multiply"), None)
        if subtract is None or multiply is None:
            continue
        scale = _data(multiply, 1).astype(np.float32)
        shape = tuple(levels.shape)
        zero = _zero_points(_unpack(levels.data, shape), scale, dense.data.reshape(shape))
        subtract.input(1).replace_source_output(opset13.constant(zero).output(0))
        mended += 1
    openvino.save_model(model, out / MODEL, compress_to_fp16=False)
    return mended


def _zero_points(
    levels: NDArray[np.float32], scale: NDArray[np.float32], weights: NDArray[np.float16]
) -> NDArray[np.float16]:
    """Shape (rows, blocks, 1): what must be taken from the levels before they are scaled."""
    minimum = (weights.astype(np.float32) - scale * levels).mean(axis=-1, keepdims=True)
    safe = np.where(scale == 0, 1, scale)  # a block of zeros has the scale 0
    zero: NDArray[np.float16] = (-minimum / safe).astype(np.float16)
    return zero


def _unpack(data: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Two 4-bit levels a byte, the low half first."""
    packed = data.reshape(-1).view(np.uint8)
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(shape).astype(np.float32)


def _products(model: Any) -> list[Any]:
    return [op for op in model.get_ordered_ops() if op.get_type_name() == "MatMul"]


def _weights(product: Any) -> tuple[list[Any], Any]:
    """The nodes that decompress the second factor, and the constant they start from."""
    node = product.input_value(1).get_node()
    chain = []
    while node.get_type_name() in _DECOMPRESSION:
        chain.append(node)
        node = node.input_value(0).get_node()
    return chain, node if node.get_type_name() == "Constant" else None


def _data(node: Any, port: int) -> NDArray[Any]:
    source = node.input_value(port).get_node()
    while source.get_type_name() == "Convert":
        source = source.input_value(0).get_node()
    array: NDArray[Any] = source.data
    return array


def compress(reference: Path, precision: str, out: Path) -> None:
    """Saves the float16 model with compressed weights; the token table becomes 8-bit in both.

    Args:
        reference: IR of the model in float16.
        precision: `int8` (symmetric, one scale a row) or `int4` (symmetric, one scale for 32
            weights, after scaling channels by their weights alone: AWQ without data).
        out: the variant's folder.
    """
    with quiet():
        import nncf

        model = openvino.Core().read_model(reference)
        if precision == "int8":
            compressed = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
        else:
            compressed = nncf.compress_weights(
                model,
                mode=nncf.CompressWeightsMode.INT4_SYM,
                group_size=_INT4_GROUP,
                ratio=1.0,
                awq=True,
            )
        openvino.save_model(compressed, out / MODEL)
