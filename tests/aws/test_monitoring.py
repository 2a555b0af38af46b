"""`CloudMonitoring` for its whole life: what stands in CloudWatch, SNS, KMS and Logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.aws.server import ACCOUNT, Aws
from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.aws

_PROGRAM = """
import json, pulumi
from sixways.cloud import CloudMonitoring
settings = json.load(open("settings.json"))
for name, args in settings.items():
    watched = CloudMonitoring(name, args)
    for output in ("topic_arn", "alarm_names", "alarm_arns", "dashboard", "dashboard_name"):
        pulumi.export(f"{name}.{output}", getattr(watched, output))
"""
_SAGEMAKER: dict[str, Any] = {
    "endpoint_name": "shop-search",
    "variants": [
        {"name": "cpu", "instance_type": "ml.c6i.xlarge"},
        {"name": "gpu", "instance_type": "ml.g4dn.12xlarge"},
    ],
    "hourly_price_usd": {"ml.c6i.xlarge": 0.238, "ml.g4dn.12xlarge": 5.0},
    "thresholds": {"cost_per_thousand_usd": 2},
    "emails": ["oncall@example.org"],
    "log_group_names": ["/shop/batch"],
    "log_retention_days": 90,
    "runbook_url": "https://wiki.example.org/cloud",
    "tags": {"team": "search"},
}
_EC2: dict[str, Any] = {
    "load_balancer_arn_suffix": "app/shop/0123456789abcdef",
    "target_group_arn_suffix": "targetgroup/shop/fedcba9876543210",
    "autoscaling_group_name": "shop",
    "instance_type": "g5.xlarge",
}


def settle(project: Path, **monitors: dict[str, Any]) -> None:
    (project / "__main__.py").write_text(_PROGRAM)
    (project / "settings.json").write_text(json.dumps(monitors))


def alarms(aws: Aws) -> dict[str, dict[str, Any]]:
    """The alarms by their names without the random end."""
    found = aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
    return {alarm["AlarmName"].rpartition("-")[0]: alarm for alarm in found}


def test_a_sagemaker_endpoint_is_watched_for_its_whole_life(
    aws: Aws, aws_env: dict[str, str], project: Path
) -> None:
    settle(project, watch=_SAGEMAKER)
    with Stack(project, aws_env) as stack:
        stack.up("--skip-preview")
        made = alarms(aws)
        each = ("latency", "errors", "throttles", "cpu", "memory", "disk")
        assert set(made) == {
            *(f"watch-{variant}-{key}" for variant in ("cpu", "gpu") for key in each),
            "watch-gpu-gpu",
            "watch-cost",
        }
        _latency_is_in_microseconds(made["watch-cpu-latency"])
        # 85 % of 4 cores, 85 % of 48 cores, 95 % of 4 GPUs.
        assert made["watch-cpu-cpu"]["Threshold"] == 340
        assert made["watch-gpu-cpu"]["Threshold"] == 4080
        assert made["watch-gpu-gpu"]["Threshold"] == 380
        assert made["watch-gpu-gpu"]["Namespace"] == "/aws/sagemaker/Endpoints"
        queries = {query["Id"]: query for query in made["watch-cpu-errors"]["Metrics"]}
        assert queries.pop("result")["ReturnData"]
        assert not any(query["ReturnData"] for query in queries.values())
        assert {i: q["MetricStat"]["Metric"]["MetricName"] for i, q in queries.items()} == {
            "requests": "Invocations",
            "failed": "Invocation5XXErrors",
            "unusable": "InvocationModelErrors",
            "refused": "Invocation4XXErrors",
        }
        outputs = stack.outputs()
        topic = outputs["watch.topic_arn"]
        for alarm in made.values():
            assert alarm["AlarmActions"] == alarm["OKActions"] == [topic]
            assert alarm["TreatMissingData"] == "notBreaching"
            key = alarm["AlarmName"].split("-")[-2]
            assert f" https://wiki.example.org/cloud#runbook-{key}" in alarm["AlarmDescription"]
        assert sorted(outputs["watch.alarm_names"]) == sorted(a["AlarmName"] for a in made.values())
        assert set(outputs["watch.alarm_arns"]) == {a["AlarmArn"] for a in made.values()}
        _the_dashboard_shows(aws, outputs, set(outputs["watch.alarm_arns"]))
        _the_topic_is_encrypted_and_told_whom_to_trust(aws, topic)
        (group,) = aws.client("logs").describe_log_groups()["logGroups"]
        assert (group["logGroupName"], group["retentionInDays"]) == ("/shop/batch", 90)
        stack.up("--expect-no-changes")

        # Another objective changes the alarms in place.
        settle(project, watch={**_SAGEMAKER, "slo": {"latency_ms": 250, "latency_quantile": 0.99}})
        done = stack.up("--skip-preview").stdout
        assert "3 updated" in done  # two alarms, and the dashboard
        assert "replaced" not in done
        after = alarms(aws)
        assert after["watch-gpu-latency"]["Threshold"] == 250_000
        assert after["watch-gpu-latency"]["ExtendedStatistic"] == "p99"
        names = {alarm["AlarmName"] for alarm in made.values()}
        assert {alarm["AlarmName"] for alarm in after.values()} == names

        # Another name is another component. Its log group would have the same name as the old one,
        # which is deleted last.
        settle(project, guard={**_SAGEMAKER, "log_group_names": []})
        stack.up("--skip-preview")
        assert {name.partition("-")[0] for name in alarms(aws)} == {"guard"}
        boards = aws.client("cloudwatch").list_dashboards()["DashboardEntries"]
        assert [board["DashboardName"] for board in boards] == ["shop-test-guard"]
    assert aws.left() == []


def test_an_ec2_endpoint_is_watched_and_writes_to_a_topic_that_is_there(
    aws: Aws, aws_env: dict[str, str], project: Path
) -> None:
    sns = aws.client("sns")
    topic = sns.create_topic(Name="pager")["TopicArn"]
    settle(project, box={**_EC2, "topic_arn": topic})
    with Stack(project, aws_env) as stack:
        done = stack.up("--skip-preview").stdout
        assert "hourly_price_usd={'g5.xlarge': USD}" in done
        made = alarms(aws)
        keys = {"latency", "errors", "throttles", "cpu", "unhealthy", "memory", "disk", "gpu"}
        assert set(made) == {f"box-{key}" for key in keys}
        latency = made["box-latency"]
        assert latency["MetricName"] == "TargetResponseTime"
        assert latency["Threshold"] == 0.5  # seconds
        assert {d["Name"]: d["Value"] for d in latency["Dimensions"]} == {
            "LoadBalancer": _EC2["load_balancer_arn_suffix"],
            "TargetGroup": _EC2["target_group_arn_suffix"],
        }
        # EC2's CPUUtilization is a mean over the cores already.
        assert (made["box-cpu"]["Namespace"], made["box-cpu"]["Threshold"]) == ("AWS/EC2", 85)
        assert made["box-gpu"]["MetricName"] == "nvidia_smi_utilization_gpu"
        assert made["box-gpu"]["Namespace"] == "Sixways"
        assert {tuple(alarm["AlarmActions"]) for alarm in made.values()} == {(topic,)}
        # Neither a topic nor a key of its own.
        assert [t["TopicArn"] for t in sns.list_topics()["Topics"]] == [topic]
        stack.up("--expect-no-changes")

        # Without the agent, three alarms would never see a datapoint.
        settle(project, box={**_EC2, "topic_arn": topic, "agent_namespace": ""})
        stack.up("--skip-preview")
        assert set(made) - set(alarms(aws)) == {"box-memory", "box-disk", "box-gpu"}
    sns.delete_topic(TopicArn=topic)
    assert aws.left() == []


def test_bad_input_is_refused_whole_before_anything_is_created(
    aws: Aws, aws_env: dict[str, str], project: Path
) -> None:
    settle(
        project,
        watch={
            "endpoint_name": "shop_search",
            "variants": [{"name": "a", "instance_type": "c6i.xlarge"}],
            "slo": {"latency_quantile": 95},
            "thresholds": {"cpu_percent": 120, "cost_per_thousand_usd": 1},
            "emails": ["oncall"],
            "log_retention_days": 31,
        },
    )
    with Stack(project, aws_env) as stack:
        done = stack.up(check=False)
        assert done.returncode
        for field in (
            "endpoint_name",
            "variants[0].instance_type",
            "slo.latency_quantile",
            "thresholds.cpu_percent",
            "thresholds.cost_per_thousand_usd",
            "emails[0]",
            "log_retention_days",
        ):
            assert f"- {field}: " in done.stdout
        assert aws.left() == []


def _latency_is_in_microseconds(alarm: dict[str, Any]) -> None:
    assert alarm["Namespace"] == "AWS/SageMaker"
    assert alarm["MetricName"] == "ModelLatency"
    assert alarm["ExtendedStatistic"] == "p95"
    assert alarm["Threshold"] == 500_000
    assert alarm["Period"] == 60
    assert (alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"]) == (3, 5)
    assert {d["Name"]: d["Value"] for d in alarm["Dimensions"]} == {
        "EndpointName": "shop-search",
        "VariantName": "cpu",
    }


def _the_dashboard_shows(aws: Aws, outputs: dict[str, Any], arns: set[str]) -> None:
    assert outputs["watch.dashboard_name"] == "shop-test-watch"
    assert outputs["watch.dashboard"] == (
        "https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1"
        "#dashboards/dashboard/shop-test-watch"
    )
    answer = aws.client("cloudwatch").get_dashboard(DashboardName="shop-test-watch")
    widgets = json.loads(answer["DashboardBody"])["widgets"]
    (states,) = (widget for widget in widgets if widget["type"] == "alarm")
    assert set(states["properties"]["alarms"]) == arns
    graphs = [widget["properties"] for widget in widgets if widget["type"] == "metric"]
    assert {graph["region"] for graph in graphs} == {"us-east-1"}
    titles = {graph["title"] for graph in graphs}
    assert {"Latency L (p95)", "Error rate E", "Cost of a thousand requests", "GPU"} <= titles


def _the_topic_is_encrypted_and_told_whom_to_trust(aws: Aws, topic: str) -> None:
    sns, kms = aws.client("sns"), aws.client("kms")
    attributes = sns.get_topic_attributes(TopicArn=topic)["Attributes"]
    publish, refuse = json.loads(attributes["Policy"])["Statement"]
    assert publish["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert publish["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    assert refuse["Effect"] == "Deny"
    assert refuse["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    key = kms.describe_key(KeyId=attributes["KmsMasterKeyId"])["KeyMetadata"]
    assert key["KeyManager"] == "CUSTOMER"
    assert kms.get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"]
    policy = json.loads(kms.get_key_policy(KeyId=key["KeyId"], PolicyName="default")["Policy"])
    assert policy["Statement"][1]["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert policy["Statement"][1]["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    (subscription,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "oncall@example.org")
