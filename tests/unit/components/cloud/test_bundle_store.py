"""What `BundleStore` accepts, and what its bucket refuses."""

from __future__ import annotations

from typing import Any, cast

import pulumi
import pytest

from sixways.cloud.bucket import tls_only
from sixways.cloud.bundle_store import BundleStoreArgs, problems

ONE = {"name": "minilm", "path": "bundles/one", "digest": f"sha256:{'0' * 64}"}
KEY = "arn:aws:kms:eu-central-1:123456789012:key/1b4c0d9e-0000-4000-8000-000000000000"


def fields(**changes: Any) -> list[str]:
    args = {"bundles": [ONE], **changes}
    given = {name: value for name, value in args.items() if value is not None}
    return [problem.field for problem in problems("store", cast(BundleStoreArgs, given))]


def test_a_bundle_is_enough() -> None:
    assert fields() == []


def test_everything_that_may_be_given_is_accepted() -> None:
    assert fields(
        bundles=[ONE, {**ONE, "name": "smollm2", "archive": True}],
        prefix="teams/shop",
        kms_key_arn=KEY,
        noncurrent_days=1,
        dev=True,
        region="eu-central-1",
        profile="shop",
        tags={"team": "shop"},
    ) == []  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"bundles": None}, "bundles"),
        ({"bundles": []}, "bundles"),
        ({"bundles": "minilm"}, "bundles"),
        ({"bundles": ["minilm"]}, "bundles[0]"),
        ({"bundles": [ONE, ONE]}, "bundles[1].name"),
        ({"bundles": [{**ONE, "name": "a/b"}]}, "bundles[0].name"),
        ({"bundles": [{**ONE, "name": 5}]}, "bundles[0].name"),
        ({"bundles": [{**ONE, "name": pulumi.Output.from_input("a")}]}, "bundles[0].name"),
        ({"bundles": [{**ONE, "path": ""}]}, "bundles[0].path"),
        ({"bundles": [{**ONE, "digest": "sha256:1"}]}, "bundles[0].digest"),
        ({"bundles": [{**ONE, "archive": "yes"}]}, "bundles[0].archive"),
        ({"bundles": [{**ONE, "varient": "x"}]}, "bundles[0].varient"),
        ({"bucket_name": "Models"}, "bucket_name"),
        ({"bucket_name": "a..b"}, "bucket_name"),
        ({"bucket_name": "ab"}, "bucket_name"),
        ({"bucket_name": "models", "noncurrent_days": 5}, "noncurrent_days"),
        ({"prefix": "/shop"}, "prefix"),
        ({"prefix": "shop/"}, "prefix"),
        ({"prefix": "a//b"}, "prefix"),
        ({"kms_key_arn": "alias/models"}, "kms_key_arn"),
        ({"noncurrent_days": 0}, "noncurrent_days"),
        ({"noncurrent_days": 1.5}, "noncurrent_days"),
        ({"region": "eu-middle-1"}, "region"),
        ({"dev": "yes"}, "dev"),
        ({"bukcet": "models"}, "bukcet"),
    ],
)
def test_a_bad_input_names_its_field(changes: dict[str, Any], field: str) -> None:
    assert fields(**changes) == [field]


def test_all_problems_are_told_at_once() -> None:
    found = fields(bundles=[{"name": "a b"}], prefix="/", noncurrent_days=0)
    assert found == [
        "prefix",
        "noncurrent_days",
        "bundles[0].path",
        "bundles[0].digest",
        "bundles[0].name",
    ]


def test_outputs_are_passed_over() -> None:
    output = pulumi.Output.from_input("later")
    bundle = {"name": "minilm", "path": output, "digest": output, "archive": output}
    assert fields(bundles=[bundle], bucket_name=output, prefix=output, kms_key_arn=output) == []


def test_the_bucket_refuses_plain_http_and_admits_nobody() -> None:
    arn = "arn:aws:s3:::models"
    (statement,) = tls_only(arn)["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Principal"] == "*"
    assert statement["Resource"] == [arn, f"{arn}/*"]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
