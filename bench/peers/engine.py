"""What computes inside the frameworks that run any Python code.

It is imported in the peers' own environments, so it needs nothing of the server's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VARIABLE = "SIXWAYS_BENCH_PEER"
MAX_BATCH = 32

Encode = Callable[[Sequence[str]], "NDArray[np.float32]"]
"""Texts in, a row for each out."""


@dataclass(frozen=True)
class Peer:
    """What a peer's program is told, as JSON in the environment variable `VARIABLE`.

    Attributes:
        port: where to listen, on 127.0.0.1.
        threads: processor threads.
        source: the model's folder as its makers publish it.
        engine: of the served bundle's variant; empty for the documented way (torch, float32).
        directory: the variant's folder.
        tokenizer: its tokenizer.json.
    """

    port: int
    threads: int
    source: str
    engine: str = ""
    directory: str = ""
    tokenizer: str = ""

    @classmethod
    def told(cls) -> Peer:
        """Reads the variable."""
        return cls(**json.loads(os.environ[VARIABLE]))


def open_encoder(peer: Peer) -> Encode:
    """The encoder that this peer is to serve."""
    return _same_engine(peer) if peer.engine else _as_documented(peer)


def _as_documented(peer: Peer) -> Encode:
    from sentence_transformers import (  # type: ignore[import-not-found]
        SentenceTransformer,
    )

    model = SentenceTransformer(peer.source, device="cpu")

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = model.encode(
            list(texts), batch_size=MAX_BATCH, show_progress_bar=False
        )
        return vectors

    return encode


def _same_engine(peer: Peer) -> Encode:
    """The runtime that our server uses, with the same variant and the same tokenizer."""
    from tokenizers import Tokenizer

    from sixways_bundle.runtime import open_encoder as open_runtime

    tokenizer = Tokenizer.from_file(peer.tokenizer)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    runtime = open_runtime(peer.engine, Path(peer.directory), threads=peer.threads)

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        return runtime.embed(*_padded([one.ids for one in tokenizer.encode_batch(list(texts))]))

    return encode


def _padded(rows: list[list[int]]) -> tuple[Any, Any]:
    """Token ids and mask, both int64 of shape (texts, length of the longest)."""
    import numpy as np

    shape = (len(rows), max(map(len, rows)))
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return ids, mask
