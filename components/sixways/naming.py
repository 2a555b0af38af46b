"""Names on the wire are camelCase for every language; Python sees snake_case."""

from __future__ import annotations

import re

import pulumi


def to_camel(name: str) -> str:
    """`health_url` becomes `healthUrl`."""
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


def to_snake(name: str) -> str:
    """`healthUrl` becomes `health_url`."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


class PluginResource(pulumi.CustomResource):
    """A custom resource of our own plugin."""

    def translate_input_property(self, prop: str) -> str:
        """The name that the plugin uses."""
        return to_camel(prop)

    def translate_output_property(self, prop: str) -> str:
        """The name that Python uses."""
        return to_snake(prop)
