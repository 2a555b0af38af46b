"""Errors that say which field is wrong, what was given, what is accepted and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        field: the input it concerns, as the user spells it (`variant`, `models[0].source`).
        value: what was given, as text; empty when nothing was.
        accepted: what would have been right.
        fix: what to do next.
    """

    field: str
    value: str
    accepted: str
    fix: str = ""

    def __str__(self) -> str:
        given = f"{self.value!r} is not accepted" if self.value else "is missing"
        text = f"{self.field}: {given}; accepted: {self.accepted}"
        return f"{text}. Fix: {self.fix}" if self.fix else text


class BundleError(Exception):
    """Something about a bundle is wrong; carries every problem found, not just the first.

    Args:
        message: one sentence that says what could not be done.
        problems: what stands in the way.
    """

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        self.message = message
        self.problems = tuple(problems)
        super().__init__("\n  - ".join([message, *map(str, self.problems)]))


class MissingExtra(BundleError):
    """An optional library is not installed.

    Args:
        what: the feature that needs it.
        extra: the extra of the `sixways` distribution that brings it.
    """

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} needs the extra [{extra}]. Fix: pip install 'sixways[{extra}]'")
