"""`sixways bundle`: build, verify, show, sign; push and fetch are in `bundle_store.py`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from sixways.cli import bundle_store
from sixways.cli.bars import Bars
from sixways_bundle import Manifest

if TYPE_CHECKING:
    from sixways_bundle.build import Result
    from sixways_bundle.report import BuildReport

app = typer.Typer(help="Build, verify, show, sign and ship bundles.", no_args_is_help=True)
app.command()(bundle_store.push)
app.command()(bundle_store.fetch)
_out = Console()

BundleFolder = Annotated[Path, typer.Argument(help="The bundle's folder.")]


@app.command()
def build(
    source: Annotated[str, typer.Argument(help="package:NAME, file:PATH or hf:ORG/NAME@REVISION.")],
    name: Annotated[str, typer.Option(help="The bundle's name, and the model's in requests.")],
    variant: Annotated[
        list[str] | None,
        typer.Option(help="A variant to build, or auto; may be given several times. [auto]"),
    ] = None,
    quality_threshold: Annotated[
        float | None,
        typer.Option(help="Least mean cosine (encoder) or largest perplexity ratio (LLM)."),
    ] = None,
) -> None:
    """Builds a bundle into the cache and prints its folder."""
    from sixways_bundle.build import AUTO, Request
    from sixways_bundle.worker import build_in_child

    request = Request(
        name=name,
        source=source,
        variants=tuple(variant or [AUTO]),
        quality_threshold=quality_threshold,
    )
    with Bars() as bars:
        result = build_in_child(request, progress=bars.show)
    _print_report(result.manifest, result.report)
    _print_result(result)


@app.command()
def verify(
    bundle: BundleFolder,
    digest: Annotated[str | None, typer.Option(help="The digest it must have.")] = None,
    public_key: Annotated[
        Path | None, typer.Option(help="Also check the signature with this public key (PEM).")
    ] = None,
) -> None:
    """Reads every byte and names the first file that differs from the manifest."""
    from sixways_bundle.sign import verify_signature
    from sixways_bundle.verify import verify as check

    manifest = check(bundle, digest=digest)
    signed = ""
    if public_key is not None:
        verify_signature(bundle, public_key)
        signed = f", signed by the holder of {public_key}"
    size = sum(entry.size for entry in manifest.files) / 1e6
    _out.print(f"{manifest.digest} verified: {len(manifest.files)} files, {size:.1f} MB{signed}",
               highlight=False, soft_wrap=True)  # fmt: skip


@app.command()
def show(
    bundle: BundleFolder,
    json: Annotated[bool, typer.Option("--json", help="The manifest as it is.")] = False,
) -> None:
    """Shows what is in a bundle, how good it is and how it was chosen."""
    from sixways_bundle.report import load_report

    manifest = Manifest.load(bundle)
    if json:
        typer.echo(manifest.to_bytes())
        return
    source = manifest.source
    longest = f", up to {manifest.max_tokens} tokens" if manifest.max_tokens else ""
    _out.print(f"[bold]{manifest.name}[/]  {manifest.task}, {manifest.architecture}{longest}",
               highlight=False)  # fmt: skip
    _out.print(f"{manifest.digest}\nfrom {source.uri} ({source.revision}, {source.licence})",
               highlight=False, soft_wrap=True)  # fmt: skip
    report = load_report(bundle)
    if report is not None and report.bundle_digest == manifest.digest:
        _print_report(manifest, report)
    else:
        _print_variants(manifest)


@app.command()
def sign(
    bundle: BundleFolder,
    key: Annotated[Path, typer.Option(help="ECDSA private key in PEM.")],
    password: Annotated[
        str | None, typer.Option(envvar="SIXWAYS_KEY_PASSWORD", help="Opens an encrypted key.")
    ] = None,
) -> None:
    """Signs a bundle; the signature lies beside the manifest."""
    from sixways_bundle.sign import sign as write_signature

    _out.print(f"signed: {write_signature(bundle, key, password=password)}",
               highlight=False, soft_wrap=True)  # fmt: skip


def _print_report(manifest: Manifest, report: BuildReport) -> None:
    """The table that the choice was made from; narrow enough for 80 columns."""
    rows = report.candidates
    shapes = list(dict.fromkeys(shape for row in rows for shape in row.milliseconds))
    metric = rows[0].quality.metric
    table = Table(title=f"{manifest.name} on {report.machine}", title_justify="left", box=None,
                  pad_edge=False, padding=(0, 1, 0, 0))  # fmt: skip
    table.add_column("variant", no_wrap=True)
    limit = "least" if metric == "cosine" else "most"
    for column in ("MB", "times\nsmaller", metric.replace("_", "\n"), "worst", limit):
        table.add_column(column, justify="right", no_wrap=True)
    for shape in shapes:
        table.add_column(f"ms\n{shape.replace('batch ', 'b=')}", justify="right", no_wrap=True)
    for row in rows:
        quality = row.quality
        times = (
            f"{row.milliseconds[s]:.1f}" if s in row.milliseconds else "" for s in shapes
        )  # fmt: skip
        table.add_row(
            row.variant,
            f"{row.megabytes:.1f}",
            f"{row.times_smaller:.2f}",
            f"{quality.value:.4f}",
            f"{quality.worst:.4f}",
            f"{quality.threshold:.3f}",
            *times,
            style="bold" if row.chosen else "dim",
        )
    _out.print(table)
    for row in rows:
        if row.chosen:
            _out.print(f"  {row.variant}: {row.reason}", highlight=False)
    for name, reason in report.not_made.items():
        _out.print(f"  {name}: {reason}", highlight=False)


def _print_variants(manifest: Manifest) -> None:
    for variant in manifest.variants:
        quality = variant.quality
        _out.print(
            f"{variant.name}: {variant.size / 1e6:.1f} MB, "
            f"{variant.reference_size / variant.size:.2f} times smaller, "
            f"{quality.metric} {quality.value:.4f} (threshold {quality.threshold})",
            highlight=False,
        )


def _print_result(result: Result) -> None:
    made = (
        "built before; nothing to do" if result.cached
        else f"built in {result.report.seconds:.0f} s, "
        f"peak memory {result.report.peak_memory_bytes / 1e9:.1f} GB"
    )  # fmt: skip
    _out.print(made, highlight=False)
    typer.echo(result.manifest.digest)
    typer.echo(result.path)
