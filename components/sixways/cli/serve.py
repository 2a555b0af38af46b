"""`sixways serve`: the model server on given bundles, without Pulumi."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from sixways_bundle import Manifest


def serve(
    bundles: Annotated[
        list[str], typer.Argument(metavar="BUNDLE...", help="Folders of bundles, or NAME=FOLDER.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port; 0 takes a free one.")] = 5000,
    variant: Annotated[
        str | None, typer.Option(help="The variant to serve, if every bundle has it.")
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Processes that serve; each opens every model for itself.")
    ] = 1,
    keys_file: Annotated[
        Path | None, typer.Option(help="JSON with named key hashes. [a new key, printed once]")
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option(help="Serve only bundles signed by the holder of this key.")
    ] = None,
    graphql: Annotated[
        bool, typer.Option("--graphql", help="Serve GraphQL too; needs the extra [graphql].")
    ] = False,
) -> None:
    """Serves bundles over HTTP, every protocol on one port (docs/protocols.md)."""
    from sixways_bundle.errors import MissingExtra

    try:
        from sixways_server.auth import add_key
        from sixways_server.config import ServerConfig
        from sixways_server.serve import run
    except ImportError as error:
        raise MissingExtra(f"the model server ({error.name} is missing)", "server") from None

    models = []
    for given in bundles:
        name, _, folder = given.rpartition("=")
        manifest = Manifest.load(Path(folder))
        models.append({"name": name or manifest.name, "path": folder, "variant": variant})
    with tempfile.TemporaryDirectory(prefix="sixways-") as own:
        if keys_file is None:
            keys_file = Path(own) / "keys.json"
            typer.echo(f"API key of this run: {add_key(keys_file)}", err=True)
        config: dict[str, Any] = {
            "models": models,
            "host": host,
            "port": port,
            "workers": workers,
            "keys_file": str(keys_file),
            "graphql": graphql,
        }
        if public_key is not None:
            config["public_key"] = str(public_key)
        code = run(ServerConfig.from_dict(config))
    sys.exit(code)
