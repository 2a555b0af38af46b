"""The cosine that says how near a variant is to the unquantized model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


def cosines(one: Vectors, other: Vectors) -> NDArray[np.float64]:
    """Cosine of each row of one with the same row of the other."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    # A vector of zeros or of no numbers is as wrong as can be, whatever it is compared with.
    with np.errstate(invalid="ignore", divide="ignore"):
        result: NDArray[np.float64] = np.nan_to_num((a * b).sum(axis=1) / norms, nan=-1.0)
    return result
