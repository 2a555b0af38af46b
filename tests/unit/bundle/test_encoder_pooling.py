"""Pooling and normalization, computed by hand on a model whose hidden states are known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sixways_bundle.runtime.torch import Pooling, SentenceEncoder

HIDDEN = torch.tensor([[[3.0, 0.0], [1.0, 8.0], [100.0, 100.0]]])


class Known(torch.nn.Module):
    """Three tokens; the last is padding."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        assert input_ids.shape == attention_mask.shape
        return SimpleNamespace(last_hidden_state=HIDDEN)


@pytest.mark.parametrize(
    ("pooling", "normalize", "expected"),
    [
        ("mean", False, [2.0, 4.0]),
        ("mean", True, [0.4472136, 0.8944272]),
        ("cls", False, [3.0, 0.0]),
        ("cls", True, [1.0, 0.0]),
    ],
)
def test_vectors_are_pooled_as_the_model_was_trained(
    pooling: Pooling, normalize: bool, expected: list[float]
) -> None:
    encoder = SentenceEncoder(Known(), pooling, normalize)
    vectors = encoder(torch.tensor([[2, 5, 0]]), torch.tensor([[1, 1, 0]]))
    assert vectors[0].tolist() == pytest.approx(expected)
