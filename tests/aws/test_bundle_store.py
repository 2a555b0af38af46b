"""`BundleStore` from its first upload to an empty account, and a bundle that starts elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from sixways.cli import app
from sixways_bundle.build import Request, Result, build
from sixways_bundle.verify import verify
from tests.aws.server import Aws
from tests.engine.pulumi_stack import Stack
from tests.unit.bundle import tensor_tiny as tiny
from tests.unit.server.sagemaker_front import Container

pytestmark = pytest.mark.aws
_PROGRAM = """
import json
import pulumi
from sixways.cloud import BundleStore

args = json.loads(pulumi.Config().require("args"))
store = BundleStore("models", args)
for name in ("bucket_name", "bucket_arn", "kms_key_arn", "uris", "archive_uris", "digests",
             "variants"):
    pulumi.export(name, getattr(store, name))
"""
Bundles = dict[str, Result]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """Two small real bundles."""
    folder = tmp_path_factory.mktemp("bundles")
    model = f"file:{tiny.write_onnx(folder / 'tiny.onnx')}"
    return {
        variant: build(Request(name="tiny", source=model, variants=(variant,)), cache_dir=folder)
        for variant in ("onnx-original", "openvino-fp32")
    }


def wanted(bundle: Result, **changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny", "path": str(bundle.path), "digest": bundle.manifest.digest, **changes
    }  # fmt: skip


def objects(aws: Aws, bucket: str) -> dict[str, dict[str, Any]]:
    """What S3 tells of every object of the bucket."""
    s3 = aws.client("s3")
    found = s3.list_objects_v2(Bucket=bucket).get("Contents", ())
    return {o["Key"]: s3.head_object(Bucket=bucket, Key=o["Key"]) for o in found}


def versions(aws: Aws, bucket: str) -> list[str]:
    answer = aws.client("s3").list_object_versions(Bucket=bucket)
    return [item["Key"] for kind in ("Versions", "DeleteMarkers") for item in answer.get(kind, ())]


def configure(stack: Stack, args: dict[str, Any]) -> None:
    stack.config(args=json.dumps(args))


def test_the_whole_life_of_a_store(
    aws: Aws, aws_env: dict[str, str], project: Path, bundles: Bundles, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (project / "__main__.py").write_text(_PROGRAM)
    first, second = bundles["onnx-original"], bundles["openvino-fp32"]
    with Stack(project, aws_env) as stack:
        configure(stack, {"bundles": [wanted(first, archive=True)], "tags": {"team": "shop"}})
        told = stack.preview().stdout
        assert "sixways:cloud:BundleUpload" in told
        assert aws.left() == []
        stack.up("--skip-preview")
        out = stack.outputs()
        bucket = out["bucket_name"]
        hex_digest = first.manifest.digest.removeprefix("sha256:")
        assert out["uris"] == {"tiny": f"s3://{bucket}/bundles/tiny/{hex_digest}/"}
        archive = f"archives/tiny/{hex_digest}/model.tar.gz"
        assert out["archive_uris"] == {"tiny": f"s3://{bucket}/{archive}"}
        assert out["digests"] == {"tiny": first.manifest.digest}
        (variant,) = first.manifest.variants
        told_of = {n: getattr(variant, n) for n in ("name", "engine", "precision", "size")}
        assert out["variants"] == {"tiny": [told_of]}
        check_the_bucket(aws, bucket, out["bucket_arn"], out["kms_key_arn"])
        stored = objects(aws, bucket)
        assert len(stored) == len(first.manifest.files) + 3  # manifest, report, archive
        assert {head["SSEKMSKeyId"] for head in stored.values()} == {out["kms_key_arn"]}
        stack.up("--expect-no-changes")
        check_that_it_starts_elsewhere(aws, out["uris"]["tiny"], tmp_path, monkeypatch)
        check_that_drift_heals(aws, stack, bucket, archive)

        # Another digest: the new one is whole before the old one goes.
        configure(stack, {"bundles": [wanted(second)], "tags": {"team": "shop"}})
        told = stack.up("--skip-preview").stdout
        assert "replaced" in told
        assert stack.outputs()["archive_uris"] == {}
        keys = versions(aws, bucket)
        assert len(keys) == len(second.manifest.files) + 2
        assert all(second.manifest.digest.removeprefix("sha256:") in key for key in keys)

        # The archive comes in place; the folder a bundle lies in is no part of what it is.
        moved = tmp_path / "moved"
        moved.symlink_to(second.path)
        again = wanted(second, archive=True, path=str(moved))
        configure(stack, {"bundles": [again], "tags": {"team": "shop"}})
        assert "updated" in stack.up("--skip-preview").stdout
        assert sum(key.endswith("model.tar.gz") for key in versions(aws, bucket)) == 1
        configure(stack, {"bundles": [wanted(second, archive=True)], "tags": {"team": "shop"}})
        stack.up("--expect-no-changes")

        # What others stored is not ours to delete: the bucket stays, and our own objects go.
        aws.client("s3").put_object(Bucket=bucket, Key="others/notes.txt", Body=b"x")
        refused = stack.run("destroy", "--yes", "--skip-preview", check=False)
        assert refused.returncode != 0
        assert "BucketNotEmpty" in refused.stdout
        assert versions(aws, bucket) == ["others/notes.txt"]
        for item in aws.client("s3").list_object_versions(Bucket=bucket)["Versions"]:
            aws.client("s3").delete_object(
                Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"]
            )
    assert aws.left() == []


def check_the_bucket(aws: Aws, bucket: str, arn: str, key: str) -> None:
    """Encrypted, versioned, private, TLS only, and tidy."""
    s3 = aws.client("s3")
    (rule,) = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": "aws:kms",
        "KMSMasterKeyID": key,
    }
    assert rule["BucketKeyEnabled"]
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    block = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert list(block.values()) == [True] * 4
    (owner,) = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]
    assert owner["ObjectOwnership"] == "BucketOwnerEnforced"
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Resource"] == [arn, f"{arn}/*"]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    (tidy,) = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert tidy["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert tidy["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    kms = aws.client("kms")
    assert kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
    tags = kms.list_resource_tags(KeyId=key)["Tags"]
    assert {"TagKey": "team", "TagValue": "shop"} in tags
    assert {"Key": "team", "Value": "shop"} in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]


def check_that_drift_heals(aws: Aws, stack: Stack, bucket: str, archive: str) -> None:
    s3 = aws.client("s3")
    before = objects(aws, bucket)
    manifest = next(key for key in before if key.endswith("/bundle.json"))
    s3.delete_object(Bucket=bucket, Key=archive)
    s3.put_object(Bucket=bucket, Key=manifest, Body=b"{}")
    told = stack.run("refresh", "--yes", "--skip-preview").stdout
    assert "the next update uploads it again" in told
    stack.up("--skip-preview")
    after = objects(aws, bucket)
    assert {key: head["ETag"] for key, head in after.items()} == {
        key: head["ETag"] for key, head in before.items()
    }
    # What was whole was not sent again.
    assert {key for key in after if after[key]["VersionId"] != before[key]["VersionId"]} == {
        archive, manifest
    }  # fmt: skip
    stack.up("--expect-no-changes")


def check_that_it_starts_elsewhere(
    aws: Aws, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an instance would: fetch by address, then serve what was verified."""
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    into = tmp_path / "elsewhere" / "tiny"
    result = CliRunner().invoke(app, ["bundle", "fetch", uri, "--into", str(into)])
    assert result.exit_code == 0, result.output
    digest = f"sha256:{uri.rstrip('/').rpartition('/')[2]}"
    assert verify(into, digest=digest).name == "tiny"
    model = {"name": "tiny", "path": str(into), "digest": digest, "variant": "onnx-original"}
    container = Container(tmp_path / "serve.log", SIXWAYS_MODELS=json.dumps([model]))
    try:
        container.wait()
        x = np.ones((1, tiny.WIDTH), np.float32)
        tensor = {"name": "x", "shape": [1, tiny.WIDTH], "datatype": "FP32", "data": x.tolist()}
        answer = httpx.post(f"{container.url}/invocations", json={"inputs": [tensor]}).json()
        np.testing.assert_allclose(
            np.reshape(answer["outputs"][0]["data"], (1, tiny.OUT)), tiny.expected(x), atol=1e-4
        )
        assert container.stop() == 0
    finally:
        container.child.kill()
        container.child.wait()


