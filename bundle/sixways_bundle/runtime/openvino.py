"""Encoders in OpenVINO IR: `model.xml` and `model.bin`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sixways_bundle.errors import BundleError, MissingExtra
from sixways_bundle.runtime import telemetry
from sixways_bundle.runtime.base import EncoderRuntime, model_file, usable_threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Set here rather than left to the library: its defaults depend on the processor (bf16 where there
# is AVX512-BF16), and a variant must compute what was measured wherever it is opened.
_PRECISION = "f32"
# Activations of int8-weight layers are quantized in groups of 32 while the model runs: twice as
# fast with VNNI, 0.0002 of cosine. 32 is the default today; it is part of what was measured.
_DYNAMIC_QUANTIZATION_GROUP = 32


class OpenVINOEncoder(EncoderRuntime):
    """One compiled model and one request; batches come one after another.

    Args:
        directory: folder with `model.xml` and `model.bin`.
        threads: processor threads; None: all that this process may run on.

    Raises:
        MissingExtra: OpenVINO is not installed.
        BundleError: the files are missing or not a sentence encoder.
    """

    def __init__(self, directory: Path, *, threads: int | None = None) -> None:
        telemetry.switch_off()
        try:
            import openvino
        except ImportError:
            raise MissingExtra("the OpenVINO engine", "server") from None
        path = model_file(directory, "model.xml", "model.bin")
        try:
            model: Any = openvino.Core().compile_model(
                str(path),
                "CPU",
                {
                    # One request at a time on all threads: batches are made before they get here.
                    "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_NUM_THREADS": usable_threads(threads),
                    "INFERENCE_PRECISION_HINT": _PRECISION,
                    "DYNAMIC_QUANTIZATION_GROUP_SIZE": _DYNAMIC_QUANTIZATION_GROUP,
                    # Two models of one process, or two processes, would be pinned to the same
                    # cores and wait for each other while other cores are idle.
                    "ENABLE_CPU_PINNING": False,
                },
            )
            # Looked up by name, so that a graph that swaps its inputs cannot pass.
            ids, mask = model.input("input_ids"), model.input("attention_mask")
            self._output: Any = model.output("sentence_embedding")
        except RuntimeError as error:
            raise BundleError(
                f"OpenVINO cannot open {path} as a sentence encoder: {_first_line(error)}. "
                "Fix: build the bundle again with this version of OpenVINO"
            ) from error
        self._ids, self._mask = ids, mask
        self._request: Any = model.create_infer_request()

    def embed(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        results = self._request.infer(
            {self._ids: input_ids, self._mask: attention_mask}, share_inputs=True
        )
        # The request's own memory is written again by the next batch.
        rows: NDArray[np.float32] = results[self._output].copy()
        return rows

    def close(self) -> None:
        self._request = self._output = self._ids = self._mask = None


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
