"""`CloudMonitoring`: inputs that are refused, and who may use its topic and key."""

from __future__ import annotations

import re
from typing import Any, cast

import pulumi
import pytest
from botocore.loaders import Loader

from sixways.cloud.formats import LOG_DAYS
from sixways.cloud.monitoring import CloudMonitoringArgs, problems
from sixways.cloud.topic import ALARMS, key_policy, topic_policy

_SAGEMAKER: dict[str, Any] = {
    "endpoint_name": "shop",
    "variants": [{"name": "main", "instance_type": "ml.c6i.xlarge"}],
}
_EC2: dict[str, Any] = {
    "load_balancer_arn_suffix": "app/shop/1",
    "target_group_arn_suffix": "targetgroup/shop/2",
    "autoscaling_group_name": "shop",
}
_PRICE = {"hourly_price_usd": {"ml.c6i.xlarge": 0.24}}


def refused(args: dict[str, Any]) -> list[str]:
    return [problem.field for problem in problems("watch", cast(CloudMonitoringArgs, args))]


@pytest.mark.parametrize(
    "args",
    [
        _SAGEMAKER,
        {**_SAGEMAKER, **_PRICE, "thresholds": {"cost_per_thousand_usd": 0.5}},
        {**_SAGEMAKER, "mode": "async", "slo": {"latency_ms": 60_000}},
        {"endpoint_name": "shop", "mode": "serverless", "variants": [{"name": "main"}]},
        _EC2,
        {**_EC2, "instance_type": "g5.xlarge", "agent_namespace": "CWAgent"},
        {**_EC2, "emails": ["a@example.org", "b@example.org"], "log_group_names": ["/shop/a"]},
        {**_EC2, "topic_arn": "arn:aws:sns:eu-west-1:123456789012:pager"},
    ],
)
def test_good_input_is_accepted(args: dict[str, Any]) -> None:
    assert refused(args) == []


async def test_what_is_known_only_later_is_passed_over() -> None:
    later = pulumi.Output.from_input("later")
    assert refused({**_SAGEMAKER, "endpoint_name": later, "topic_arn": later}) == []
    assert refused(dict.fromkeys(_EC2, later)) == []


@pytest.mark.parametrize(
    ("args", "fields"),
    [
        ({}, ["endpoint_name"]),
        ({**_SAGEMAKER, **_EC2}, ["endpoint_name"]),
        ({"endpoint_name": "shop"}, ["variants"]),
        ({"variants": _SAGEMAKER["variants"]}, ["endpoint_name"]),
        ({**_SAGEMAKER, "endpoint_name": "shop_search"}, ["endpoint_name"]),
        ({**_SAGEMAKER, "endpoint_name": "s" * 64}, ["endpoint_name"]),
        ({**_SAGEMAKER, "mode": "batch"}, ["mode"]),
        ({**_SAGEMAKER, "variants": [{"name": "main"}]}, ["variants[0].instance_type"]),
        ({**_SAGEMAKER, "mode": "serverless"}, ["variants[0].instance_type"]),
        (
            {**_SAGEMAKER, "variants": [{"name": "m", "instance_type": "c6i.xlarge"}]},
            ["variants[0].instance_type"],
        ),
        ({**_SAGEMAKER, "variants": 2 * _SAGEMAKER["variants"]}, ["variants[1].name"]),
        ({"autoscaling_group_name": "shop"}, [*_EC2][:2]),
        (
            {**_EC2, "load_balancer_arn_suffix": "arn:aws:elasticloadbalancing:x"},
            ["load_balancer_arn_suffix"],
        ),
        ({**_EC2, "thresholds": {"cpu_percent": 101}}, ["thresholds.cpu_percent"]),
        ({**_EC2, "thresholds": {"throttle_rate": 5}}, ["thresholds.throttle_rate"]),
        ({**_EC2, "thresholds": {"cpu": 80}}, ["thresholds.cpu"]),
        (
            {**_SAGEMAKER, "thresholds": {"cost_per_thousand_usd": 1}},
            ["thresholds.cost_per_thousand_usd"],
        ),
        (
            {
                **_SAGEMAKER,
                **_PRICE,
                "thresholds": {"cost_per_thousand_usd": 1},
                "variants": [
                    {**_SAGEMAKER["variants"][0], "name": f"v{number}"} for number in range(6)
                ],
            },
            ["thresholds.cost_per_thousand_usd"],
        ),
        (
            {**_SAGEMAKER, "hourly_price_usd": {"ml.c5.xlarge": 1}},
            ["hourly_price_usd[ml.c5.xlarge]"],
        ),
        (
            {**_SAGEMAKER, "hourly_price_usd": {"ml.c6i.xlarge": 0}},
            ["hourly_price_usd[ml.c6i.xlarge]"],
        ),
        ({**_EC2, "emails": ["oncall", "a@b.org", "a@b.org"]}, ["emails[0]", "emails[2]"]),
        ({**_EC2, "topic_arn": "pager"}, ["topic_arn"]),
        ({**_EC2, "log_group_names": ["/shop logs"]}, ["log_group_names[0]"]),
        ({**_EC2, "log_retention_days": 31}, ["log_retention_days"]),
        ({**_EC2, "alarm_email": "a@b.org"}, ["alarm_email"]),
        (
            {**_SAGEMAKER, "mode": "batch", "slo": {"latency_quantile": 95}, "emails": ["x"]},
            ["mode", "slo.latency_quantile", "emails[0]"],
        ),
    ],
)
def test_bad_input_is_named_all_at_once(args: dict[str, Any], fields: list[str]) -> None:
    assert refused(args) == fields


async def test_what_names_a_resource_must_be_known_beforehand() -> None:
    later = pulumi.Output.from_input("later")
    assert refused({**_EC2, "emails": [later], "log_group_names": [later]}) == [
        "emails[0]",
        "log_group_names[0]",
    ]


def test_days_of_retention_are_those_that_cloudwatch_accepts() -> None:
    days = Loader().load_service_model("logs", "service-2")["shapes"]["Days"]["documentation"]
    first = days.partition("</p>")[0]
    assert [int(number) for number in re.findall(r"\d+", first)] == list(LOG_DAYS)


@pytest.mark.parametrize(
    "policy",
    [
        key_policy(ALARMS, "123456789012", "aws"),
        topic_policy(ALARMS, "arn:aws:sns:eu-west-1:123456789012:alarms", "123456789012", "aws"),
    ],
)
def test_a_policy_names_its_actions_and_trusts_cloudwatch_for_this_account_alone(
    policy: dict[str, Any],
) -> None:
    trusted = 0
    for statement in policy["Statement"]:
        # A string of one, or a list: no character of either is a star.
        assert "*" not in "".join(statement["Action"])
        if statement["Effect"] == "Allow":
            assert "*" not in statement["Principal"].values()
        if "Service" in statement["Principal"]:
            assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}
            trusted += 1
    assert trusted == 1


def test_nobody_publishes_without_tls() -> None:
    (refuse,) = (
        s for s in topic_policy(ALARMS, "arn", "1", "aws")["Statement"] if s["Effect"] == "Deny"
    )
    assert refuse["Principal"] == "*"
    assert refuse["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
