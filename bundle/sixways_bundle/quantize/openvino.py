"""Encoder variants in OpenVINO IR, quantized by NNCF."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nncf
import openvino
import torch

from sixways_bundle.errors import BundleError
from sixways_bundle.quantize.encoder_model import pad
from sixways_bundle.quantize.encoder_quiet import quiet

Progress = Callable[[float, str], None]
# Small groups: one scale for 32 weights costs 0.7 MB of 30,000 words and keeps 0.998 of cosine.
_INT4_GROUP = 32


def convert(program: torch.export.ExportedProgram, path: Path) -> None:
    """Writes the exported encoder as IR in float32 to `path` (`.xml`)."""
    with quiet():
        model: Any = openvino.convert_model(program)
        for port, name in zip(model.inputs, ("input_ids", "attention_mask"), strict=True):
            port.get_tensor().set_names({name})
        model.outputs[0].get_tensor().set_names({"sentence_embedding"})
        _save(model, path)


def int8_weights(source: Path, path: Path) -> None:
    """Symmetric int8 weights, one scale a row, embeddings included; activations stay float."""
    with quiet():
        model = nncf.compress_weights(_read(source), mode=nncf.CompressWeightsMode.INT8_SYM)
        _save(model, path)


def int8_static(source: Path, path: Path, texts: Sequence[Sequence[int]], report: Progress) -> None:
    """Weights and activations in int8, with ranges found by running `texts` (token ids)."""
    seen = 0
    # Three passes: smoothing, ranges, bias correction. One counted too many or too few shows as
    # a bar that ends early, nothing else.
    passes = 3

    def sample(ids: Sequence[int]) -> dict[str, Any]:
        nonlocal seen
        seen += 1
        report(min(1.0, seen / (passes * len(texts))), "calibrating int8 ranges")
        input_ids, attention_mask = pad([ids])
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    with quiet():
        model = nncf.quantize(
            _read(source),
            nncf.Dataset(texts, sample),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(texts),
        )
        _save(model, path)


def int8_weights_int4_embedding(source: Path, path: Path) -> None:
    """int8 weights as in `int8_weights`, and the table of words in int4.

    The table is half of a small encoder and each sentence reads few of its rows, so that its
    rounding hurts least: this is what makes a variant over 4 times smaller.
    """
    with quiet():
        model = _read(source)
        table = _word_table(model)
        others = [
            node.get_friendly_name()
            for node in model.get_ops()
            if node.get_type_name() in {"MatMul", "Gather"} and node.get_friendly_name() != table
        ]
        model = nncf.compress_weights(
            model,
            mode=nncf.CompressWeightsMode.INT4_SYM,
            group_size=_INT4_GROUP,
            all_layers=True,
            ignored_scope=nncf.IgnoredScope(names=others, validate=False),
        )
        model = nncf.compress_weights(
            model,
            mode=nncf.CompressWeightsMode.INT8_SYM,
            ignored_scope=nncf.IgnoredScope(names=[table]),
        )
        _save(model, path)


def _word_table(model: Any) -> str:
    """Name of the Gather that reads the largest table of floats: the one of words."""
    tables: dict[str, int] = {}
    for node in model.get_ops():
        if node.get_type_name() != "Gather":
            continue
        table = node.input_value(0)
        shape = table.get_partial_shape()
        if shape.is_static and len(shape) == 2 and table.get_element_type().is_real():
            tables[node.get_friendly_name()] = shape[0].get_length() * shape[1].get_length()
    if not tables:
        raise BundleError(
            "the exported encoder has no table of words to quantize to int4. "
            "Fix: choose another variant"
        )
    return max(tables, key=lambda name: tables[name])


def _read(path: Path) -> Any:
    return openvino.Core().read_model(str(path))


def _save(model: Any, path: Path) -> None:
    # Weights that are left in float stay float32: halving them would be a quantization that
    # no recipe names.
    openvino.save_model(model, str(path), compress_to_fp16=False)
