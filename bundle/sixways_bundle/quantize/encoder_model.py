"""The unquantized encoder in torch, its export, and texts as token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoModel
from transformers.utils import logging as transformers_logging

from sixways_bundle.errors import BundleError
from sixways_bundle.quantize.encoder_quiet import quiet
from sixways_bundle.quantize.encoder_source import EncoderSource
from sixways_bundle.runtime.torch import SentenceEncoder

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]
_BATCH = 16


def load_encoder(source: EncoderSource) -> SentenceEncoder:
    """The model of `source` in float32, with pooling and normalization.

    Raises:
        BundleError: transformers cannot open it, or weights are missing.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with quiet():
        try:
            model, notes = AutoModel.from_pretrained(
                str(source.folder),
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise BundleError(
                f"transformers cannot open {source.folder}: {error}. Fix: check that config.json "
                "and the weights belong together and need no code of their own"
            ) from error
    # The pooler is a head that sentence embeddings do not use; many files leave it out.
    missing = sorted(key for key in notes["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise BundleError(
            f"the weights in {source.folder} are not whole: {len(missing)} are missing, first "
            f"{missing[0]}. Fix: fetch the model again"
        )
    return SentenceEncoder(model.eval(), source.pooling, source.normalize).eval()


def export_encoder(encoder: SentenceEncoder) -> torch.export.ExportedProgram:
    """The graph for any batch and length, as ONNX and OpenVINO are made from it."""
    # Sizes of 1 would be taken for constants.
    ids = torch.ones(2, 16, dtype=torch.int64)
    # The range of the length is the model's own table of positions; the exporter finds it.
    shape = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with quiet(), torch.no_grad():
        return torch.export.export(
            encoder,
            (),
            {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
            dynamic_shapes={"input_ids": shape, "attention_mask": shape},
        )


class Texts:
    """Sentences as token ids, cut to the longest input of the model."""

    def __init__(self, source: EncoderSource, sentences: Sequence[str]) -> None:
        tokenizer: Any = Tokenizer.from_file(str(source.folder / "tokenizer.json"))
        # A saved tokenizer may pad and cut everything to the length it was last used with.
        tokenizer.no_padding()
        tokenizer.enable_truncation(source.max_tokens)
        self.sentences = list(sentences)
        self.ids: list[list[int]] = [
            list(one.ids) for one in tokenizer.encode_batch(self.sentences)
        ]

    def closest_to(self, length: int, count: int) -> list[list[int]]:
        """`count` sentences of about `length` tokens; again from the start if there are fewer."""
        chosen = sorted(self.ids, key=lambda ids: abs(len(ids) - length))
        return [chosen[index % len(chosen)] for index in range(count)]

    def embed(
        self, compute: Callable[[Ids, Ids], Vectors], progress: Callable[[float], None]
    ) -> Vectors:
        """One vector a sentence, in the order of the sentences."""
        order = sorted(range(len(self.ids)), key=lambda index: len(self.ids[index]))
        rows: list[Vectors] = []
        for start in range(0, len(order), _BATCH):
            rows.append(compute(*pad([self.ids[index] for index in order[start : start + _BATCH]])))
            progress(min(1.0, (start + _BATCH) / len(order)))
        sorted_rows = np.concatenate(rows)
        vectors = np.empty_like(sorted_rows)
        vectors[order] = sorted_rows
        return vectors


def pad(rows: Sequence[Sequence[int]]) -> tuple[Ids, Ids]:
    """Token ids and attention mask of shape (rows, longest row), padded at the right with 0."""
    shape = (len(rows), max(len(row) for row in rows))
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return ids, mask
