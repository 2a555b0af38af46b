"""Encoder variants in torch, as they are or quantized by torchao, stored as safetensors."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

from sixways_bundle.quantize.encoder_quiet import quiet
from sixways_bundle.runtime.torch import SentenceEncoder


def int8_weights(encoder: SentenceEncoder, out: Path) -> None:
    """int8 weights of linear layers and tables, one scale a row; computes in float32."""
    with quiet():
        from torchao.prototype.safetensors import safetensors_support
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        model: Any = copy.deepcopy(encoder.model)
        quantize_(model, Int8WeightOnlyConfig(version=2))
        quantize_(model, Int8WeightOnlyConfig(version=2), filter_fn=_is_table)
        # torchao has no types here.
        split: Callable[..., tuple[dict[str, torch.Tensor], dict[str, str]]] = (
            safetensors_support.flatten_tensor_state_dict
        )
        tensors, metadata = split(model.state_dict())
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            str(out / "model.safetensors"),
            metadata,
        )
        model.config.save_pretrained(str(out))
    _write_pooling(encoder, out, "float32")


def plain(encoder: SentenceEncoder, out: Path, dtype: Literal["float32", "bfloat16"]) -> None:
    """The weights in `dtype`, which is also what the model computes in."""
    with quiet():
        model: Any = encoder.model
        kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        tensors = {
            name: tensor.to(kind).contiguous() if tensor.is_floating_point() else tensor
            for name, tensor in model.state_dict().items()
        }
        save_file(tensors, str(out / "model.safetensors"))
        model.config.save_pretrained(str(out))
    _write_pooling(encoder, out, dtype)


def _write_pooling(encoder: SentenceEncoder, out: Path, dtype: str) -> None:
    told = {"pooling": encoder.pooling, "normalize": encoder.normalize, "dtype": dtype}
    (out / "pooling.json").write_text(json.dumps(told))


def _is_table(module: torch.nn.Module, _name: str) -> bool:
    return isinstance(module, torch.nn.Embedding)
