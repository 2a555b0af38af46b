"""Encoder variants in ONNX, quantized by ONNX Runtime's tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process

from sixways_bundle.quantize.encoder_quiet import quiet

_BLOCK = 128  # weights that share a scale
# int8 activations, also for one sentence: several times faster than the exact way (1, float32)
# and 0.0007 of cosine away from it.
_INT8_ACCUMULATION = 4


def convert(program: torch.export.ExportedProgram, path: Path) -> None:
    """Writes the exported encoder as ONNX in float32 to `path`, in one file."""
    with quiet():
        torch.onnx.export(
            program,
            f=str(path),
            dynamo=True,
            # `embedding` clashes with a name inside the graph and fails when it is opened.
            output_names=["sentence_embedding"],
            external_data=False,
            verbose=False,
        )


def int8_dynamic(source: Path, path: Path, work: Path) -> None:
    """int8 weights, one scale a channel; activations become int8 while it runs."""
    with quiet():
        quantize_dynamic(
            str(_prepared(source, work)),
            str(path),
            per_channel=True,
            weight_type=QuantType.QInt8,
        )


def int8_blocks(source: Path, path: Path, work: Path) -> None:
    """int8 weights in blocks of 128 (MatMulNBits) and tables in int8."""
    tables = work / "int8-tables.onnx"
    with quiet():
        quantize_dynamic(
            str(_prepared(source, work)),
            str(tables),
            op_types_to_quantize=["Gather"],
            weight_type=QuantType.QInt8,
        )
        quantizer: Any = MatMulNBitsQuantizer(
            onnx.load(str(tables)),
            bits=8,
            block_size=_BLOCK,
            is_symmetric=True,
            accuracy_level=_INT8_ACCUMULATION,
            op_types_to_quantize=("MatMul",),
        )
        quantizer.process()
        onnx.save(quantizer.model.model, str(path))


def _prepared(source: Path, work: Path) -> Path:
    """The graph with shapes and folded constants, which both quantizers want; made once."""
    path = work / "prepared.onnx"
    if not path.is_file():
        partial = work / "prepared.partial.onnx"
        # Symbolic shape inference does not know all operators of the exporter.
        quant_pre_process(str(source), str(partial), skip_symbolic_shape=True)
        partial.replace(path)
    return path
