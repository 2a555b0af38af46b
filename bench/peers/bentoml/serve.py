"""MiniLM behind BentoML, with its adaptive batching: `bentoml serve serve:MiniLM`."""

from __future__ import annotations

import bentoml
import numpy as np

from bench.peers.engine import MAX_BATCH, Peer, open_encoder

_MAX_LATENCY_MS = 1000


@bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": 256})
class MiniLM:
    """Texts in, embeddings out."""

    def __init__(self) -> None:
        self.open = open_encoder(Peer.told())

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=_MAX_LATENCY_MS)
    def encode(self, sentences: list[str]) -> np.ndarray:
        return self.open(sentences)
