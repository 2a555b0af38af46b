"""Encoders in ONNX, computed by ONNX Runtime: `model.onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sixways_bundle.errors import BundleError, MissingExtra
from sixways_bundle.runtime import telemetry
from sixways_bundle.runtime.base import EncoderRuntime, model_file, usable_threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ERRORS_ONLY = 3


class OnnxEncoder(EncoderRuntime):
    """One session of ONNX Runtime on the processor.

    Args:
        directory: folder with `model.onnx`.
        threads: processor threads; None: all that this process may run on.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
        BundleError: the file is missing or not a sentence encoder.
    """

    def __init__(self, directory: Path, *, threads: int | None = None) -> None:
        telemetry.switch_off()
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtra("the ONNX engine", "server") from None
        path = model_file(directory, "model.onnx")
        options: Any = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_threads(threads)
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Threads spin while a batch runs and not after it: whoever else is on this machine (a
        # language model beside the encoder) gets the cores between two batches.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        # Its exceptions share no base class but Exception, and Python knows only some by name.
        except Exception as error:
            raise BundleError(
                f"ONNX Runtime cannot open {path}: {str(error).strip()}. "
                "Fix: build the bundle again with this version of ONNX Runtime"
            ) from error
        inputs = {one.name for one in session.get_inputs()}
        outputs = [one.name for one in session.get_outputs()]
        if inputs != {"input_ids", "attention_mask"} or outputs != ["sentence_embedding"]:
            raise BundleError(
                f"{path} is no sentence encoder: it has the inputs {sorted(inputs)} and the "
                f"outputs {outputs}, accepted: input_ids, attention_mask and sentence_embedding. "
                "Fix: build the bundle again"
            )
        self._session: Any = session

    def embed(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = self._session.run(
            ["sentence_embedding"], {"input_ids": input_ids, "attention_mask": attention_mask}
        )[0]
        return rows

    def close(self) -> None:
        self._session = None
