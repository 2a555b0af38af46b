"""Reads GGUF files: what the model is, and copies whose weights are dequantized."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from sixways_bundle.errors import BundleError, Problem
from sixways_bundle.quantize.base import Report

ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Those that OpenVINO GenAI's GGUF reader builds a graph for (gguf_modeling.cpp, 2026.4)."""
PLAIN = frozenset({"F32", "F16"})
READABLE = PLAIN | {"Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K"}
"""Tensor types that the same reader takes as they are."""
# Control tokens that end a turn or a text in the vocabularies of known model families. Chat files
# name only the end of a turn, but the model also ends plain texts.
_END_TEXTS = ("<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|end|>", "</s>")
_CONTROL = int(gguf.TokenType.CONTROL)


class GgufModel:
    """A GGUF file that was opened and understood.

    Args:
        path: the `.gguf` file.

    Raises:
        BundleError: it is broken, or OpenVINO GenAI has no graph for its architecture.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._reader = gguf.GGUFReader(path)
            self.architecture = str(self._need("general.architecture"))
            tensors = self._reader.tensors
        except (ValueError, IndexError, KeyError, OSError, UnicodeDecodeError) as error:
            raise BundleError(
                f"{path.name} is not a whole GGUF file ({error})",
                [Problem("source", str(path), "a GGUF file of version 2 or 3, complete",
                         "fetch the file again and compare its digest")],
            ) from None  # fmt: skip
        if self.architecture not in ARCHITECTURES:
            raise BundleError(
                f"{path.name} cannot be served by OpenVINO GenAI",
                [Problem("architecture", self.architecture, ", ".join(ARCHITECTURES),
                         "choose a model of one of these architectures")],
            )  # fmt: skip
        self.tensor_types = frozenset(tensor.tensor_type.name for tensor in tensors)
        self.weights_type = _most_common_type(tensors)
        self.context_length = self._positive(f"{self.architecture}.context_length")
        self.chat_template = self.get("tokenizer.chat_template")
        self.size = path.stat().st_size
        self.tokens: list[str] = self._need("tokenizer.ggml.tokens")
        self.token_types: list[int] = self.get("tokenizer.ggml.token_type") or []
        self.eos_token_ids = self._ends()

    def get(self, key: str) -> Any:
        """The value of a metadata key, or None."""
        field = self._reader.get_field(key)
        return None if field is None else field.contents()

    def token(self, key: str) -> str | None:
        """The text of the token whose id a metadata key holds, or None."""
        index = self.get(key)
        return self.tokens[index] if isinstance(index, int) and index < len(self.tokens) else None

    def copy_with_types(self, target: Path, keep: Collection[str], report: Report) -> None:
        """Writes the same model with every tensor of another type than `keep` made float16.

        Args:
            target: the new `.gguf` file.
            keep: names of GGML types that stay as they are.
            report: told how far it is.
        """
        writer = gguf.GGUFWriter(target, self.architecture)
        for key, field in self._reader.fields.items():
            if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
                continue
            kind = field.types[0]
            inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), kind, inner)
        kept = None if PLAIN.issuperset(keep) else self.get("general.file_type")
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if kept is None else kept)
        tensors = self._reader.tensors
        for index, tensor in enumerate(tensors):
            if index % 16 == 0:
                report(index / len(tensors), f"dequantizing {tensor.name}")
            if tensor.tensor_type.name in keep:
                writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
                continue
            plain = gguf.dequantize(tensor.data, tensor.tensor_type)
            # Vectors are norms and biases: few, and they shape everything after them.
            writer.add_tensor(tensor.name, plain.astype(np.float16) if plain.ndim > 1 else plain)
        report(1.0, "writing float16 weights")
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    def _need(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise BundleError(
                f"{self.path.name} does not say what the model is",
                [Problem(key, "", "a value in the file's metadata",
                         "convert the model to GGUF again with a current converter")],
            )  # fmt: skip
        return value

    def _positive(self, key: str) -> int:
        value = self._need(key)
        if not isinstance(value, int) or value < 1:
            raise BundleError(
                f"{self.path.name} has a wrong value in its metadata",
                [Problem(key, str(value), "a positive whole number", "convert the model again")],
            )
        return value

    def _ends(self) -> tuple[int, ...]:
        """Ids that end a generation, the one the file names first."""
        named = [self.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom")]
        ends = [index for index in named if isinstance(index, int) and index < len(self.tokens)]
        if not ends:
            self._need("tokenizer.ggml.eos_token_id")
        for index, kind in enumerate(self.token_types):
            if kind == _CONTROL and self.tokens[index] in _END_TEXTS:
                ends.append(index)
        return tuple(dict.fromkeys(ends))


def _most_common_type(tensors: list[Any]) -> str:
    """The type that holds most of the weights, as llama.cpp names a file by it."""
    sizes: dict[str, int] = {}
    for tensor in tensors:
        if "blk." in tensor.name or len(tensors) == 1:
            name = tensor.tensor_type.name
            sizes[name] = sizes.get(name, 0) + int(tensor.n_elements)
    return max(sizes, key=lambda name: sizes[name]) if sizes else "F16"
