"""Encoder variants for LiteRT, quantized by ai-edge-quantizer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Its own switch, read whenever it would print.
os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")

import litert_torch
import numpy as np
import torch
from ai_edge_quantizer import qtyping, quantizer, recipe

from sixways_bundle.quantize.encoder_quiet import quiet
from sixways_bundle.runtime.litert import SIGNATURE
from sixways_bundle.runtime.torch import SentenceEncoder

_SHORTEST = 16


def lengths(longest: int) -> list[int]:
    """The lengths that get a graph: powers of two from 16 on, and the longest input itself.

    A graph costs 1 MB and some seconds of conversion; padding costs up to the next power.
    """
    found = []
    length = _SHORTEST
    while length < longest:
        found.append(length)
        length *= 2
    return [*found, longest]


def convert(encoder: SentenceEncoder, longest: int, path: Path) -> None:
    """Writes the encoder in float32, one signature a length; all of them share the weights."""
    converter = litert_torch.Converter()
    with quiet(), _eager(encoder), torch.no_grad():
        for length in lengths(longest):
            # LiteRT computes indices in 32 bits.
            ids = torch.ones(1, length, dtype=torch.int32)
            inputs = {"input_ids": ids, "attention_mask": ids.clone()}
            converter.signature(f"{SIGNATURE}{length}", encoder, sample_kwargs=inputs)
        converter.convert().export(str(path))


def int8_dynamic(source: Path, path: Path) -> None:
    """int8 weights and tables, one scale a channel; activations become int8 while it runs."""
    _quantize(quantizer.Quantizer(str(source), recipe.dynamic_wi8_afp32()), path)


def int8_dynamic_int4_tables(source: Path, path: Path) -> None:
    """int8 weights as in `int8_dynamic`; tables in int4, in blocks of 32.

    The table of words is half of a small encoder, and a sentence reads few of its rows.
    """
    work = quantizer.Quantizer(str(source), recipe.dynamic_wi8_afp32())
    work.add_dynamic_config(
        ".*",
        qtyping.TFLOperationName.EMBEDDING_LOOKUP,
        4,
        granularity=qtyping.QuantGranularity.BLOCKWISE_32,
    )
    _quantize(work, path)


def _quantize(work: Any, path: Path) -> None:
    # A row of zeros has no scale, of which numpy would warn; quantized it is zeros all the same.
    with quiet(), np.errstate(divide="ignore", invalid="ignore"):
        work.quantize().export_model(str(path), overwrite=True)


@contextmanager
def _eager(encoder: SentenceEncoder) -> Iterator[None]:
    """Attention in plain operations while it lasts: the converter knows no fused one."""
    model: Any = encoder.model
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