def test_an_existing_bucket_keeps_its_settings(
    aws: Aws, aws_env: dict[str, str], project: Path, bundles: Bundles
) -> None:
    (project / "__main__.py").write_text(_PROGRAM)
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="company-models")
    bundle = bundles["onnx-original"]
    args = {"bundles": [wanted(bundle)], "bucket_name": "company-models", "prefix": "shop"}
    with Stack(project, aws_env) as stack:
        configure(stack, args)
        stack.up("--skip-preview")
        out = stack.outputs()
        assert out["bucket_arn"] == "arn:aws:s3:::company-models"
        assert out["uris"]["tiny"].startswith("s3://company-models/shop/bundles/tiny/")
        stored = objects(aws, "company-models")
        assert {head["SSEKMSKeyId"] for head in stored.values()} == {out["kms_key_arn"]}
        assert "Status" not in s3.get_bucket_versioning(Bucket="company-models")
        stack.up("--expect-no-changes")

        # Another key encrypts every object anew, where it is.
        other = aws.client("kms").create_key()["KeyMetadata"]
        configure(stack, {**args, "kms_key_arn": other["Arn"]})
        stack.up("--skip-preview")
        stored = objects(aws, "company-models")
        assert {head["SSEKMSKeyId"] for head in stored.values()} == {other["Arn"]}
        stack.destroy("--skip-preview")
    assert versions(aws, "company-models") == []
    assert aws.left() == [f"kms Keys {other['KeyId']}", "s3 Buckets company-models"]
    s3.delete_bucket(Bucket="company-models")
    aws.client("kms").schedule_key_deletion(KeyId=other["KeyId"])


