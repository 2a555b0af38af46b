"""The inputs of `CloudMonitoring`, and what can be wrong with them."""

import re
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

import pulumi

from sixways.checks import Checks, is_plain
from sixways.cloud.formats import EMAIL, SAGEMAKER_NAME, TOPIC, check_log_days
from sixways.cloud.instances import sagemaker_types
from sixways.cloud.sagemaker.modes import MODES, SERVERLESS
from sixways.observability.slo import SloArgs, check_slo
from sixways.shapes import misfits
from sixways_bundle import Problem

# Of one alarm on an expression (AWS: "Using metric math"). The cost of a variant needs two.
_ALARM_METRICS = 10
_SAGEMAKER_FIELDS = ("endpoint_name", "variants", "mode")
_EC2_NEEDS = ("load_balancer_arn_suffix", "target_group_arn_suffix", "autoscaling_group_name")
_EC2_FIELDS = (*_EC2_NEEDS, "instance_type", "agent_namespace")
# CloudWatch Logs' LogGroupName.
_LOG_GROUP = re.compile(r"[.\-_/#A-Za-z0-9]{1,512}")


class MonitoredVariantArgs(TypedDict):
    """One production variant of a SageMaker endpoint. Plain values."""

    name: str
    """The variant's name."""
    instance_type: NotRequired[str]
    """SageMaker's instance type (`ml.c6i.xlarge`), which says how many cores and GPUs the metrics
    are a sum of. Needed unless the endpoint is serverless."""


class ThresholdsArgs(TypedDict):
    """Above these an alarm fires. Plain numbers."""

    cpu_percent: NotRequired[float]
    """Mean use of all cores, 1 to 100. Default: 85."""
    gpu_percent: NotRequired[float]
    """Mean use of all GPUs, 1 to 100. Default: 95."""
    memory_percent: NotRequired[float]
    """Use of the main memory of the fullest instance, 1 to 100. Default: 90."""
    disk_percent: NotRequired[float]
    """Use of the disk of the fullest instance, 1 to 100. Default: 85."""
    throttle_rate: NotRequired[float]
    """The share of requests turned away with a status 4xx, 0.0001 to 1. Default: 0.05."""
    concurrency_percent: NotRequired[float]
    """Use of a serverless endpoint's concurrency, 1 to 100. Default: 90."""
    backlog_seconds: NotRequired[float]
    """Age in seconds of the oldest request in the queue of an asynchronous endpoint. Default: 600.
    """
    cost_per_thousand_usd: NotRequired[float]
    """USD that a thousand requests may cost. Default: no alarm, the dashboard shows the cost."""


class CloudMonitoringArgs(TypedDict):
    """Inputs of a `CloudMonitoring`: those of a SageMaker endpoint or those of an EC2 one."""

    endpoint_name: NotRequired[pulumi.Input[str]]
    """The SageMaker endpoint's name."""
    variants: NotRequired[list[MonitoredVariantArgs]]
    """Its production variants, at least one; each gets its own alarms. In mode `scale-to-zero` the
    one that the copies share: `shared`."""
    mode: NotRequired[str]
    """`real-time`, `async`, `serverless` or `scale-to-zero`. Default: `real-time`."""
    load_balancer_arn_suffix: NotRequired[pulumi.Input[str]]
    """The load balancer before an EC2 endpoint: `app/NAME/ID`."""
    target_group_arn_suffix: NotRequired[pulumi.Input[str]]
    """Its target group: `targetgroup/NAME/ID`."""
    autoscaling_group_name: NotRequired[pulumi.Input[str]]
    """Its auto scaling group."""
    instance_type: NotRequired[str]
    """The group's instance type (`c6i.xlarge`), for the cost and to know of a GPU. Plain."""
    agent_namespace: NotRequired[str]
    """Namespace in which CloudWatch's agent on the group's instances sends `mem_used_percent`,
    `disk_used_percent` (of `/`) and, with a GPU, `nvidia_smi_utilization_gpu`, aggregated over
    `AutoScalingGroupName`. EC2 itself knows neither memory nor disk nor GPU: without an agent (an
    empty string) these alarms are left out. Default: `Sixways`, that of `Ec2Endpoint`."""
    slo: NotRequired[SloArgs]
    """The objective. Default: see `SloArgs`."""
    thresholds: NotRequired[ThresholdsArgs]
    """When the other alarms fire. Default: see `ThresholdsArgs`."""
    hourly_price_usd: NotRequired[dict[str, float]]
    """USD for an hour of each instance type, `{"ml.c6i.xlarge": 0.238}`: AWS's metrics hold no
    price. Default: none, and no cost of a thousand requests is shown."""
    topic_arn: NotRequired[pulumi.Input[str]]
    """An SNS topic that alarms write to. Default: an own one, encrypted with an own key."""
    emails: NotRequired[list[str]]
    """Addresses that the topic writes to; AWS asks each to confirm. Default: none."""
    log_group_names: NotRequired[list[str]]
    """Log groups to create, so that their logs end; not those that another component or service
    has created, which must be imported. They cannot exist twice: a component with log groups gets
    another name together with an alias (`opts`) for its old one. Default: none."""
    log_retention_days: NotRequired[pulumi.Input[int]]
    """Days until logs in them are deleted, among those that CloudWatch accepts. Default: 30."""
    runbook_url: NotRequired[str]
    """The page of the runbook, to which alarms add `#runbook-KEY`. Default: this project's page
    `docs/ways/cloud-runbook.md`."""
    tags: NotRequired[dict[str, pulumi.Input[str]]]
    """Tags of everything that can have them."""


