"""Computes with one variant of a bundle: arrays in, arrays out. One file an engine.

The build measures variants with this code and the server serves them with it, so that what was
measured is what is served. Nothing here knows of HTTP, texts or queues.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from sixways_bundle.errors import BundleError, Problem
from sixways_bundle.runtime.base import EncoderRuntime, InputRefused, TensorRuntime, TensorSpec

__all__ = [
    "ENCODERS",
    "TENSORS",
    "EncoderRuntime",
    "InputRefused",
    "TensorRuntime",
    "TensorSpec",
    "open_encoder",
    "open_tensor",
]

ENCODERS = {
    "openvino": "OpenVINOEncoder",
    "onnx": "OnnxEncoder",
    "torch": "TorchEncoder",
    "litert": "LiteRTEncoder",
}
"""By engine: the class in the module of its name that computes an encoder."""
TENSORS = {
    "openvino": "OpenVINOTensors",
    "onnx": "OnnxTensors",
    "litert": "LiteRTTensors",
    "tensorflow": "TensorFlowTensors",
}
"""By engine: the class in the module of its name that computes a model over tensors."""


def open_encoder(
    engine: str,
    directory: Path,
    *,
    threads: int | None = None,
    longest: int | None = None,
    options: Mapping[str, str | int | float | bool] | None = None,
) -> EncoderRuntime:
    """Opens the encoder variant in `directory` with the engine it was made for.

    Args:
        engine: one of `ENCODERS`.
        directory: the variant's folder, already verified.
        threads: processor threads to use; None lets the engine take those it may run on.
        longest: tokens that the model takes at most, if known: an engine that pads for speed
            must not pad beyond.
        options: the variant's, from the manifest.

    Raises:
        MissingExtra: the engine's library is not installed.
        BundleError: no runtime for that engine, or it cannot open the variant.
    """
    runtime: EncoderRuntime = _class(engine, ENCODERS)(
        directory, threads=threads, **_known(engine, longest, options)
    )
    return runtime


def open_tensor(engine: str, directory: Path, *, threads: int | None = None) -> TensorRuntime:
    """Opens the variant of a model over tensors in `directory`.

    Args:
        engine: one of `TENSORS`.
        directory: the variant's folder, already verified.
        threads: processor threads to use; None lets the engine take those it may run on.

    Raises:
        MissingExtra: the engine's library is not installed.
        BundleError: no runtime for that engine, or it cannot open the variant.
    """
    runtime: TensorRuntime = _class(engine, TENSORS)(directory, threads=threads)
    return runtime


def _class(engine: str, classes: Mapping[str, str]) -> Any:
    if engine not in classes:
        raise BundleError(
            "no runtime computes this variant",
            [Problem("engine", engine, ", ".join(classes), "choose a variant of these engines")],
        )
    return getattr(import_module(f"sixways_bundle.runtime.{engine}"), classes[engine])


def _known(
    engine: str, longest: int | None, options: Mapping[str, str | int | float | bool] | None
) -> dict[str, str | int | float | bool | None]:
    """What the engine's runtime is told besides."""
    if engine == "openvino":
        return {"longest": longest}
    if engine == "torch" and options and options.get("compile"):
        return {"compiled": True}
    return {}
