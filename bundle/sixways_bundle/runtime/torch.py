"""Encoders in torch: `config.json`, `pooling.json` and `model.safetensors`.

Quantized weights are torchao tensors, taken apart into plain tensors for safetensors: nothing
here is unpickled.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sixways_bundle.errors import BundleError, MissingExtra, Problem
from sixways_bundle.runtime.base import EncoderRuntime, model_file, usable_threads

try:
    import torch
except ImportError:
    raise MissingExtra("the torch engine", "torch") from None

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Pooling = Literal["mean", "cls"]


class SentenceEncoder(torch.nn.Module):
    """A transformer with its pooling and normalization inside: token ids in, vectors out.

    Args:
        model: answers `last_hidden_state` of shape (batch, length, dimensions).
        pooling: `mean` of all tokens that are not padding, or the first (`cls`).
        normalize: whether vectors are scaled to length 1.
    """

    def __init__(self, model: torch.nn.Module, pooling: Pooling, normalize: bool) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling
        self.normalize = normalize

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Vectors of shape (batch, dimensions) for ids and mask of shape (batch, length)."""
        hidden: torch.Tensor = self.model(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state
        if hidden.dtype != torch.float32:
            hidden = hidden.float()  # a sum over many tokens needs more than 8 bits
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            kept = attention_mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * kept).sum(1) / kept.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(pooled, p=2.0, dim=1) if self.normalize else pooled


class TorchEncoder(EncoderRuntime):
    """An encoder in torch; on CUDA where torch sees a GPU.

    Args:
        directory: folder with `config.json`, `pooling.json` and `model.safetensors`.
        threads: processor threads; None: all that this process may run on. torch has one pool
            for the whole process, so the encoder opened last decides.
        compiled: whether torch compiles the model. That takes a C++ compiler and up to minutes
            at the first inputs.

    Raises:
        MissingExtra: transformers, torchao or safetensors is not installed.
        BundleError: a file is missing, the weights do not fit the configuration, or there is no
            compiler.
    """

    def __init__(
        self, directory: Path, *, threads: int | None = None, compiled: bool = False
    ) -> None:
        try:
            from transformers import AutoConfig, AutoModel
        except ImportError:
            raise MissingExtra("the torch engine", "torch") from None
        path = model_file(directory, "model.safetensors", "config.json", "pooling.json")
        pooling = json.loads((directory / "pooling.json").read_text())
        config = AutoConfig.from_pretrained(
            str(directory), local_files_only=True, trust_remote_code=False
        )
        # By name, since a configuration may say what the weights once were.
        dtype = _DTYPES[pooling.get("dtype", "float32")]
        model: Any = AutoModel.from_config(  # type: ignore[no-untyped-call]
            config, trust_remote_code=False, dtype=dtype
        )
        state, left = _weights(path)
        try:
            model.load_state_dict(state, strict=True, assign=True)
        except (KeyError, ValueError, RuntimeError) as error:
            raise BundleError(
                f"the weights in {path} do not fit its config.json: {error}. "
                "Fix: build the bundle again with this version of torchao"
            ) from error
        if left:
            raise BundleError(
                f"{path} has weights without a use: {', '.join(sorted(left))}. "
                "Fix: build the bundle again with this version of torchao"
            )
        torch.set_num_threads(usable_threads(threads))
        self._place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self._place.type == "cuda":
            self.device = f"CUDA ({torch.cuda.get_device_name(self._place)})"
        encoder: Any = SentenceEncoder(model.eval(), pooling["pooling"], pooling["normalize"])
        encoder = encoder.to(self._place)
        if compiled:
            _require_compiler(self._place)
            encoder = torch.compile(encoder, dynamic=True)
        self._encoder: Any = encoder

    def embed(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        if self._encoder is None:
            raise RuntimeError("the encoder was closed")
        with torch.inference_mode():
            vectors = self._encoder(
                torch.from_numpy(input_ids).to(self._place),
                torch.from_numpy(attention_mask).to(self._place),
            )
        rows: NDArray[np.float32] = vectors.cpu().numpy()
        return rows

    def close(self) -> None:
        self._encoder = None


_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def _weights(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The weights by name, put together where torchao took them apart, and what was left over."""
    try:
        from safetensors import safe_open

        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if not metadata:
            return flat, {}
        from torchao.prototype.safetensors import safetensors_support
    except ImportError:
        raise MissingExtra("the torch engine", "torch") from None
    # torchao has no types here.
    join: Callable[..., tuple[dict[str, Any], dict[str, Any]]] = (
        safetensors_support.unflatten_tensor_state_dict
    )
    try:
        return join(flat, metadata)
    except (KeyError, ValueError, RuntimeError) as error:
        raise BundleError(
            f"the weights in {path} cannot be put together: {error}. "
            "Fix: build the bundle again with this version of torchao"
        ) from error


def _require_compiler(place: torch.device) -> None:
    """Fails now, with words, rather than at the first request inside torch."""
    if place.type == "cuda":  # Triton brings its own
        return
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    if not any(shutil.which(name) for name in names):
        raise BundleError(
            "a compiled variant cannot be opened here",
            [Problem("compiler", ", ".join(names), "a C++ compiler on PATH",
                     "install one (Debian, Ubuntu: apt install g++) or name it in CXX, or serve "
                     "the variant that is not compiled")],
        )  # fmt: skip
