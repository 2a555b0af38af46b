"""`sixways bundle push` and `fetch`: what they print, and what they refuse."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto import mock_aws
from typer.testing import CliRunner

from sixways.cli import app
from sixways_bundle import BundleError, s3
from sixways_bundle.build import Result
from sixways_bundle.verify import verify
from tests.unit.bundle.conftest import Builder, builder, family, source
from tests.unit.bundle.fake import GOOD

__all__ = ["builder", "family", "source"]


@pytest.fixture
def bundle(builder: Builder) -> Result:
    return builder(variants=(GOOD.name,))


@pytest.fixture(autouse=True)
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws(), contextlib.closing(s3.client("us-east-1")) as client:
        client.create_bucket(Bucket="models")
        yield "models"


def run(*arguments: str) -> str:
    """What the command prints on standard output; it must succeed."""
    result = CliRunner().invoke(app, ["bundle", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_what_push_prints_is_what_fetch_takes(bundle: Result, tmp_path: Path) -> None:
    printed = run("push", str(bundle.path), "s3://models/shop", "--archive")
    uri, archive_uri = printed.splitlines()
    hex_digest = bundle.manifest.digest.removeprefix("sha256:")
    assert uri == f"s3://models/shop/bundles/mini/{hex_digest}/"
    assert archive_uri == f"s3://models/shop/archives/mini/{hex_digest}/model.tar.gz"
    into = tmp_path / "here" / "mini"
    assert run("fetch", uri, "--into", str(into)).strip() == str(into)
    assert verify(into) == bundle.manifest


def test_another_digest_than_the_addresss_is_refused(bundle: Result, tmp_path: Path) -> None:
    uri = run("push", str(bundle.path), "s3://models").strip()
    with pytest.raises(BundleError, match="that of another bundle"):
        run("fetch", uri, "--into", str(tmp_path / "into"), "--digest", f"sha256:{'0' * 64}")


@pytest.mark.parametrize("address", ["models", "s3://", "https://models"])
def test_what_is_no_bucket_is_refused(bundle: Result, address: str) -> None:
    with pytest.raises(BundleError, match="s3://BUCKET or s3://BUCKET/PREFIX"):
        run("push", str(bundle.path), address)


def test_without_boto3_the_extra_is_named(bundle: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(BundleError, match=r"pip install 'sixways\[s3\]'"):
        run("push", str(bundle.path), "s3://models")
