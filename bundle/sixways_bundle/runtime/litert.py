"""Models for LiteRT (TensorFlow Lite): `model.tflite`. Needs ai-edge-litert and no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sixways_bundle.errors import BundleError, MissingExtra
from sixways_bundle.runtime.base import (
    NUMBERS,
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

MODEL = "model.tflite"
SIGNATURE = "tokens_"
"""An encoder has one signature a length: `tokens_32` takes ids and mask of shape (1, 32)."""


class LiteRTEncoder(EncoderRuntime):
    """An encoder whose graph is fixed for some lengths: each text runs in the shortest it fits.

    Texts are computed one after another. They would be on a device too, and a batch would need a
    graph for each of its sizes.

    Args:
        directory: folder with `model.tflite`.
        threads: processor threads; None: all that this process may run on.

    Raises:
        MissingExtra: LiteRT is not installed.
        BundleError: the file is missing or not a sentence encoder.
    """

    def __init__(self, directory: Path, *, threads: int | None = None) -> None:
        path, self._interpreter = _open(directory, threads)
        self._runners: dict[int, Any] = {}
        self._output = ""
        for name, ports in self._interpreter.get_signature_list().items():
            length = name.removeprefix(SIGNATURE)
            fits = set(ports["inputs"]) == {"input_ids", "attention_mask"}
            if not (name.startswith(SIGNATURE) and length.isdigit() and fits):
                raise BundleError(
                    f"{path} is no sentence encoder: it has a signature {name} with the inputs "
                    f"{sorted(ports['inputs'])}, accepted: {SIGNATURE}<length> with input_ids and "
                    "attention_mask. Fix: build the bundle again"
                )
            self._runners[int(length)] = self._interpreter.get_signature_runner(name)
            (self._output,) = ports["outputs"]
        if not self._runners:
            raise BundleError(f"{path} is no sentence encoder. Fix: build the bundle again")
        self._lengths = sorted(self._runners)

    def embed(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """See `EncoderRuntime.embed`.

        Raises:
            ValueError: a text is longer than the longest graph.
        """
        import numpy as np

        rows = []
        for ids, mask in zip(input_ids, attention_mask, strict=True):
            used = int(mask.sum())
            length = next((one for one in self._lengths if one >= used), None)
            if length is None:
                raise ValueError(f"{used} tokens; the longest graph takes {self._lengths[-1]}")
            padded = np.zeros((2, 1, length), np.int32)
            padded[0, 0, :used], padded[1, 0, :used] = ids[:used], mask[:used]
            answer = self._runners[length](input_ids=padded[0], attention_mask=padded[1])
            rows.append(answer[self._output])
        result: NDArray[np.float32] = np.concatenate(rows)
        return result

    def close(self) -> None:
        self._runners, self._interpreter = {}, None


class LiteRTTensors(TensorRuntime):
    """Any `.tflite` model with at most one signature.

    A model with a signature has the names of that; another one those of its tensors.

    Args:
        directory: folder with `model.tflite`.
        threads: processor threads; None: all that this process may run on.

    Raises:
        MissingExtra: LiteRT is not installed.
        BundleError: the file is missing, cannot be opened, has several signatures, or an input or
            output of another type.
    """

    def __init__(self, directory: Path, *, threads: int | None = None) -> None:
        path, self._interpreter = _open(directory, threads)
        signatures = self._interpreter.get_signature_list()
        if len(signatures) > 1:
            raise BundleError(
                f"{path} has the signatures {', '.join(sorted(signatures))}; accepted: one. "
                "Fix: convert the model with the one that is to be served"
            )
        self._runner = self._interpreter.get_signature_runner() if signatures else None
        source = self._runner or self._interpreter
        inputs, outputs = source.get_input_details(), source.get_output_details()
        if self._runner is None:
            inputs, outputs = ({one["name"]: one for one in ports} for ports in (inputs, outputs))
        self._inputs, self._outputs = inputs, outputs
        self.inputs = tuple(_spec(path, name, one) for name, one in inputs.items())
        self.outputs = tuple(_spec(path, name, one) for name, one in outputs.items())
        # Axes that are free have had another length since the tensors got their memory.
        self._shapes: dict[str, tuple[int, ...]] = {}

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            if self._runner is not None:
                answer: dict[str, NDArray[Any]] = self._runner(**tensors)
                return answer
            shapes = {name: array.shape for name, array in tensors.items()}
            if shapes != self._shapes:
                for name, shape in shapes.items():
                    self._interpreter.resize_tensor_input(self._inputs[name]["index"], shape)
                self._interpreter.allocate_tensors()
                self._shapes = shapes
            for name, array in tensors.items():
                self._interpreter.set_tensor(self._inputs[name]["index"], array)
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            self._shapes = {}
            raise InputRefused(str(error)) from error
        return {
            name: self._interpreter.get_tensor(one["index"]) for name, one in self._outputs.items()
        }

    def close(self) -> None:
        self._runner = self._interpreter = None


def _open(directory: Path, threads: int | None) -> tuple[Path, Any]:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise MissingExtra("the LiteRT engine", "litert") from None
    path = model_file(directory, MODEL)
    try:
        interpreter: Any = Interpreter(model_path=str(path), num_threads=usable_threads(threads))
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise BundleError(
            f"LiteRT cannot open {path}: {str(error).strip()}. "
            "Fix: build the bundle again with this version of ai-edge-litert"
        ) from error
    return path, interpreter


def _spec(path: Path, name: str, details: Mapping[str, Any]) -> TensorSpec:
    import numpy as np

    dtype = np.dtype(details["dtype"]).name
    if dtype not in NUMBERS:
        raise refuse_type(path, name, dtype)
    # -1 is in `shape_signature` alone; a model without free axes has none.
    known = details.get("shape_signature")
    shape = known if known is not None and len(known) else details["shape"]
    return TensorSpec(name, dtype, tuple(int(axis) for axis in shape))
