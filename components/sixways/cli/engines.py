"""`sixways engines`: what this machine can run, and which variant of a bundle it would serve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sixways_bundle import BundleError, Manifest
from sixways_bundle.errors import MissingExtra

if TYPE_CHECKING:
    from sixways_server.hardware import Machine
    from sixways_server.inventory import EngineState

_out = Console()


def engines(
    bundles: Annotated[
        list[Path] | None, typer.Argument(metavar="[BUNDLE]...", help="Folders of bundles.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Lists what this machine can run, and which variant of each bundle it would serve and why."""
    try:
        from sixways_server.hardware import machine
        from sixways_server.inventory import engines as all_engines
    except ImportError as error:
        raise MissingExtra(f"the model server ({error.name} is missing)", "server") from None

    here, states = machine(), all_engines()
    choices = [_choice(folder) for folder in bundles or ()]
    if json:
        import msgspec

        told = msgspec.json.encode({"machine": here, "engines": states, "bundles": choices})
        typer.echo(msgspec.json.format(told).decode())
        return
    _print_machine(here)
    _print_engines(states)
    for choice in choices:
        _print_choice(choice)


def _choice(folder: Path) -> dict[str, Any]:
    """What would be served of a bundle; its files are not read, so nothing is verified."""
    from sixways_bundle.report import load_report
    from sixways_server.choice import choose_variant

    manifest = Manifest.load(folder)
    told: dict[str, Any] = {"bundle": manifest.name, "task": manifest.task, "path": str(folder)}
    try:
        choice = choose_variant(manifest, None, load_report(folder))
    except BundleError as error:
        return {**told, "variant": None, "reason": error.message, "others": {}}
    others = dict(choice.others)
    return {**told, "variant": choice.variant.name, "reason": choice.reason, "others": others}


def _print_machine(here: Machine) -> None:
    instructions = " ".join(here.instructions) or "no vector instructions that are known"
    of = f" of {here.processors}" if here.processors != here.threads else ""
    _out.print(f"[bold]{escape(here.processor)}[/]  {instructions}", highlight=False)
    _out.print(
        f"{here.threads}{of} processors, {here.memory_bytes / 1e9:.1f} GB memory free; "
        f"CUDA GPU: {escape(', '.join(here.gpus)) or 'none'}; "
        f"NPU: {', '.join(here.npus) or 'none'}",
        highlight=False,
    )


def _print_engines(states: list[EngineState]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("engine", "version", "serves", "computes on"):
        table.add_column(column, no_wrap=column != "computes on")
    _out.print()
    for state in states:
        where = escape(", ".join(state.devices))
        lacks = f"missing: {escape(state.missing)}" if state.missing else ""
        table.add_row(
            state.engine,
            state.version or "-",
            ", ".join(state.tasks),
            "; ".join(part for part in (where, lacks) if part),
            style="dim" if state.missing else "",
        )
    _out.print(table)


def _print_choice(choice: dict[str, Any]) -> None:
    chosen = choice["variant"] or "nothing"
    _out.print(f"\n[bold]{choice['bundle']}[/] ({choice['task']}): [bold]{chosen}[/], "
               f"{escape(choice['reason'])}", highlight=False)  # fmt: skip
    for name, why in choice["others"].items():
        _out.print(f"  not {name}: {escape(why)}", highlight=False)
