"""How surprised a language model was by the fixed passages, whatever engine computed it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sixways_bundle.quantize.base import Measured


@dataclass(frozen=True)
class Losses:
    """By passage: summed negative log-likelihood (nats) and the tokens it is a sum over."""

    nats: NDArray[np.float64]
    tokens: NDArray[np.int64]

    def ratio_to(self, reference: Losses, texts: Sequence[str]) -> Measured:
        """Perplexity divided by the reference's, overall and of the worst passage."""
        difference = self.nats - reference.nats
        by_passage = np.exp(difference / self.tokens)
        worst = int(by_passage.argmax())
        return Measured(
            metric="perplexity_ratio",
            value=math.exp(difference.sum() / self.tokens.sum()),
            worst=float(by_passage[worst]),
            samples=int(self.tokens.sum()),
            worst_sample=texts[worst],
        )
