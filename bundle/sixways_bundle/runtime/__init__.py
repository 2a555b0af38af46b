"""Computes with one variant of a bundle: token ids in, numbers out. One file an engine.

The build measures variants with this code and the server serves them with it, so that what was
measured is what is served. Nothing here knows of HTTP, texts or queues.
"""

from __future__ import annotations

from pathlib import Path

from sixways_bundle.errors import BundleError, Problem
from sixways_bundle.runtime.base import EncoderRuntime

__all__ = ["EncoderRuntime", "open_encoder"]


def open_encoder(engine: str, directory: Path, *, threads: int | None = None) -> EncoderRuntime:
    """Opens the encoder variant in `directory` with the engine it was made for.

    Args:
        engine: `openvino`, `onnx` or `torch`.
        directory: the variant's folder, already verified.
        threads: processor threads to use; None lets the engine take those it may run on.

    Raises:
        MissingExtra: the engine's library is not installed.
        BundleError: no runtime for that engine.
    """
    if engine == "openvino":
        from sixways_bundle.runtime.openvino import OpenVINOEncoder

        return OpenVINOEncoder(directory, threads=threads)
    if engine == "onnx":
        from sixways_bundle.runtime.onnx import OnnxEncoder

        return OnnxEncoder(directory, threads=threads)
    if engine == "torch":
        from sixways_bundle.runtime.torch import TorchEncoder

        return TorchEncoder(directory, threads=threads)
    raise BundleError(
        "no runtime computes this variant",
        [Problem("engine", engine, "openvino, onnx, torch", "choose a variant of these engines")],
    )
