"""Models in OpenVINO IR: `model.xml` and `model.bin`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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

# Set here rather than left to the library: its defaults depend on the processor (bf16 where there
# is AVX512-BF16), and a variant must compute what was measured wherever it is opened.
_PRECISION = "f32"
# Activations of int8-weight layers are quantized in groups of 32 while the model runs: twice as
# fast with VNNI, 0.0002 of cosine. 32 is the default today; it is part of what was measured.
_DYNAMIC_QUANTIZATION_GROUP = 32
# OpenVINO keeps what it made ready for each shape, repacked weights included: 2 GB after 800 shapes
# of a model of 23 MB. So lengths are rounded up, which costs 3 to 6 % of a short text's time, and
# what is kept is bounded. Shapes that come often stay.
_STEPS = {32: 4, 128: 8}  # up to so many tokens: multiples of so many
_LONG_STEP = 16
_KEPT_SHAPES = 1000  # operations, of all shapes together
_TYPES = {
    "f16": "float16", "f32": "float32", "f64": "float64", "boolean": "bool",
    "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
}  # fmt: skip
"""OpenVINO's names of types and numpy's."""


class OpenVINOEncoder(EncoderRuntime):
    """One compiled model and one request; batches come one after another.

    Args:
        directory: folder with `model.xml` and `model.bin`.
        threads: processor threads; None: all that this process may run on.
        longest: tokens that the model takes at most: up to there lengths are rounded up. None:
            not known, so none is.

    Raises:
        MissingExtra: OpenVINO is not installed.
        BundleError: the files are missing or not a sentence encoder.
    """

    def __init__(
        self, directory: Path, *, threads: int | None = None, longest: int | None = None
    ) -> None:
        self._longest = longest or 0
        path, model = _compile(directory, threads)
        try:
            # Looked up by name, so that a graph that swaps its inputs cannot pass.
            self._ids: Any = model.input("input_ids")
            self._mask: Any = model.input("attention_mask")
            self._output: Any = model.output("sentence_embedding")
        except RuntimeError as error:
            raise _cannot_open(path, " as a sentence encoder", error) from error
        self._request: Any = model.create_infer_request()

    def embed(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        length = input_ids.shape[1]
        missing = min(_rounded(length), self._longest) - length
        if missing > 0:
            import numpy as np

            padding = ((0, 0), (0, missing))
            input_ids, attention_mask = np.pad(input_ids, padding), np.pad(attention_mask, padding)
        results = self._request.infer(
            {self._ids: input_ids, self._mask: attention_mask}, share_inputs=True
        )
        # The request's own memory is written again by the next batch.
        rows: NDArray[np.float32] = results[self._output].copy()
        return rows

    def close(self) -> None:
        self._request = self._output = self._ids = self._mask = None


class OpenVINOTensors(TensorRuntime):
    """Any model whose inputs and outputs are tensors of plain types.

    Args:
        directory: folder with `model.xml` and `model.bin`.
        threads: processor threads; None: all that this process may run on.

    Raises:
        MissingExtra: OpenVINO is not installed.
        BundleError: the files are missing, cannot be opened, or have an input or output of
            another type.
    """

    def __init__(self, directory: Path, *, threads: int | None = None) -> None:
        path, model = _compile(directory, threads)
        self._inputs = dict(_named(model.inputs, "input"))
        self._outputs = dict(_named(model.outputs, "output"))
        self.inputs = tuple(_spec(path, name, port) for name, port in self._inputs.items())
        self.outputs = tuple(_spec(path, name, port) for name, port in self._outputs.items())
        self._request: Any = model.create_infer_request()

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            results = self._request.infer(
                {port: tensors[name] for name, port in self._inputs.items()}, share_inputs=True
            )
        except RuntimeError as error:
            raise InputRefused(_first_line(error)) from error
        # The request's own memory is written again by the next call.
        return {name: results[port].copy() for name, port in self._outputs.items()}

    def close(self) -> None:
        self._request = None
        self._inputs = self._outputs = {}


def _rounded(length: int) -> int:
    """The length that a batch of this length is computed at."""
    step = next((step for upto, step in _STEPS.items() if length <= upto), _LONG_STEP)
    return -(-length // step) * step


def _compile(directory: Path, threads: int | None) -> tuple[Path, Any]:
    """The model's path, and the model compiled for this machine's processor."""
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
                "CPU_RUNTIME_CACHE_CAPACITY": _KEPT_SHAPES,
            },
        )
    except RuntimeError as error:
        raise _cannot_open(path, "", error) from error
    return path, model


def _cannot_open(path: Path, what: str, error: RuntimeError) -> BundleError:
    return BundleError(
        f"OpenVINO cannot open {path}{what}: {_first_line(error)}. "
        "Fix: build the bundle again with this version of OpenVINO"
    )


def _named(ports: Iterable[Any], kind: str) -> Iterator[tuple[str, Any]]:
    """Ports by name. A port has several names or none; converters keep the source's first."""
    for index, port in enumerate(ports):
        names = sorted(port.get_names())
        yield names[0] if names else f"{kind}_{index}", port


def _spec(path: Path, name: str, port: Any) -> TensorSpec:
    kind = port.get_element_type()
    dtype = "str" if kind.get_type_name() == "string" else _TYPES.get(kind.get_type_name())
    if dtype is None:
        raise refuse_type(path, name, kind.get_type_name())
    partial = port.get_partial_shape()
    if partial.rank.is_dynamic:
        raise refuse_type(path, name, "a tensor of any number of axes")
    shape = tuple(axis.get_length() if axis.is_static else -1 for axis in partial)
    return TensorSpec(name, dtype, shape)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