def problems(name: str, args: CloudMonitoringArgs) -> list[Problem]:
    """What is wrong with the inputs; empty: nothing that can be known beforehand.

    Limits of names stand in botocore's models of SageMaker and CloudWatch Logs.
    """
    checks = Checks()
    checks.known(args, CloudMonitoringArgs)
    if wrong := [*misfits(args, CloudMonitoringArgs)]:
        return [*checks.problems, *wrong]  # more would be guesses
    _check_target(checks, args)
    check_slo(checks, args.get("slo"))
    _check_thresholds(checks, args)
    _check_prices(checks, args)
    _check_recipients(checks, args)
    for index, group in enumerate(args.get("log_group_names") or []):
        _match(checks, f"log_group_names[{index}]", group, _LOG_GROUP, "a log group's name", True)
    check_log_days(checks, args.get("log_retention_days"))
    return checks.problems


def _check_target(checks: Checks, args: Mapping[str, Any]) -> None:
    sagemaker = [field for field in _SAGEMAKER_FIELDS if args.get(field) is not None]
    ec2 = [field for field in _EC2_FIELDS if args.get(field) is not None]
    if sagemaker and ec2:
        checks.add(
            sagemaker[0],
            args[sagemaker[0]],
            "a SageMaker endpoint or an EC2 one",
            f"remove {', '.join(sagemaker)}, or {', '.join(ec2)}; watch two endpoints with two "
            "CloudMonitoring",
        )
        return
    if not sagemaker and not ec2:
        checks.add(
            "endpoint_name",
            None,
            "a SageMaker endpoint, or an EC2 one by load_balancer_arn_suffix",
            "add endpoint_name and variants, or the fields of an EC2 endpoint",
        )
        return
    if ec2:
        checks.required(args, *_EC2_NEEDS)
        for field, begin in zip(_EC2_NEEDS[:2], ("app/", "targetgroup/"), strict=True):
            value = args.get(field)
            if isinstance(value, str) and value and not value.startswith(begin):
                checks.add(field, value, f"{begin}NAME/ID", "give its arn_suffix, not its ARN")
        return
    checks.required(args, "endpoint_name", "variants")
    _match(
        checks,
        "endpoint_name",
        args.get("endpoint_name"),
        SAGEMAKER_NAME,
        "1 to 63 of a-z A-Z 0-9 -",
    )
    checks.one_of("mode", args.get("mode"), MODES)
    _check_variants(checks, args)


