"""What every resource of the plugin offers, and how it talks to the person who waits."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pulumi.provider.experimental.property_value import PropertyValue

from sixways_bundle import BundleError, Problem

Severity = Literal["info", "warning"]
Values = dict[str, Any]


@dataclass
class Call:
    """One call of the engine: the resource it is about and a line to the person who waits.

    Attributes:
        urn: the resource's URN.
        log: shows a message at the resource; ephemeral ones replace each other.
        cancelled: set when the user interrupts the update.
    """

    urn: str
    log: Callable[[Severity, str, bool], None]
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self) -> str:
        """The resource's logical name."""
        return self.urn.rsplit("::", 1)[-1]

    def status(self, message: str) -> None:
        """What is being done right now."""
        self.log("info", message, True)


class PartlyMade(BundleError):
    """Create failed when something stood already: the engine keeps that in its state, so that the
    next update goes on from there and a destroy takes it away.

    Attributes:
        resource_id: the resource's id.
        outputs: what is known of it.
        properties: the same as the provider's protocol has it; the provider fills it in.
    """

    def __init__(self, cause: BundleError, resource_id: str, outputs: Values) -> None:
        super().__init__(cause.message, cause.problems)
        self.resource_id = resource_id
        self.outputs = outputs
        self.properties: dict[str, PropertyValue] = {}


@dataclass(frozen=True)
class Changes:
    """What an update would do: fields to change in place, fields that force a replacement."""

    update: Collection[str] = ()
    replace: Collection[str] = ()

    def __bool__(self) -> bool:
        return bool(self.update or self.replace)


class Resource(ABC):
    """One resource type. Methods block; the provider runs each in a thread.

    Values are plain Python; during a preview an input may be `UNKNOWN`.
    """

    token: ClassVar[str]
    secrets: ClassVar[frozenset[str]] = frozenset()
    """Outputs that are secrets."""
    delete_before_replace: ClassVar[bool] = False
    """Whether a replacement cannot stand beside what it replaces."""

    @abstractmethod
    def check(self, call: Call, inputs: Values) -> tuple[Values, list[Problem]]:
        """The inputs with defaults filled in, and everything that is wrong with them."""

    @abstractmethod
    def diff(self, call: Call, state: Values, inputs: Values) -> Changes:
        """What differs between the recorded state and the checked inputs."""

    @abstractmethod
    def create(self, call: Call, inputs: Values, *, preview: bool) -> tuple[str, Values]:
        """Makes it; returns its id and outputs (unknown ones in a preview)."""

    @abstractmethod
    def read(self, call: Call, resource_id: str, state: Values) -> Values | None:
        """Its state as it really is, or None when it is gone."""

    @abstractmethod
    def update(self, call: Call, state: Values, inputs: Values, *, preview: bool) -> Values:
        """Changes it in place; returns its outputs."""

    @abstractmethod
    def delete(self, call: Call, resource_id: str, state: Values) -> None:
        """Takes it away. Finding it already gone is success."""


class Progress:
    """Shows each step, at most twice a second unless the step changes."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._last = ("", 0.0)

    def __call__(self, step: str, fraction: float, message: str) -> None:
        now = time.monotonic()
        if step != self._last[0] or now - self._last[1] > 0.5 or fraction >= 1:
            self._last = (step, now)
            self._call.status(f"{step} {fraction:4.0%} {message}")


def unexpected(inputs: Mapping[str, Any], accepted: Collection[str]) -> list[Problem]:
    """A problem for each input that nobody knows: a typo must not be ignored in silence.

    The name alone is shown: what stands under a mistyped `apikey` is still a secret.
    """
    return [
        Problem(name, name, ", ".join(sorted(accepted)), "correct or remove the name")
        for name in sorted(set(inputs) - set(accepted))
    ]
