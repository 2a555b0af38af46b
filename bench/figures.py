"""Figures of several rounds, ratios of them, and what they are held against."""

from __future__ import annotations

import math
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


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Figure:
    """Ours divided by theirs, round by round: both stood under the same weather.

    Raises:
        ValueError: the rounds are not the same number, or one of theirs is 0.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} rounds cannot be compared with {len(theirs)}")
    if not all(theirs):
        raise ValueError("a round in which nothing was done is no measure")
    return Figure.of([mine / other for mine, other in zip(ours, theirs, strict=True)])


def best_of(contenders: Sequence[Sequence[float]], *, lower_is_better: bool = False) -> list[float]:
    """The best of several contenders in each round."""
    choose = min if lower_is_better else max
    return [choose(figures) for figures in zip(*contenders, strict=True)]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (above 0, at most 1) of all do not pass.

    Raises:
        ValueError: no value, or no such share.
    """
    if not values or not 0 < share <= 1:
        raise ValueError(f"no percentile {share} of {len(values)} values")
    return sorted(values)[math.ceil(share * len(values) - 1e-9) - 1]


@dataclass(frozen=True)
class Target:
    """A ratio and where it should be.

    Attributes:
        what: ours against whom, in words.
        bound: the least it should be, or the most.
        at_least: which of both.
        figure: what it was; None where there was nobody to compare with.
    """

    what: str
    bound: float
    figure: Figure | None
    at_least: bool = True

    @property
    def met(self) -> bool:
        """Whether the median keeps to the bound."""
        if self.figure is None:
            return False
        value = self.figure.median
        return value >= self.bound if self.at_least else value <= self.bound

    @property
    def wanted(self) -> str:
        """`≥ 1.5` or `≤ 1`."""
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "what": self.what,
            "wanted": self.wanted,
            "ratio": None if self.figure is None else self.figure.as_dict(),
            "met": self.met,
        }