def _check_variants(checks: Checks, args: Mapping[str, Any]) -> None:
    names: set[str] = set()
    serverless = args.get("mode") == SERVERLESS
    for index, variant in enumerate(args.get("variants") or []):
        field = f"variants[{index}]."
        checks.known(variant, MonitoredVariantArgs, field)
        checks.required(variant, "name", prefix=field)
        name = variant.get("name")
        _match(checks, f"{field}name", name, SAGEMAKER_NAME, "1 to 63 of a-z A-Z 0-9 -", True)
        if name in names:
            checks.add(f"{field}name", name, "names that differ")
        names.add(name)
        instance_type = variant.get("instance_type")
        if serverless and instance_type is not None:
            checks.add(
                f"{field}instance_type", instance_type, "nothing in mode serverless", "remove it"
            )
        elif not serverless:
            checks.required(variant, "instance_type", prefix=field)
            if instance_type and instance_type not in sagemaker_types():
                checks.add(
                    f"{field}instance_type",
                    instance_type,
                    "an instance type that SageMaker hosts models on",
                    "give its full name, such as ml.c6i.xlarge",
                )


def _check_thresholds(checks: Checks, args: Mapping[str, Any]) -> None:
    thresholds = args.get("thresholds")
    if thresholds is None:
        return
    if not isinstance(thresholds, dict) or not is_plain(thresholds):
        accepted = "plain numbers, known before the update"
        checks.add("thresholds", type(thresholds).__name__, accepted)
        return
    checks.known(thresholds, ThresholdsArgs, "thresholds.")
    for kind in ("cpu", "gpu", "memory", "disk", "concurrency"):
        key = f"{kind}_percent"
        checks.number(f"thresholds.{key}", thresholds.get(key), 1, 100)
    rate = thresholds.get("throttle_rate")
    checks.number(
        "thresholds.throttle_rate",
        rate,
        0.0001,
        1,
        fix="give a share of requests: 0.05 is five in a hundred",
    )
    checks.number("thresholds.backlog_seconds", thresholds.get("backlog_seconds"), 1, 86_400)
    cost = thresholds.get("cost_per_thousand_usd")
    checks.number("thresholds.cost_per_thousand_usd", cost, 0.000001, 1_000_000)
    without = sorted(instance_types(args) - set(args.get("hourly_price_usd") or {}))
    if cost is not None and (without or not instance_types(args)):
        checks.add(
            "thresholds.cost_per_thousand_usd",
            cost,
            "a threshold where hourly_price_usd has the price of every instance type",
            f"add the price of {', '.join(without)}" if without else "remove it",
        )
    variants = args.get("variants")
    if cost is not None and isinstance(variants, list) and 2 * len(variants) > _ALARM_METRICS:
        checks.add(
            "thresholds.cost_per_thousand_usd",
            cost,
            f"nothing with more than {_ALARM_METRICS // 2} variants: an alarm of CloudWatch reads "
            f"{_ALARM_METRICS} metrics at most",
            "remove it; the dashboard shows the cost all the same",
        )


def _check_prices(checks: Checks, args: Mapping[str, Any]) -> None:
    used = instance_types(args)
    for instance_type, price in (args.get("hourly_price_usd") or {}).items():
        field = f"hourly_price_usd[{instance_type}]"
        if instance_type not in used:
            accepted = ", ".join(sorted(used)) or "nothing: no instance type is given"
            checks.add(field, instance_type, accepted, "correct or remove the name")
        if not is_plain(price):
            checks.add(field, type(price).__name__, "a plain number, known before the update")
        checks.number(field, price, 0.0001, 1000)


def _check_recipients(checks: Checks, args: Mapping[str, Any]) -> None:
    emails = args.get("emails") or []
    for index, address in enumerate(emails):
        _match(checks, f"emails[{index}]", address, EMAIL, "name@domain", True)
        if address in emails[:index]:
            checks.add(f"emails[{index}]", address, "each address once")
    _match(checks, "topic_arn", args.get("topic_arn"), TOPIC, "the ARN of an SNS topic")


def _match(
    checks: Checks,
    field: str,
    value: object,
    pattern: re.Pattern[str],
    accepted: str,
    plain: bool = False,
) -> None:
    """`plain`: the value names a resource, so an output is refused."""
    if value is None or (not plain and not is_plain(value)):
        return
    if not isinstance(value, str):
        checks.add(field, type(value).__name__, f"{accepted}, known before the update")
    elif value and not pattern.fullmatch(value):
        checks.add(field, value, accepted)


def instance_types(args: Mapping[str, Any]) -> set[str]:
    types = [variant.get("instance_type") for variant in args.get("variants") or []]
    return {str(found) for found in (*types, args.get("instance_type")) if found}
