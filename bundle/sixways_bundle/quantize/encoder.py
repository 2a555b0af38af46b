"""Sentence encoders: which variants can be made of one, and the making and measuring of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sixways_bundle.errors import BundleError, MissingExtra
from sixways_bundle.quantize import sentences
from sixways_bundle.quantize.base import Family, Measured, Recipe, Report, Speed
from sixways_bundle.quantize.encoder_quiet import quiet
from sixways_bundle.quantize.encoder_source import EncoderSource
from sixways_bundle.runtime import open_encoder

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from sixways_bundle.quantize.encoder_model import Ids, Texts, Vectors
    from sixways_bundle.runtime.torch import SentenceEncoder

Options = Mapping[str, str | int | float | bool]

_FLOAT = ("torch", "transformers", "tokenizers", "safetensors", "numpy")
_OPENVINO = (*_FLOAT, "openvino", "nncf")
_ONNX = (*_FLOAT, "onnx", "onnxscript", "onnxruntime")
_TORCH = (*_FLOAT, "torchao")
_LITERT = (*_FLOAT, "litert-torch", "litert-converter", "ai-edge-quantizer", "ai-edge-litert")
_LITERT_MODULES = (*_FLOAT, *(name.replace("-", "_") for name in _LITERT[len(_FLOAT) :]))
_COSINE = 0.995

ENCODER_RECIPES: tuple[Recipe, ...] = (
    Recipe("openvino-int8", "openvino", "int8 weights, float32 activations", _COSINE,
           _OPENVINO, _OPENVINO),
    Recipe("openvino-int8-static", "openvino", "int8 weights and calibrated int8 activations",
           _COSINE, _OPENVINO, _OPENVINO),
    Recipe("openvino-int8-int4emb", "openvino", "int8 weights, int4 word table", _COSINE,
           _OPENVINO, _OPENVINO),
    # One scale for all activations of a sentence: no encoder that was tried comes near 0.995,
    # so `auto` need not build it to find out.
    Recipe("onnx-int8", "onnx", "int8 weights and dynamic int8 activations", 0.99,
           _ONNX, _ONNX, auto=False),
    Recipe("onnx-int8-nbits", "onnx", "int8 weights in blocks of 128, int8 tables", _COSINE,
           _ONNX, _ONNX),
    # Eager torch widens int8 to float32 in every call: small, and slower than float32.
    Recipe("torch-int8", "torch", "int8 weights and tables, float32 activations", _COSINE,
           _TORCH, _TORCH, auto=False),
    Recipe("torch-bf16", "torch", "bfloat16 weights and activations", _COSINE,
           _FLOAT, _FLOAT, auto=False),
    # Compiling takes up to a minute at the first inputs, and eager torch is about as fast.
    Recipe("torch-bf16-compiled", "torch", "bfloat16 weights and activations, compiled", _COSINE,
           _FLOAT, _FLOAT, auto=False),
    Recipe("torch-fp32", "torch", "float32", _COSINE, _FLOAT, _FLOAT, auto=False),
    # For devices: a graph a length, and one text at a time. Converting takes minutes.
    Recipe("litert-int8", "litert", "int8 weights and dynamic int8 activations", _COSINE,
           _LITERT_MODULES, _LITERT, auto=False, extra="convert-litert"),
    Recipe("litert-int8-int4emb", "litert",
           "int8 weights, int4 tables in blocks of 32, dynamic int8 activations", _COSINE,
           _LITERT_MODULES, _LITERT, auto=False, extra="convert-litert"),
    Recipe("litert-fp32", "litert", "float32", _COSINE, _LITERT_MODULES, _LITERT,
           auto=False, extra="convert-litert"),
    Recipe("openvino-fp32", "openvino", "float32", _COSINE, _OPENVINO, _OPENVINO, auto=False),
    Recipe("onnx-fp32", "onnx", "float32", _COSINE, _ONNX, _ONNX, auto=False),
)  # fmt: skip
"""Every variant of a sentence encoder; the quality is the mean cosine with float32 torch."""


class EncoderFamily(Family):
    """A BERT-like sentence encoder in the Hugging Face layout.

    Args:
        source: folder with config.json, *.safetensors and tokenizer.json; pooling and length are
            read from the files of sentence-transformers where they are there.

    Raises:
        BundleError: it is no sentence encoder that can be built; names all that is wrong.
    """

    task = "embeddings"

    def __init__(self, source: Path) -> None:
        self.source = EncoderSource.read(source)
        self.architecture = self.source.architecture
        self.max_tokens = self.source.max_tokens
        self.dimensions = self.source.dimensions
        self.reference_size = self.source.size
        self._encoder: SentenceEncoder | None = None
        self._program: ExportedProgram | None = None
        self._evaluation: Texts | None = None

    def write_tokenizer(self, out: Path) -> None:
        """Writes `tokenizer.json` without the padding and truncation it was saved with."""
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise MissingExtra("writing a tokenizer", "quantize") from None
        path = self.source.folder / "tokenizer.json"
        # tokenizers raises nothing narrower than Exception.
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:
            raise BundleError(f"{path} is no tokenizer: {error}. Fix: fetch it again") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        out.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(out / "tokenizer.json"), pretty=False)

    def make(
        self, recipe: Recipe, out: Path, work: Path, report: Report
    ) -> dict[str, str | int | float | bool]:
        """Writes the variant's files into `out`.

        Returns:
            `compile` where torch is to compile it; the files tell all else.

        Raises:
            MissingExtra: a library that makes it is not installed.
            BundleError: the model cannot be opened or has nothing to quantize.
        """
        _require(recipe)
        out.mkdir(parents=True, exist_ok=True)
        work.mkdir(parents=True, exist_ok=True)
        if recipe.engine == "openvino":
            self._make_openvino(recipe, out, work, report)
        elif recipe.engine == "onnx":
            self._make_onnx(recipe, out, work, report)
        elif recipe.engine == "litert":
            self._make_litert(recipe, out, work, report)
        else:
            self._make_torch(recipe, out, report)
        report(1.0, "written")
        return {"compile": True} if recipe.name.endswith("-compiled") else {}

    def _make_openvino(self, recipe: Recipe, out: Path, work: Path, report: Report) -> None:
        report(0.0, "loading OpenVINO and NNCF")
        with quiet():  # NNCF starts its telemetry when it is imported
            from sixways_bundle.quantize import openvino as variants
        plain = work / "openvino-fp32" / "model.xml"
        if not plain.is_file():
            program = self._export(report)
            report(0.5, "converting to OpenVINO")
            plain.parent.mkdir(exist_ok=True)
            variants.convert(program, plain)
        target = out / "model.xml"
        report(0.6, f"quantizing: {recipe.precision}")
        if recipe.name == "openvino-int8":
            variants.int8_weights(plain, target)
        elif recipe.name == "openvino-int8-int4emb":
            variants.int8_weights_int4_embedding(plain, target)
        elif recipe.name == "openvino-int8-static":
            from sixways_bundle.quantize.encoder_model import Texts

            texts = Texts(self.source, sentences.load("calibration"))
            variants.int8_static(
                plain, target, texts.ids, lambda part, what: report(0.6 + 0.4 * part, what)
            )
        else:
            _copy(plain, target)
            _copy(plain.with_suffix(".bin"), target.with_suffix(".bin"))

    def _make_onnx(self, recipe: Recipe, out: Path, work: Path, report: Report) -> None:
        report(0.0, "loading ONNX Runtime's quantizer")
        with quiet():
            from sixways_bundle.quantize import onnx as variants
        plain = work / "onnx-fp32" / "model.onnx"
        if not plain.is_file():
            program = self._export(report)
            report(0.5, "converting to ONNX")
            plain.parent.mkdir(exist_ok=True)
            partial = plain.with_name("partial.onnx")
            variants.convert(program, partial)
            partial.replace(plain)
        target = out / "model.onnx"
        report(0.7, f"quantizing: {recipe.precision}")
        if recipe.name == "onnx-int8":
            variants.int8_dynamic(plain, target, plain.parent)
        elif recipe.name == "onnx-int8-nbits":
            variants.int8_blocks(plain, target, plain.parent)
        else:
            _copy(plain, target)

    def _make_torch(self, recipe: Recipe, out: Path, report: Report) -> None:
        report(0.0, "loading torch")
        with quiet():
            from sixways_bundle.quantize import torch as variants
        encoder = self._load(report)
        report(0.4, f"quantizing: {recipe.precision}")
        if recipe.name == "torch-int8":
            variants.int8_weights(encoder, out)
        else:
            variants.plain(encoder, out, "float32" if recipe.name == "torch-fp32" else "bfloat16")

    def _make_litert(self, recipe: Recipe, out: Path, work: Path, report: Report) -> None:
        report(0.0, "loading LiteRT's converter and quantizer")
        with quiet():
            from sixways_bundle.quantize import litert as variants
        plain = work / "litert-fp32" / "model.tflite"
        if not plain.is_file():
            encoder = self._load(report)
            counted = len(variants.lengths(self.max_tokens))
            report(0.2, f"converting to LiteRT for {counted} lengths, which takes minutes")
            plain.parent.mkdir(exist_ok=True)
            partial = plain.with_name("partial.tflite")
            variants.convert(encoder, self.max_tokens, partial)
            partial.replace(plain)
        target = out / "model.tflite"
        report(0.8, f"quantizing: {recipe.precision}")
        if recipe.name == "litert-int8":
            variants.int8_dynamic(plain, target)
        elif recipe.name == "litert-int8-int4emb":
            variants.int8_dynamic_int4_tables(plain, target)
        else:
            _copy(plain, target)

    def measure(
        self, recipe: Recipe, directory: Path, options: Options, work: Path, report: Report
    ) -> Measured:
        """Mean and smallest cosine with float32 torch over the evaluation sentences.

        Those sentences are in no calibration. The unquantized vectors are computed once a build.
        """
        _require(recipe)
        reference = self._reference(work, lambda part, what: report(0.5 * part, what))
        from sixways_bundle.quantize.cosine import cosines

        report(0.5, "opening the variant")
        runtime = open_encoder(recipe.engine, directory, longest=self.max_tokens, options=options)
        try:
            vectors = self._texts().embed(
                runtime.embed,
                lambda part: report(0.5 + 0.5 * part, "comparing with the unquantized model"),
            )
        finally:
            runtime.close()
        cosine = cosines(reference, vectors)
        worst = int(cosine.argmin())
        return Measured(
            metric="cosine",
            value=float(cosine.mean()),
            worst=float(cosine[worst]),
            samples=len(cosine),
            worst_sample=self._texts().sentences[worst],
        )

    def time(
        self, candidates: Mapping[str, tuple[Recipe, Path, Options]], report: Report
    ) -> dict[str, Speed]:
        """Median milliseconds of batches of 1, 8 and 32 sentences of about 26 tokens.

        `score_ms` is the geometric mean of the three times a sentence: a server answers single
        requests and full batches, and no one of the three should decide alone.
        """
        from sixways_bundle.quantize.encoder_timing import time_encoders

        for recipe, _, _ in candidates.values():
            _require(recipe)
        where = {name: (one.engine, path, opts) for name, (one, path, opts) in candidates.items()}
        return time_encoders(where, self._texts(), self.max_tokens, report)

    def _load(self, report: Report) -> SentenceEncoder:
        if self._encoder is None:
            report(0.05, "loading torch and the model")
            with quiet():
                from sixways_bundle.quantize.encoder_model import load_encoder
            self._encoder = load_encoder(self.source)
        return self._encoder

    def _export(self, report: Report) -> ExportedProgram:
        if self._program is None:
            encoder = self._load(report)
            report(0.2, "exporting the graph")
            from sixways_bundle.quantize.encoder_model import export_encoder

            self._program = export_encoder(encoder)
        return self._program

    def _texts(self) -> Texts:
        if self._evaluation is None:
            from sixways_bundle.quantize.encoder_model import Texts

            self._evaluation = Texts(self.source, sentences.load("evaluation"))
        return self._evaluation

    def _reference(self, work: Path, report: Report) -> Vectors:
        import numpy as np

        path = work / "reference.npy"
        if path.is_file():
            kept: Vectors = np.load(path, allow_pickle=False)
            return kept
        encoder = self._load(report)
        import torch

        def compute(ids: Ids, mask: Ids) -> Vectors:
            with torch.inference_mode():
                rows: Vectors = encoder(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
            return rows

        vectors = self._texts().embed(
            compute, lambda part: report(part, "computing the unquantized vectors")
        )
        work.mkdir(parents=True, exist_ok=True)
        np.save(path, vectors, allow_pickle=False)
        return vectors


def _require(recipe: Recipe) -> None:
    if any(importlib.util.find_spec(module) is None for module in recipe.modules):
        raise MissingExtra(f"variant {recipe.name}", recipe.extra)


def _copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())
