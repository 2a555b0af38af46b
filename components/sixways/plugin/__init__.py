"""`pulumi-resource-sixways`: our resources, as the Pulumi engine sees them.

`server.py` speaks the plugin protocol, `provider.py` hands each call to the resource it is
about, and each resource is one file with Check, Diff, Create, Read, Update and Delete.
"""

from __future__ import annotations


def main() -> None:
    """Entry point of the console script; the engine starts it with its own address."""
    from sixways.plugin.server import main as serve

    serve()
