"""Models as TensorFlow saved them: a SavedModel in the folder `saved_model`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sixways_bundle.errors import BundleError, MissingExtra, Problem
from sixways_bundle.runtime.base import (
    NUMBERS,
    InputRefused,
    TensorRuntime,
    TensorSpec,
    model_file,
    refuse_type,
    usable_threads,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = "saved_model"
_SIGNATURE = "serving_default"


class TensorFlowTensors(TensorRuntime):
    """The signature `serving_default` of a SavedModel; on a GPU where TensorFlow sees one.

    A SavedModel is a program of TensorFlow's operations, which can read and write files: serve
    those whose source you trust. The bundle's digest says that it is still the same one.

    Args:
        directory: folder with `saved_model/saved_model.pb`.
        threads: processor threads; None: all that this process may run on. TensorFlow has one
            pool for the whole process, so the first model decides.

    Raises:
        MissingExtra: TensorFlow is not installed.
        BundleError: the model is missing, cannot be opened, has no such signature, or an input or
            output of another type.
    """

    def __init__(self, directory: Path, *, threads: int | None = None) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # what it could have been built with
        try:
            import tensorflow as tf
        except ImportError:
            raise MissingExtra("the TensorFlow engine", "tensorflow") from None
        path = model_file(directory, f"{FOLDER}/saved_model.pb").parent
        try:
            tf.config.threading.set_intra_op_parallelism_threads(usable_threads(threads))
            tf.config.threading.set_inter_op_parallelism_threads(1)
        except RuntimeError:  # it has computed already: the pool is made
            pass
        self._tf: Any = tf
        try:
            # Kept: its variables live as long as it does.
            self._model: Any = tf.saved_model.load(str(path))
        except (tf.errors.OpError, OSError, ValueError, KeyError, RuntimeError) as error:
            raise BundleError(
                f"TensorFlow cannot open {path}: {str(error).strip()}. "
                "Fix: build the bundle again with this version of TensorFlow"
            ) from error
        if _SIGNATURE not in self._model.signatures:
            have = ", ".join(self._model.signatures) or "none"
            raise BundleError(
                f"{path} cannot be served",
                [Problem("signature", have, _SIGNATURE,
                         "save the model with this signature (tf.saved_model.save(..., "
                         "signatures=...))")],
            )  # fmt: skip
        self._function: Any = self._model.signatures[_SIGNATURE]
        given: Mapping[str, Any] = self._function.structured_input_signature[1]
        made: Mapping[str, Any] = self._function.structured_outputs
        self.inputs = tuple(_spec(path, name, given[name]) for name in sorted(given))
        self.outputs = tuple(_spec(path, name, made[name]) for name in sorted(made))
        self.device = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        import numpy as np

        tf = self._tf
        try:
            answer = self._function(**{n: tf.constant(array) for n, array in tensors.items()})
        except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
            raise InputRefused(str(error)) from error
        arrays = {name: tensor.numpy() for name, tensor in answer.items()}
        for name, array in arrays.items():
            if array.dtype.kind == "O":  # texts come as bytes
                decoded = [one.decode("utf-8", "replace") for one in array.reshape(-1)]
                arrays[name] = np.array(decoded, dtype=object).reshape(array.shape)
        return arrays

    def close(self) -> None:
        self._function = self._model = None


def _spec(path: Path, name: str, spec: Any) -> TensorSpec:
    kind = spec.dtype.name
    dtype = "str" if kind == "string" else kind
    if dtype != "str" and dtype not in NUMBERS:
        raise refuse_type(path, name, kind)
    if spec.shape.rank is None:
        raise refuse_type(path, name, "a tensor of any number of axes")
    return TensorSpec(name, dtype, tuple(-1 if axis is None else axis for axis in spec.shape))
