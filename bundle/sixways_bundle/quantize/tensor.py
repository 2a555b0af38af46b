"""Models from tensors to tensors: which variants can be made of one, and the making of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sixways_bundle.errors import BundleError, MissingExtra, Problem
from sixways_bundle.manifest import Engine
from sixways_bundle.quantize.base import Family, Measured, Recipe, Report, Speed
from sixways_bundle.quantize.encoder_quiet import quiet
from sixways_bundle.runtime import TensorRuntime, open_tensor
from sixways_bundle.sources import files_of_model

if TYPE_CHECKING:
    from sixways_bundle.quantize.tensor_samples import Samples

Options = Mapping[str, str | int | float | bool]
TensorKind = Literal["onnx", "tflite", "saved-model", "openvino"]

_COSINE = 0.999
_ONNX = ("onnxruntime", "onnx", "numpy")
_IR = ("openvino", "numpy")
_ORIGINAL: dict[TensorKind, Recipe] = {
    "onnx": Recipe("onnx-original", "onnx", "as the source has it", _COSINE, _ONNX, _ONNX),
    "tflite": Recipe("litert-original", "litert", "as the source has it", _COSINE,
                     ("ai_edge_litert", "numpy"), ("ai-edge-litert", "numpy"), extra="litert"),
    "saved-model": Recipe("tensorflow-original", "tensorflow", "as the source has it", _COSINE,
                          ("tensorflow", "numpy"), ("tensorflow", "numpy"), extra="tensorflow"),
    "openvino": Recipe("openvino-original", "openvino", "as the source has it", _COSINE,
                       _IR, _IR, extra="server"),
}  # fmt: skip


def _openvino(kind: TensorKind) -> Recipe:
    original = _ORIGINAL[kind]
    return Recipe("openvino-fp32", "openvino", "as the source has it, computed in float32",
                  _COSINE, (*original.modules, "openvino"), (*original.tools, "openvino"),
                  extra=original.extra)  # fmt: skip


TENSOR_RECIPES: dict[TensorKind, tuple[Recipe, ...]] = {
    "onnx": (
        _ORIGINAL["onnx"],
        _openvino("onnx"),
        # `auto` leaves it out: random inputs cannot tell how much its users would lose.
        Recipe("onnx-int8", "onnx", "int8 weights and dynamic int8 activations", 0.99,
               _ONNX, _ONNX, auto=False),
    ),
    "tflite": (_ORIGINAL["tflite"], _openvino("tflite")),
    "saved-model": (_ORIGINAL["saved-model"], _openvino("saved-model")),
    "openvino": (_ORIGINAL["openvino"],),
}  # fmt: skip
"""By the source's format. Quality is the mean cosine with the source in its own engine, over
seeded random inputs: see `tensor_samples` for what that can show."""


class TensorFamily(Family):
    """A model in one of four formats, without a tokenizer.

    Args:
        source: a `.onnx` or `.tflite` file, the `.xml` of OpenVINO IR, or a SavedModel's folder.
        kind: which of these.

    Raises:
        BundleError: an ONNX model keeps its weights in other files.
        MissingExtra: the library that reads it is not installed.
    """

    task = "tensor"
    max_tokens = 0
    dimensions = 0

    def __init__(self, source: Path, kind: TensorKind) -> None:
        self._source, self._kind = source, kind
        self._engine: Engine = _ORIGINAL[kind].engine
        self.architecture = kind
        self.reference_size = sum(file.stat().st_size for file in files_of_model(source))
        if kind == "onnx":
            _refuse_external_weights(source)
        self._samples: Samples | None = None

    def write_tokenizer(self, out: Path) -> None:
        """Writes nothing: there is none."""

    def make(
        self, recipe: Recipe, out: Path, work: Path, report: Report
    ) -> dict[str, str | int | float | bool]:
        """Writes the variant's files into `out`.

        Returns:
            `batching`: whether requests may be computed together, which is tried here: each row
            of a batch must come out as it does alone.

        Raises:
            MissingExtra: a library that makes it is not installed.
            BundleError: it cannot be converted, or no random input could be found for it.
        """
        if any(find_spec(module) is None for module in recipe.modules):
            raise MissingExtra(f"variant {recipe.name}", recipe.extra)
        out.mkdir(parents=True, exist_ok=True)
        report(0.0, "opening the model")
        samples = self._known_samples()
        report(0.2, f"making: {recipe.precision}")
        if recipe.name.endswith("-original"):
            for name, file in self._files():
                copy = shutil.copytree if file.is_dir() else shutil.copyfile
                copy(file, out / name)
        elif recipe.engine == "onnx":
            with quiet():
                from onnxruntime.quantization import QuantType, quantize_dynamic

                quantize_dynamic(
                    str(self._source),
                    str(out / "model.onnx"),
                    per_channel=True,
                    weight_type=QuantType.QInt8,
                )
        else:
            self._convert_to_openvino(samples, out / "model.xml")
        report(0.8, "trying whether requests can share a batch")
        runtime = open_tensor(recipe.engine, out)
        try:
            batching = samples.rows_are_independent(runtime)
        finally:
            runtime.close()
        report(1.0, "written")
        return {"batching": batching}

    def measure(
        self, recipe: Recipe, directory: Path, options: Options, work: Path, report: Report
    ) -> Measured:
        """Cosine of all outputs together with those of the source in its own engine."""
        samples = self._known_samples()
        runtime = open_tensor(recipe.engine, directory)
        try:
            return samples.compare(runtime, report)
        finally:
            runtime.close()

    def time(
        self, candidates: Mapping[str, tuple[Recipe, Path, Options]], report: Report
    ) -> dict[str, Speed]:
        """Median milliseconds of one random input; that is also the score."""
        from sixways_bundle.quantize.tensor_samples import time_tensors

        samples = self._known_samples()
        runtimes: dict[str, TensorRuntime] = {}
        try:
            for name, (recipe, directory, _) in candidates.items():
                runtimes[name] = open_tensor(recipe.engine, directory)
            return time_tensors(runtimes, samples, report)
        finally:
            for runtime in runtimes.values():
                runtime.close()

    def _known_samples(self) -> Samples:
        """Random inputs that the source takes, and what it makes of them; once a build."""
        if self._samples is None:
            from sixways_bundle.quantize.tensor_samples import find_samples

            with tempfile.TemporaryDirectory() as folder:
                for name, file in self._files():
                    (Path(folder) / name).symlink_to(file)
                runtime = open_tensor(self._engine, Path(folder))
                try:
                    self._samples = find_samples(runtime)
                finally:
                    runtime.close()
        return self._samples

    def _files(self) -> list[tuple[str, Path]]:
        """Where the source's files belong in a variant's folder; a SavedModel is one folder."""
        if self._kind == "saved-model":
            return [("saved_model", self._source)]
        return [(f"model{file.suffix}", file) for file in files_of_model(self._source)]

    def _convert_to_openvino(self, samples: Samples, path: Path) -> None:
        with quiet():
            import openvino

            try:
                model: Any = openvino.convert_model(str(self._source))
            except (RuntimeError, ValueError) as error:
                last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
                raise BundleError(
                    f"OpenVINO cannot convert {self._source.name}: {last}. "
                    f"Fix: choose variant {_ORIGINAL[self._kind].name}"
                ) from error
            # A port may get several names, or lose its own: requests use the source's.
            _rename(model.inputs, [spec.name for spec in samples.inputs])
            _rename(model.outputs, [spec.name for spec in samples.outputs])
            openvino.save_model(model, str(path), compress_to_fp16=False)


def _rename(ports: list[Any], wanted: list[str]) -> None:
    known = [port.get_names() for port in ports]
    for name in wanted:
        matching = [
            port
            for port, names in zip(ports, known, strict=True)
            if names & {name, f"{name}:0"} or len(ports) == 1
        ]
        if len(matching) != 1:
            raise BundleError(
                f"OpenVINO's conversion lost the name {name}; it has "
                f"{', '.join(sorted(one for names in known for one in names))}. "
                "Fix: choose the variant that ends with -original"
            )
        matching[0].get_tensor().set_names({name})


def _refuse_external_weights(source: Path) -> None:
    try:
        import onnx
        from onnx.external_data_helper import uses_external_data
    except ImportError:
        raise MissingExtra("reading an ONNX model", "quantize") from None
    try:
        model = onnx.load(str(source), load_external_data=False)
    # protobuf's own DecodeError has no stable place to import it from.
    except Exception as error:
        raise BundleError(f"{source.name} is no ONNX model: {error}") from None
    if any(uses_external_data(tensor) for tensor in model.graph.initializer):
        raise BundleError(
            f"{source.name} is not whole",
            [Problem("source", str(source), "an ONNX model in one file",
                     "save it again: onnx.save(onnx.load(PATH), PATH, "
                     "save_as_external_data=False)")],
        )  # fmt: skip