def test_an_upload_that_failed_goes_on_and_never_holds_up_a_destroy(
    aws: Aws, aws_env: dict[str, str], project: Path, bundles: Bundles
) -> None:
    (project / "__main__.py").write_text(_PROGRAM)
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="company-models")
    refusal = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": "arn:aws:s3:::company-models/*/bundle.json",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [refusal]})
    args = {"bucket_name": "company-models"}
    with Stack(project, aws_env) as stack:
        for bundle in bundles.values():
            s3.put_bucket_policy(Bucket="company-models", Policy=policy)
            configure(stack, {**args, "bundles": [wanted(bundle)]})
            failed = stack.up("--skip-preview", check=False)
            assert failed.returncode != 0
            assert "grant the identity the actions" in failed.stdout
            hex_digest = bundle.manifest.digest.removeprefix("sha256:")
            there = [key for key in versions(aws, "company-models") if hex_digest in key]
            assert there
            assert not any(key.endswith("/bundle.json") for key in there)
            s3.delete_bucket_policy(Bucket="company-models")
            if bundle is bundles["onnx-original"]:
                stack.up("--skip-preview")
                stack.up("--expect-no-changes")
        stack.destroy("--skip-preview")
    assert versions(aws, "company-models") == []
    s3.delete_bucket(Bucket="company-models")
    assert aws.left() == []


def test_bad_inputs_are_told_at_once_and_nothing_is_created(
    aws: Aws, aws_env: dict[str, str], project: Path, bundles: Bundles
) -> None:
    (project / "__main__.py").write_text(_PROGRAM)
    one, other = bundles["onnx-original"], bundles["openvino-fp32"]
    with Stack(project, aws_env) as stack:
        configure(stack, {"bundles": [{"name": "a b", "path": "x"}], "prefix": "/shop", "dve": 1})
        told = stack.up("--skip-preview", check=False).stdout
        for part in ("bundles[0].name: 'a b'", "bundles[0].digest: is missing", "prefix: '/shop'",
                     "dve: 'dve'"):  # fmt: skip
            assert part in told
        # A preview already tells that the folder holds another bundle.
        configure(stack, {"bundles": [wanted(one, digest=other.manifest.digest)]})
        done = stack.preview(check=False)
        assert done.returncode != 0
        assert f"{one.path} is another bundle" in done.stdout
        assert aws.left() == []
