"""What every runtime offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class EncoderRuntime(ABC):
    """An encoder that is open and can compute. Not thread-safe: one call at a time."""

    @abstractmethod
    def embed(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Sentence embeddings, pooled and normalized as the model was trained.

        Args:
            input_ids: token ids, shape (batch, length), padded at the right.
            attention_mask: 1 for a token, 0 for padding, same shape.

        Returns:
            One row of length 1 an input, shape (batch, dimensions).
        """

    @abstractmethod
    def close(self) -> None:
        """Gives the memory back. The runtime must not be used afterwards."""
