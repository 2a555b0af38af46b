"""Models in ONNX, computed by ONNX Runtime: `model.onnx`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sixways_bundle.errors import BundleError, MissingExtra
from sixways_bundle.runtime import telemetry
from sixways_bundle.runtime.base import (
    EncoderRuntime,
    InputRefused,
    TensorRuntime,
    TensorSpec,
    model_file,
    refuse_type,
    usable_threads,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODEL = "model.onnx"
_ERRORS_ONLY, _FATAL_ONLY = 3, 4
_CUDA = "CUDAExecutionProvider"
_TYPES = {
    "float16": "float16", "float": "float32", "double": "float64", "bool": "bool",
    "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64",
    "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64",
    "string": "str",
}  # fmt: skip
"""ONNX Runtime's names of types and numpy's."""


class OnnxEncoder(EncoderRuntime):
    """One session of ONNX Runtime; on CUDA where this build of ONNX Runtime offers it.

    Args:
        directory: folder with `model.onnx`.
        threads: processor threads; None: all that this process may run on.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
        BundleError: the file is missing or not a sentence encoder.
    """

    def __init__(self, directory: Path, *, threads: int | None = None) -> None:
        path, session, self.device = _open(directory, threads)
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


class OnnxTensors(TensorRuntime):
    """Any model whose inputs and outputs are tensors of plain types.

    Args:
        directory: folder with `model.onnx`.
        threads: processor threads; None: all that this process may run on.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
        BundleError: the file is missing, cannot be opened, or has an input or output that is no
            tensor of a plain type.
    """

    def __init__(self, directory: Path, *, threads: int | None = None) -> None:
        path, self._session, self.device = _open(directory, threads)
        self.inputs = tuple(_spec(path, one) for one in self._session.get_inputs())
        self.outputs = tuple(_spec(path, one) for one in self._session.get_outputs())
        self._names = [spec.name for spec in self.outputs]
        import onnxruntime

        # What it refuses is an exception; it need not be a line of the log as well.
        self._quiet: Any = onnxruntime.RunOptions()
        self._quiet.log_severity_level = _FATAL_ONLY

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        from onnxruntime.capi import onnxruntime_pybind11_state as states

        try:
            arrays = self._session.run(self._names, dict(tensors), self._quiet)
        except (states.InvalidArgument, states.RuntimeException, states.Fail) as error:
            raise InputRefused(str(error).strip()) from error
        return dict(zip(self._names, arrays, strict=True))

    def close(self) -> None:
        self._session = None


def _open(directory: Path, threads: int | None) -> tuple[Path, Any, str]:
    """The model's path, its session, and the device that computes."""
    telemetry.switch_off()
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("the ONNX engine", "server") from None
    path = model_file(directory, MODEL)
    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_threads(threads)
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Threads spin while a batch runs and not after it: whoever else is on this machine (a
    # language model beside the encoder) gets the cores between two batches.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    providers: list[Any] = ["CPUExecutionProvider"]
    if _CUDA in onnxruntime.get_available_providers():
        # Without TF32, whose 10-bit mantissas would not give the numbers that were measured. What
        # CUDA has no kernel for, or all of it where its libraries are missing, the CPU computes.
        providers.insert(0, (_CUDA, {"use_tf32": "0"}))
    try:
        session: Any = onnxruntime.InferenceSession(str(path), options, providers=providers)
    # Its exceptions share no base class but Exception, and Python knows only some by name.
    except Exception as error:
        raise BundleError(
            f"ONNX Runtime cannot open {path}: {str(error).strip()}. "
            "Fix: build the bundle again with this version of ONNX Runtime"
        ) from error
    return path, session, "CUDA" if session.get_providers()[0] == _CUDA else "CPU"


def _spec(path: Path, port: Any) -> TensorSpec:
    kind = str(port.type)
    dtype = _TYPES.get(kind.removeprefix("tensor(").removesuffix(")"))
    if not kind.startswith("tensor(") or dtype is None:
        raise refuse_type(path, port.name, kind)
    # A free axis has a name, or none.
    shape = tuple(axis if isinstance(axis, int) else -1 for axis in port.shape)
    return TensorSpec(port.name, dtype, shape)
