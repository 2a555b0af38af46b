"""The command line `sixways`: bundles and the model server, without Pulumi.

Commands import what they need when they run, so that `sixways --help` is quick and a machine
that only serves needs no build libraries.
"""

from __future__ import annotations

import sys

import typer
from rich.console import Console

import sixways
from sixways.cli import bundle, engines, serve
from sixways_bundle import BundleError

app = typer.Typer(
    help="One verified model bundle, six ways to ship it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(bundle.app, name="bundle")
app.command()(serve.serve)
app.command()(engines.engines)


@app.command()
def version() -> None:
    """Prints the version."""
    Console().print(sixways.__version__, highlight=False)


def main() -> None:
    """Entry point of the console script; user mistakes end with 1 and a message, no traceback."""
    try:
        app()
    except BundleError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {_escape(str(error))}", highlight=False)
        sys.exit(1)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
