"""Figures of several rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True)
class Figure:
    """Minimum, median and maximum of all rounds."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Figure:
        """The figure of at least one round."""
        return cls(round(min(rounds), 4), round(median(rounds), 4), round(max(rounds), 4))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.min:.2f} to {self.max:.2f})"

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)
