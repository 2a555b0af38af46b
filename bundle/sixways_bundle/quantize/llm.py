"""LLaMA-class language models from GGUF: which variants can be made, and their making."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sixways_bundle.errors import BundleError, MissingExtra, Problem
from sixways_bundle.quantize.base import Family, Measured, Recipe, Report, Speed
from sixways_bundle.runtime import telemetry
from sixways_bundle.runtime.llm import MODEL

if TYPE_CHECKING:
    from sixways_bundle.quantize.llm_losses import Losses

Options = Mapping[str, str | int | float | bool]
_MODULES = ("openvino", "openvino_genai", "gguf", "tokenizers", "numpy")
_TOOLS = ("openvino", "openvino-genai", "gguf")
_NNCF = (*_MODULES, "nncf")
_TORCH = (*_MODULES, "torch", "transformers", "safetensors")

# Thresholds are perplexity ratios to the model as shipped, dequantized and computed in float32.
# SmolLM2-135M-Instruct Q4_1 gave 1.000, 1.006 and 1.109; each threshold leaves about the room that
# another model or processor may need, and no more. `auto` leaves int4 out: for a third less memory
# and a few percent to a third more speed it loses ten times what int8 loses, and that is for the
# user to choose.
LLM_RECIPES: tuple[Recipe, ...] = (
    Recipe("openvino-gguf", "openvino", "weights as the GGUF file has them", 1.01,
           _MODULES, _TOOLS),
    Recipe("openvino-int8", "openvino", "int8 weights, one scale a row", 1.02,
           _NNCF, (*_TOOLS, "nncf")),
    Recipe("openvino-int4", "openvino", "int4 weights in groups of 32, int8 token table", 1.15,
           _NNCF, (*_TOOLS, "nncf"), auto=False),
    # For machines that OpenVINO does not know. The same files as the next one.
    Recipe("torch-bf16", "torch", "bfloat16 weights and activations", 1.02,
           _TORCH, (*_TOOLS, "torch", "transformers", "safetensors"), auto=False),
    # For machines with a CUDA GPU, which is not where a bundle must be built.
    Recipe("vllm-bf16", "vllm", "bfloat16 weights and activations", 1.02,
           _TORCH, (*_TOOLS, "torch", "transformers", "safetensors"), auto=False),
)  # fmt: skip
"""What can be made of a GGUF language model; quality is the perplexity ratio."""


class LlmFamily(Family):
    """A LLaMA-class model in one GGUF file.

    `reference_size` is the size of that file: where it is quantized already, that is what a
    variant replaces, and no float16 file exists that anybody would ship instead.

    Args:
        gguf: the `.gguf` file.

    Raises:
        BundleError: the file is broken, or OpenVINO GenAI cannot serve its architecture.
        MissingExtra: the libraries that read it are not installed.
    """

    dimensions = 0

    def __init__(self, gguf: Path) -> None:
        telemetry.switch_off()  # everything below opens OpenVINO sooner or later
        try:
            from sixways_bundle.quantize.llm_gguf import GgufModel
        except ImportError:
            raise MissingExtra("reading a GGUF file", "quantize") from None
        self._model = GgufModel(gguf)
        if not self._model.chat_template:
            raise BundleError(
                f"{gguf.name} cannot be served: it has no chat template",
                [Problem("tokenizer.chat_template", "",
                         "a chat model: the model server has no engine for plain completion yet",
                         "choose the model's instruct or chat version")],
            )  # fmt: skip
        self.task = "chat"
        self.architecture = self._model.architecture
        self.max_tokens = self._model.context_length
        self.eos_token_ids = self._model.eos_token_ids
        self.reference_size = self._model.size
        self.licence = str(self._model.get("general.license") or "unknown")
        self._reference_losses: Losses | None = None

    def write_tokenizer(self, out: Path) -> None:
        """Writes `tokenizer.json`, `tokenizer_config.json` (the names of the first and the last
        token) and, for chat, `chat_template.jinja`.
        """
        from sixways_bundle.quantize.llm_tokenizer import write_tokenizer

        write_tokenizer(self._model, out)

    def make(
        self, recipe: Recipe, out: Path, work: Path, report: Report
    ) -> dict[str, str | int | float | bool]:
        """See `Family.make`. The float16 IR that all variants start from is kept in `work`."""
        from sixways_bundle.quantize import llm_ir

        out.mkdir(parents=True, exist_ok=True)
        if recipe.engine != "openvino":
            from sixways_bundle.quantize import llm_torch

            report(0.0, "dequantizing to bfloat16 with transformers")
            llm_torch.convert(self._model.path, out, self.eos_token_ids)
            # The server has the bundle's own; these are for whoever opens the folder with vLLM.
            self.write_tokenizer(out)
            llm_torch.name_tokenizer(out)
            report(1.0, "bfloat16 weights saved")
            return {}
        reference = self._reference(work, _part(report, 0.0, 0.6))
        precision = recipe.name.removeprefix("openvino-")
        if precision != "gguf":
            report(0.6, f"compressing weights to {precision}")
            llm_ir.compress(reference, precision, out)
            report(1.0, f"{precision} weights saved")
            return {}
        converted = self._as_shipped(work, _part(report, 0.6, 0.9))
        report(0.9, "restoring exact zero points")
        mended = llm_ir.save_exact(converted, reference, out)
        report(1.0, f"{self._model.weights_type} weights saved, {mended} matrices mended")
        return {"weights": self._model.weights_type}

    def measure(
        self, recipe: Recipe, directory: Path, options: Options, work: Path, report: Report
    ) -> Measured:
        """See `Family.measure`: perplexity over the fixed passages against the float16 weights.

        Each variant is computed by the engine that serves it; vLLM's by transformers instead.
        """
        from sixways_bundle.quantize import llm_measure
        from sixways_bundle.quantize.llm_tokenizer import build_tokenizer

        texts = llm_measure.passages()
        tokenizer = build_tokenizer(self._model)
        ids = [tokenizer.encode(text).ids[: self.max_tokens] for text in texts]
        if self._reference_losses is None:
            reference = self._reference(work, _part(report, 0.0, 0.3))
            self._reference_losses = llm_measure.losses(
                reference.parent, ids, True, _part(report, 0.3, 0.6)
            )
        rest = _part(report, 0.6, 1.0)
        if recipe.engine != "openvino":
            from sixways_bundle.quantize import llm_torch

            found = llm_torch.losses(directory, ids, rest)
        else:
            found = llm_measure.losses(directory, ids, False, rest)
        return found.ratio_to(self._reference_losses, texts)

    def time(
        self,
        candidates: Mapping[str, tuple[Recipe, Path, Options]],
        report: Report,
    ) -> dict[str, Speed]:
        """See `Family.time`: milliseconds a decoded token at 1 and 8 streams."""
        from sixways_bundle.quantize.llm_measure import time_variants

        # The others are no candidates of `auto`, and vLLM's may have no GPU here.
        folders = {
            name: folder
            for name, (one, folder, _) in candidates.items()
            if one.engine == "openvino"
        }
        return time_variants(folders, len(self._model.tokens), report)

    def _reference(self, work: Path, report: Report) -> Path:
        """The model dequantized, as float16 IR."""
        from sixways_bundle.quantize import llm_ir
        from sixways_bundle.quantize.llm_gguf import PLAIN

        folder = work / "llm-reference"
        done = folder / MODEL
        if done.is_file():
            return done
        shutil.rmtree(folder, ignore_errors=True)
        plain = work / "llm-float16.gguf"
        self._model.copy_with_types(plain, PLAIN, _part(report, 0.0, 0.5))
        report(0.5, "converting float16 weights to OpenVINO")
        try:
            return llm_ir.convert(plain, folder)
        finally:
            plain.unlink()

    def _as_shipped(self, work: Path, report: Report) -> Path:
        """The model with its own weights as IR; float16 where OpenVINO does not read their type."""
        from sixways_bundle.quantize import llm_ir
        from sixways_bundle.quantize.llm_gguf import READABLE

        folder = work / "llm-as-shipped"
        done = folder / MODEL
        if done.is_file():
            return done
        shutil.rmtree(folder, ignore_errors=True)
        source = self._model.path
        if not self._model.tensor_types <= READABLE:
            source = work / "llm-readable.gguf"
            self._model.copy_with_types(source, READABLE, _part(report, 0.0, 0.5))
        report(0.5, f"converting {self._model.weights_type} weights to OpenVINO")
        return llm_ir.convert(source, folder)


def _part(report: Report, start: float, end: float) -> Report:
    return lambda fraction, message: report(start + (end - start) * fraction, message)
