"""`sixways bundle push` and `fetch`: to S3 and back."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from sixways.cli.bars import Bars
from sixways_bundle import BundleError, Problem

Region = Annotated[str | None, typer.Option(help="The bucket's region. [AWS_REGION]")]
Profile = Annotated[str | None, typer.Option(help="Of the AWS files. [AWS_PROFILE]")]


def push(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    bucket: Annotated[str, typer.Argument(metavar="s3://BUCKET[/PREFIX]", help="Where to.")],
    archive: Annotated[
        bool, typer.Option("--archive", help="Also store it as model.tar.gz.")
    ] = False,
    kms_key_arn: Annotated[
        str | None, typer.Option(help="Encrypts every object. [as the bucket does by default]")
    ] = None,
    region: Region = None,
    profile: Profile = None,
) -> None:
    """Uploads a bundle under its digest and prints the address; what is there is not sent again."""
    from sixways_bundle import s3, store

    name, _, prefix = bucket.removeprefix("s3://").partition("/")
    if not bucket.startswith("s3://") or not name:
        raise BundleError(
            "the bucket is not understood",
            [Problem("bucket", bucket, "s3://BUCKET or s3://BUCKET/PREFIX", "correct it")],
        )
    with contextlib.closing(s3.client(region, profile)) as client, Bars() as bars:
        done = store.upload(
            bundle,
            name,
            prefix,
            client=client,
            kms_key_arn=kms_key_arn,
            archive=archive,
            progress=bars.show,
        )
    typer.echo(done.uri)
    if done.archive_uri:
        typer.echo(done.archive_uri)


def fetch(
    uri: Annotated[
        str, typer.Argument(metavar="s3://BUCKET/bundles/NAME/HEX/", help="Its address.")
    ],
    into: Annotated[
        Path, typer.Option(help="The folder it becomes; that bundle there already is no work.")
    ],
    digest: Annotated[
        str | None, typer.Option(help="The digest it must have. [the address's]")
    ] = None,
    region: Region = None,
    profile: Profile = None,
) -> None:
    """Downloads a bundle, verifies every byte and puts it in place, whole or not at all."""
    from sixways_bundle import s3, store

    with contextlib.closing(s3.client(region, profile)) as client, Bars() as bars:
        store.fetch(uri, digest, into, client=client, progress=bars.show)
    typer.echo(into)
