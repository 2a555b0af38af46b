"""`ApiKey`: a random key that stays the same from one update to the next."""

from typing import NotRequired, TypedDict

import pulumi

from sixways.naming import PluginResource


class ApiKeyArgs(TypedDict):
    """Inputs of an `ApiKey`."""

    generation: NotRequired[pulumi.Input[int]]
    """Count it up for another key. Default: 1."""


class ApiKey(PluginResource):
    """A random key of 256 bits; it exists in the stack's state alone, encrypted there."""

    key: pulumi.Output[str]
    """The key, a secret."""
    sha256: pulumi.Output[str]
    """Its SHA-256 in hex, which is all that a server needs; a secret too."""

    def __init__(
        self, name: str, args: ApiKeyArgs | None = None, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Makes the key.

        Args:
            name: the resource's name.
            args: see `ApiKeyArgs`.
            opts: the usual resource options.
        """
        own = pulumi.ResourceOptions(additional_secret_outputs=["key", "sha256"])
        super().__init__(
            "sixways:index:ApiKey",
            name,
            {"key": None, "sha256": None, **(args or {})},
            pulumi.ResourceOptions.merge(own, opts),
        )
