"""What the endpoint's role and its callers may do: what is needed, and nothing beside it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sixways.cloud.sagemaker.policies import (
    Needs,
    execution_policy,
    invoke_policy,
    repository_arn,
    trust_policy,
)

IMAGE = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/sixways@sha256:{'a' * 64}"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/"
# These actions know no resource (AWS's Service Authorization Reference).
NO_RESOURCE = {
    "cloudwatch:PutMetricData",
    "ec2:DeleteNetworkInterfacePermission",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "ecr:GetAuthorizationToken",
}


def statements(document: str) -> dict[str, dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(document)["Statement"]
    named = {statement["Sid"]: statement for statement in found}
    assert len(named) == len(found)
    return named


def needs(**more: Any) -> Needs:
    given: dict[str, Any] = {
        "partition": "aws", "region": "eu-west-1", "account": "123456789012",
        "log_groups": ["/aws/sagemaker/Endpoints/search"], "image_uri": IMAGE, "bundles": ["s3://shop/b/1/"],
    }  # fmt: skip
    return Needs(**{**given, **more})


EVERYTHING = needs(
    bundles=["s3://shop/b/1/", "s3://shop/b/2/", "s3://other/model.tar.gz", "s3://shop/b/1/"],
    reads=["s3://shop/in/"],
    writes=["s3://shop/out/", "s3://kept/search/"],
    read_keys=[f"{KEY}1"],
    write_keys=[f"{KEY}2", f"{KEY}2"],
    volume_keys=[f"{KEY}2"],
    topics=["arn:aws:sns:eu-west-1:123456789012:done"],
    alarms=["slow", "failing"],
    subnets=["subnet-1", "subnet-2"],
    security_groups=["sg-1"],
)


@pytest.mark.parametrize("given", [needs(), EVERYTHING])
def test_no_action_is_a_wildcard_and_no_resource_that_could_be_named(given: Needs) -> None:
    for statement in statements(execution_policy(given)).values():
        assert not [action for action in statement["Action"] if "*" in action]
        if statement["Resource"] == ["*"]:
            assert set(statement["Action"]) <= NO_RESOURCE
            assert statement.get("Condition") or statement["Action"] == [
                "ecr:GetAuthorizationToken"
            ]
        else:
            assert all(one.startswith("arn:aws:") for one in statement["Resource"])
            # A star stands for what lies below a place that is named.
            assert not [one for one in statement["Resource"] if one.split(":", 5)[5] == "*"]


def test_the_role_reads_its_bundles_and_lists_nothing_else() -> None:
    may = statements(execution_policy(EVERYTHING))
    assert may["Bundles"]["Resource"] == [
        "arn:aws:s3:::shop/b/1/*",
        "arn:aws:s3:::shop/b/2/*",
        "arn:aws:s3:::other/model.tar.gz",
    ]
    assert may["ListBundles"]["Resource"] == ["arn:aws:s3:::shop"]
    assert may["ListBundles"]["Condition"] == {"StringLike": {"s3:prefix": ["b/1/*", "b/2/*"]}}
    assert may["ListBundles1"]["Condition"] == {"StringLike": {"s3:prefix": ["model.tar.gz"]}}


def test_the_role_may_no_more_than_its_endpoint_needs() -> None:
    assert set(statements(execution_policy(needs()))) == {
        "Bundles", "ListBundles", "Image", "ImageLogin", "Log", "Metrics",
    }  # fmt: skip
    may = statements(execution_policy(EVERYTHING))
    assert may["Encrypt"]["Resource"] == [f"{KEY}2"]
    assert may["VolumeGrants"]["Condition"] == {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    assert may["Interfaces"]["Resource"] == [
        "arn:aws:ec2:eu-west-1:123456789012:subnet/subnet-1",
        "arn:aws:ec2:eu-west-1:123456789012:subnet/subnet-2",
        "arn:aws:ec2:eu-west-1:123456789012:security-group/sg-1",
        "arn:aws:ec2:eu-west-1:123456789012:network-interface/*",
    ]


def test_the_role_sees_the_alarms_that_undo_an_update() -> None:
    may = statements(execution_policy(EVERYTHING))
    assert may["Alarms"]["Action"] == ["cloudwatch:DescribeAlarms"]
    assert may["Alarms"]["Resource"] == [
        "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:slow",
        "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:failing",
    ]


def test_the_role_writes_every_log_of_its_endpoint() -> None:
    groups = ["/aws/sagemaker/Endpoints/search", "/aws/sagemaker/InferenceComponents/search-a"]
    may = statements(execution_policy(needs(log_groups=groups)))
    arn = "arn:aws:logs:eu-west-1:123456789012:log-group:"
    for group in groups:
        assert f"{arn}{group}:log-stream:*" in may["Log"]["Resource"]


def test_the_image_is_pulled_from_its_own_repository() -> None:
    arn = "arn:aws:ecr:eu-west-1:123456789012:repository/team/sixways"
    assert repository_arn("aws", IMAGE) == arn
    assert statements(execution_policy(needs()))["Image"]["Resource"] == [arn]


def test_only_sagemaker_takes_the_role_and_for_this_account_only() -> None:
    (statement,) = json.loads(trust_policy("123456789012"))["Statement"]
    assert statement["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}


def test_callers_may_call_this_endpoint_in_its_own_way() -> None:
    arn = "arn:aws-cn:sagemaker:cn-north-1:123456789012:endpoint/search"
    real_time = statements(invoke_policy(arn, mode="real-time"))
    assert real_time["Invoke"]["Action"] == [
        "sagemaker:InvokeEndpoint",
        "sagemaker:InvokeEndpointWithResponseStream",
    ]
    assert real_time["Invoke"]["Resource"] == [arn]
    assert statements(invoke_policy(arn, mode="serverless"))["Invoke"]["Action"] == [
        "sagemaker:InvokeEndpoint"
    ]
    may = statements(
        invoke_policy(
            arn, mode="async", writes=["s3://shop/in/"], reads=["s3://shop/out/"], keys=[f"{KEY}2"]
        )
    )
    assert may["Invoke"]["Action"] == ["sagemaker:InvokeEndpointAsync"]
    assert may["Ask"]["Resource"] == ["arn:aws-cn:s3:::shop/in/*"]
    assert may["Fetch"]["Resource"] == ["arn:aws-cn:s3:::shop/out/*"]
    assert may["Decrypt"]["Resource"] == [f"{KEY}2"]
