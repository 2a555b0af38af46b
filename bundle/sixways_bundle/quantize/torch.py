"""Encoder variants in torch, quantized by torchao and stored as safetensors."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torchao.prototype.safetensors import safetensors_support
from torchao.quantization import Int8WeightOnlyConfig, quantize_

from sixways_bundle.quantize.encoder_quiet import quiet
from sixways_bundle.runtime.torch import SentenceEncoder


def int8_weights(encoder: SentenceEncoder, out: Path) -> None:
    """int8 weights of linear layers and tables, one scale a row; computes in float32."""
    with quiet():
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
    pooling = {"pooling": encoder.pooling, "normalize": encoder.normalize}
    (out / "pooling.json").write_text(json.dumps(pooling))


def _is_table(module: torch.nn.Module, _name: str) -> bool:
    return isinstance(module, torch.nn.Embedding)
