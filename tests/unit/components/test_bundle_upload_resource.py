"""What the BundleUpload resource accepts, and what it says an update will do."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from moto import mock_aws

from sixways.plugin.bundle_upload import BundleUploadResource
from sixways.plugin.resource import Call, PartlyMade, Values
from sixways.plugin.values import UNKNOWN
from sixways_bundle import BundleError, s3
from sixways_bundle.build import Result
from tests.unit.bundle.conftest import Builder, builder, family, source
from tests.unit.bundle.fake import GOOD, QUICK

__all__ = ["builder", "family", "source"]
KEY = "arn:aws:kms:us-east-1:123456789012:key/1b4c0d9e-0000-4000-8000-000000000000"
URN = "urn:pulumi:dev::x::sixways:cloud:BundleStore$sixways:cloud:BundleUpload::models-mini"


@pytest.fixture
def bundle(builder: Builder) -> Result:
    return builder(variants=(GOOD.name,))


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws(), contextlib.closing(s3.client("us-east-1")) as own:
        own.create_bucket(Bucket="models")
        yield own


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def call(said: list[str]) -> Call:
    return Call(URN, lambda severity, message, ephemeral: said.append(message))


def inputs(bundle: Result | None = None, **changes: Any) -> Values:
    made: Values = {
        "bucket": "models",
        "name": "mini",
        "path": "bundles/one" if bundle is None else str(bundle.path),
        "digest": f"sha256:{'0' * 64}" if bundle is None else bundle.manifest.digest,
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def checked(call: Call, bundle: Result | None = None, **changes: Any) -> Values:
    values, problems = BundleUploadResource().check(call, inputs(bundle, **changes))
    assert problems == []
    return values


def keys(client: Any) -> set[str]:
    return {item["Key"] for item in client.list_objects_v2(Bucket="models").get("Contents", ())}


def test_an_archive_is_asked_for_and_slashes_do_not_count(call: Call) -> None:
    values = checked(call, prefix="/shop/")
    assert (values["archive"], values["prefix"]) == (False, "shop")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"bucket": None}, "bucket"),
        ({"bucket": "Models!"}, "bucket"),
        ({"name": "a b"}, "name"),
        ({"path": ""}, "path"),
        ({"digest": "sha256:1"}, "digest"),
        ({"digest": 5}, "digest"),
        ({"kmsKeyArn": "alias/models"}, "kmsKeyArn"),
        ({"archive": "yes"}, "archive"),
        ({"region": "Frankfurt!"}, "region"),
        ({"prefix": 5}, "prefix"),
        ({"bukcet": "models"}, "bukcet"),
    ],
)
def test_a_bad_input_names_its_field(call: Call, changes: Values, field: str) -> None:
    _, problems = BundleUploadResource().check(call, inputs(**changes))
    assert field in [problem.field for problem in problems]


def test_what_a_preview_does_not_know_is_passed_over(call: Call) -> None:
    unknown = dict.fromkeys(inputs(kmsKeyArn=KEY, archive=True, region="x"), UNKNOWN)
    values, problems = BundleUploadResource().check(call, unknown)
    assert problems == []
    _, outputs = BundleUploadResource().create(call, values, preview=True)
    assert outputs["uri"] is UNKNOWN
    assert outputs["variants"] is UNKNOWN


@pytest.mark.parametrize(
    ("changes", "update", "replace"),
    [
        ({}, [], []),
        ({"path": "elsewhere"}, [], []),
        ({"digest": f"sha256:{'1' * 64}"}, [], ["digest"]),
        ({"bucket": "others"}, [], ["bucket"]),
        ({"prefix": "shop"}, [], ["prefix"]),
        ({"name": "other"}, [], ["name"]),
        ({"kmsKeyArn": KEY}, ["kmsKeyArn"], []),
        ({"archive": True}, ["archive"], []),
        ({"region": "eu-west-1"}, ["region"], []),
        ({"profile": "shop"}, ["profile"], []),
    ],
)
def test_an_update_is_told_field_by_field(
    call: Call, changes: Values, update: list[str], replace: list[str]
) -> None:
    changed = BundleUploadResource().diff(call, checked(call), checked(call, **changes))
    assert (list(changed.update), list(changed.replace)) == (update, replace)


def test_a_preview_tells_the_address_and_what_is_in_it(call: Call, bundle: Result) -> None:
    values = checked(call, bundle, archive=True)
    _, outputs = BundleUploadResource().create(call, values, preview=True)
    hex_digest = bundle.manifest.digest.removeprefix("sha256:")
    assert outputs["uri"] == f"s3://models/bundles/mini/{hex_digest}/"
    assert outputs["archiveUri"] == f"s3://models/archives/mini/{hex_digest}/model.tar.gz"
    assert [variant["name"] for variant in outputs["variants"]] == [GOOD.name]


def test_another_bundle_at_the_path_fails_the_preview(
    call: Call, bundle: Result, builder: Builder
) -> None:
    other = builder(variants=(QUICK.name,))
    values = checked(call, bundle, digest=other.manifest.digest)
    with pytest.raises(BundleError, match="is another bundle"):
        BundleUploadResource().create(call, values, preview=True)


def test_a_life_in_s3(client: Any, call: Call, bundle: Result, said: list[str]) -> None:
    resource = BundleUploadResource()
    values = checked(call, bundle, archive=True)
    made, state = resource.create(call, values, preview=False)
    assert made == state["uri"]
    assert len(keys(client)) == 5
    assert "5 of 5 files were sent" in said
    assert any(message.startswith("upload 100%") for message in said)
    assert resource.read(call, made, state) == state
    # Without the archive: it goes, and the rest stays where it is.
    state = resource.update(call, state, checked(call, bundle), preview=False)
    assert state["archiveUri"] == ""
    assert len(keys(client)) == 4
    assert "0 of 4 files were sent" in said
    resource.delete(call, made, state)
    assert keys(client) == set()
    resource.delete(call, made, state)  # already gone is success


def test_a_lost_object_or_bucket_is_drift(
    client: Any, call: Call, bundle: Result, said: list[str]
) -> None:
    resource = BundleUploadResource()
    made, state = resource.create(call, checked(call, bundle), preview=False)
    lost = state["objects"][0]["key"]
    client.delete_object(Bucket="models", Key=lost)
    assert resource.read(call, made, state) is None
    assert said[-1] == f"s3://models/{lost} is missing; the next update uploads it again."
    assert resource.read(call, made, {**state, "bucket": "gone"}) is None


def test_another_profile_or_region_sends_nothing(
    client: Any, call: Call, bundle: Result, said: list[str]
) -> None:
    resource = BundleUploadResource()
    _, state = resource.create(call, checked(call, bundle), preview=False)
    said.clear()
    moved = checked(call, bundle, region="us-west-2", path="not-here")
    after = resource.update(call, state, moved, preview=False)
    assert said == []
    assert (after["region"], after["objects"]) == ("us-west-2", state["objects"])


def test_a_signature_that_comes_later_is_sent(
    client: Any, call: Call, bundle: Result, said: list[str]
) -> None:
    resource = BundleUploadResource()
    unsigned = checked(call, bundle)
    _, state = resource.create(call, unsigned, preview=False)
    bundle.path.chmod(0o755)
    (bundle.path / "bundle.sig").write_text("signed")
    signed = checked(call, bundle)
    assert resource.diff(call, state, signed).update == ["signatureSha256"]
    state = resource.update(call, state, signed, preview=False)
    assert "1 of 5 files were sent" in said
    # A machine without the bundle sees no change.
    assert not resource.diff(call, state, checked(call, bundle, path="not-here"))


def test_an_interrupted_update_ends_and_the_next_goes_on(
    client: Any, call: Call, bundle: Result
) -> None:
    resource = BundleUploadResource()
    call.cancelled = threading.Event()
    call.cancelled.set()
    with pytest.raises(PartlyMade, match="cancelled") as cut:
        resource.create(call, checked(call, bundle), preview=False)
    state = cut.value.outputs
    # A refresh forgets it, so that the next update makes it anew; without one it goes on.
    assert resource.read(call, cut.value.resource_id, state) is None
    call.cancelled.clear()
    after = resource.update(call, state, checked(call, bundle), preview=False)
    assert after["uri"] == cut.value.resource_id
    assert resource.read(call, after["uri"], after) == after


def test_an_upload_is_not_imported(call: Call) -> None:
    with pytest.raises(BundleError, match="cannot be imported"):
        BundleUploadResource().read(call, "s3://models/", {})
