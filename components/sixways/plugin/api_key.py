"""`sixways:index:ApiKey`: a key that is made once and kept in the stack's state, as a secret."""

from __future__ import annotations

import hashlib
import re
import secrets

from sixways.plugin.resource import Call, Changes, Resource, Values, unexpected
from sixways.plugin.values import UNKNOWN
from sixways_bundle import BundleError, Problem

_INPUTS = ("generation",)
KEY = re.compile(r"[\x21-\x7e]{16,}")
"""What a key may look like: it travels in a header, and nobody must guess it."""


def sha256(key: str) -> str:
    """The hash under which a server knows the key."""
    return hashlib.sha256(key.encode()).hexdigest()


class ApiKeyResource(Resource):
    """A random key of 256 bits. Another `generation` is another key."""

    token = "sixways:index:ApiKey"  # noqa: S105 - a type token, no secret
    secrets = frozenset({"key", "sha256"})

    def check(self, call: Call, inputs: Values) -> tuple[Values, list[Problem]]:
        """`generation` is a whole number."""
        problems = unexpected(inputs, _INPUTS)
        checked = {"generation": 1, **inputs}
        given = checked["generation"]
        if given is not UNKNOWN and (isinstance(given, bool) or not isinstance(given, int)):
            problems.append(
                Problem("generation", str(given), "a whole number", "count up for a new key")
            )
        return checked, problems

    def diff(self, call: Call, state: Values, inputs: Values) -> Changes:
        """A key never changes in place: what uses it has to see another one."""
        return Changes(
            replace=[n for n in _INPUTS if state.get(n) != inputs.get(n)],
        )

    def create(self, call: Call, inputs: Values, *, preview: bool) -> tuple[str, Values]:
        """Makes the key; its id is the beginning of its hash."""
        if preview:
            return "", {**inputs, "key": UNKNOWN, "sha256": UNKNOWN}
        key = f"sk-{secrets.token_urlsafe(32)}"
        return sha256(key)[:16], {**inputs, "key": key, "sha256": sha256(key)}

    def read(self, call: Call, resource_id: str, state: Values) -> Values | None:
        """The state is all there is of it."""
        return state if "key" in state else None

    def update(self, call: Call, state: Values, inputs: Values, *, preview: bool) -> Values:
        """Never asked for: every change is a replacement."""
        raise BundleError("a key is never changed in place")

    def delete(self, call: Call, resource_id: str, state: Values) -> None:
        """Nothing but the state knows of it."""
