"""Autoscaling of a SageMaker variant: target tracking, schedules, and to zero with a queue.

The scale to zero of a real-time endpoint is another thing: see `inference_components.py`.

What an update of the endpoint asks for is told in `release.py`.
"""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict, cast

import pulumi
import pulumi_aws as aws

from sixways.checks import Checks, is_number
from sixways.cloud.sagemaker.modes import ASYNC, REAL_TIME, SERVERLESS
from sixways.cloud.sagemaker.schedules import SageMakerScheduleArgs, check_schedules

MOST_INSTANCES = 10_000
"""Beyond any quota that AWS grants; the account's own quota is lower."""
MOST_PROVISIONED_CONCURRENCY = 200
"""By botocore's model: ServerlessProvisionedConcurrency."""
LONGEST_COOLDOWN_S = 86_400

# Mode: the inputs that say how much one instance shall bear.
_TARGETS = {
    REAL_TIME: ("invocations_per_instance", "concurrent_requests"),
    ASYNC: ("backlog_per_instance",),
    SERVERLESS: ("provisioned_concurrency_utilization",),
}
# By botocore's model of Application Auto Scaling: MetricType.
_PREDEFINED = {
    "invocations_per_instance": "SageMakerVariantInvocationsPerInstance",
    "concurrent_requests": "SageMakerVariantConcurrentRequestsPerModelHighResolution",
    "provisioned_concurrency_utilization": "SageMakerVariantProvisionedConcurrencyUtilization",
}


class SageMakerScalingArgs(TypedDict):
    """How a variant grows and shrinks.

    With several targets it grows as soon as one asks for it, and shrinks when all agree.
    """

    min_instances: NotRequired[pulumi.Input[int]]
    """Least instances; in mode `serverless`, least provisioned concurrency. At least 2, with `dev`
    1; in mode `async` also 0. Default: 2, `async` 0, `serverless` 1."""
    max_instances: pulumi.Input[int]
    """Most instances; in mode `serverless`, most provisioned concurrency."""
    invocations_per_instance: NotRequired[pulumi.Input[float]]
    """Target: requests a minute and instance. SageMaker sends no zeros of it: without any traffic
    at all this target does not shrink a variant."""
    concurrent_requests: NotRequired[pulumi.Input[float]]
    """Target: requests that one model works on at the same time, measured every 10 s. The better
    target for models whose requests differ in length, such as language models."""
    backlog_per_instance: NotRequired[pulumi.Input[float]]
    """Target of mode `async`: waiting requests an instance."""
    provisioned_concurrency_utilization: NotRequired[pulumi.Input[float]]
    """Target of mode `serverless`: the used share of the provisioned concurrency, over 0 to 1."""
    scale_out_cooldown: NotRequired[pulumi.Input[int]]
    """Seconds from one growth to the next. Default: 60, `async` 300."""
    scale_in_cooldown: NotRequired[pulumi.Input[int]]
    """Seconds from one shrinking to the next. Default: 300, `async` 600."""
    disable_scale_in: NotRequired[pulumi.Input[bool]]
    """Grow only; a person shrinks. Default: false."""
    schedules: NotRequired[list[SageMakerScheduleArgs]]
    """Limits that change with the time of day. AWS writes them into the two limits above: after a
    `pulumi refresh` the next `up` sets those back until the next schedule."""


def default_min_instances(mode: str) -> int:
    """What `min_instances` is where it is left out."""
    return {ASYNC: 0, SERVERLESS: 1}.get(mode, 2)


def check_scaling(
    checks: Checks,
    scaling: Mapping[str, Any],
    prefix: str,
    *,
    mode: str,
    dev: bool,
    instances: object = None,
) -> None:
    """Collects what AWS, or good sense, would refuse.

    Args:
        checks: takes the problems.
        scaling: the `SageMakerScalingArgs` as the user gave them.
        prefix: names them in messages, with its dot: `variants[0].scaling.`.
        mode: `real-time`, `async` or `serverless`.
        dev: whether one instance will do.
        instances: the variant's initial count, where it has one.
    """
    checks.known(scaling, SageMakerScalingArgs, prefix)
    checks.required(scaling, "max_instances", prefix=prefix)
    if mode not in _TARGETS:
        # A wrong mode is told of by who has it; nothing follows from it here.
        return
    least, fix = _least(mode, dev=dev)
    most = MOST_PROVISIONED_CONCURRENCY if mode == SERVERLESS else MOST_INSTANCES
    low = scaling.get("min_instances", default_min_instances(mode))
    high = scaling.get("max_instances")
    checks.number(f"{prefix}min_instances", low, least, most, whole=True, fix=fix)
    checks.number(f"{prefix}max_instances", high, max(least, 1), most, whole=True)
    if is_number(low) and is_number(high) and low > high:
        accepted = f"at most max_instances, {high}"
        checks.add(f"{prefix}min_instances", low, accepted, "raise max_instances or lower this")
    elif (
        is_number(low)
        and is_number(high)
        and is_number(instances)
        and not max(low, 1) <= instances <= high
    ):
        # What every deployment starts with: see `release.py`.
        accepted = f"limits around the initial count, {instances}; they are {low} and {high}"
        checks.add(f"{prefix}min_instances", low, accepted, "change the limits or the count")
    _check_targets(checks, scaling, prefix, mode)
    for field in ("scale_out_cooldown", "scale_in_cooldown"):
        checks.number(f"{prefix}{field}", scaling.get(field), 0, LONGEST_COOLDOWN_S, whole=True)
    check_schedules(
        checks, scaling.get("schedules"), f"{prefix}schedules", least=least, most=most, fix=fix
    )


def _least(mode: str, *, dev: bool) -> tuple[int, str]:
    """The least instances of a mode, and what helps where there are fewer."""
    if mode == ASYNC:
        # The queue keeps the requests while no instance is there.
        return 0, ""
    if mode == SERVERLESS:
        return 1, ""
    if dev:
        return 1, "0 needs mode scale-to-zero or async"
    return 2, "a single instance is a single point of failure; dev: true permits 1"


def _check_targets(checks: Checks, scaling: Mapping[str, Any], prefix: str, mode: str) -> None:
    own = _TARGETS[mode]
    for other in sorted({field for fields in _TARGETS.values() for field in fields} - {*own}):
        if scaling.get(other) is not None:
            checks.add(f"{prefix}{other}", scaling[other], f"{' or '.join(own)} in mode {mode}")
    for field in own:
        value = scaling.get(field)
        if value is None or isinstance(value, pulumi.Output):
            continue
        most = 1.0 if field == "provisioned_concurrency_utilization" else float("inf")
        if not is_number(value) or not 0 < value <= most:
            accepted = "a number over 0" if most > 1 else "a share over 0 and at most 1"
            checks.add(f"{prefix}{field}", value, accepted)
    if all(scaling.get(field) is None for field in own):
        if not scaling.get("schedules"):
            accepted = f"{' or '.join(own)}, or schedules"
            checks.add(prefix.removesuffix("."), None, accepted, "say what it scales by")
        elif mode == ASYNC and scaling.get("min_instances", 0) == 0:
            accepted = "a target: without it nothing shrinks the variant to 0"
            checks.add(f"{prefix}backlog_per_instance", None, accepted, "add it, 5 for example")


def scale_variant(
    name: str,
    endpoint_name: pulumi.Input[str],
    variant_name: str,
    scaling: SageMakerScalingArgs,
    *,
    mode: str = REAL_TIME,
    instance_type: pulumi.Input[str] | None = None,
    tags: pulumi.Input[Mapping[str, pulumi.Input[str]]] | None = None,
    opts: pulumi.ResourceOptions | None = None,
) -> aws.appautoscaling.Target:
    """Registers a variant with Application Auto Scaling, with its policies and schedules.

    Args:
        name: the children's names begin with it.
        endpoint_name: the name as an output of the endpoint, so that the variant is registered
            after the endpoint exists and deregistered before it goes.
        variant_name: the production variant.
        scaling: checked inputs.
        mode: `real-time`, `async` or `serverless`.
        instance_type: the variant's; when it changes, the variant is registered anew.
        tags: of the children that take some.
        opts: of every child: the parent, and the endpoint to depend on.

    Returns:
        The registration; its policies and schedules depend on it.
    """
    opts = opts or pulumi.ResourceOptions()
    kind = "ProvisionedConcurrency" if mode == SERVERLESS else "InstanceCount"
    low = scaling.get("min_instances", default_min_instances(mode))
    target = aws.appautoscaling.Target(
        f"{name}-target",
        service_namespace="sagemaker",
        scalable_dimension=f"sagemaker:variant:Desired{kind}",
        resource_id=pulumi.Output.concat("endpoint/", endpoint_name, "/variant/", variant_name),
        min_capacity=low,
        max_capacity=scaling["max_instances"],
        tags=tags,
        opts=pulumi.ResourceOptions.merge(
            opts,
            pulumi.ResourceOptions(
                # The old and the new registration are of the same variant: only one can stand.
                delete_before_replace=True,
                replacement_trigger=instance_type,
            ),
        ),
    )
    for field in _TARGETS[mode]:
        if scaling.get(field) is not None:
            _track(f"{name}-{field.replace('_', '-')}", target, field, endpoint_name, scaling, opts)
    if mode == ASYNC and _may_be_empty(scaling):
        _wake(f"{name}-wake", target, endpoint_name, tags, opts)
    for schedule in scaling.get("schedules", []):
        _schedule(f"{name}-at-{schedule['name']}", target, schedule, opts)
    return target


def _track(
    name: str,
    target: aws.appautoscaling.Target,
    field: str,
    endpoint_name: pulumi.Input[str],
    scaling: SageMakerScalingArgs,
    opts: pulumi.ResourceOptions,
) -> None:
    """A policy that keeps one metric at its target."""
    waits = field == "backlog_per_instance"
    aws.appautoscaling.Policy(
        name,
        policy_type="TargetTrackingScaling",
        service_namespace=target.service_namespace,
        scalable_dimension=target.scalable_dimension,
        resource_id=target.resource_id,
        target_tracking_scaling_policy_configuration={
            "target_value": cast(Mapping[str, pulumi.Input[float]], scaling)[field],
            # Of the backlog as AWS documents it, since instances take minutes to start.
            "scale_out_cooldown": scaling.get("scale_out_cooldown", 300 if waits else 60),
            "scale_in_cooldown": scaling.get("scale_in_cooldown", 600 if waits else 300),
            "disable_scale_in": scaling.get("disable_scale_in", False),
            "customized_metric_specification": {
                "metric_name": "ApproximateBacklogSizePerInstance",
                "namespace": "AWS/SageMaker",
                "statistic": "Average",
                "dimensions": [{"name": "EndpointName", "value": endpoint_name}],
            }
            if waits
            else None,
            "predefined_metric_specification": None
            if waits
            else {"predefined_metric_type": _PREDEFINED[field]},
        },
        opts=opts,
    )


def _may_be_empty(scaling: SageMakerScalingArgs) -> bool:
    """Whether the variant may come to 0 instances, by its limit or by a schedule."""
    lows: list[object] = [scaling.get("min_instances", 0)]
    lows += [schedule.get("min_instances") for schedule in scaling.get("schedules", [])]
    return any(low == 0 or isinstance(low, pulumi.Output) for low in lows)


def _wake(
    name: str,
    target: aws.appautoscaling.Target,
    endpoint_name: pulumi.Input[str],
    tags: pulumi.Input[Mapping[str, pulumi.Input[str]]] | None,
    opts: pulumi.ResourceOptions,
) -> None:
    """The way up from 0: the backlog an instance has no value while there is no instance."""
    policy = aws.appautoscaling.Policy(
        name,
        policy_type="StepScaling",
        service_namespace=target.service_namespace,
        scalable_dimension=target.scalable_dimension,
        resource_id=target.resource_id,
        step_scaling_policy_configuration={
            "adjustment_type": "ChangeInCapacity",
            "metric_aggregation_type": "Average",
            "cooldown": 300,
            "step_adjustments": [{"metric_interval_lower_bound": "0", "scaling_adjustment": 1}],
        },
        opts=opts,
    )
    aws.cloudwatch.MetricAlarm(
        name,
        alarm_description="Requests wait and no instance is there; starts the first instance.",
        namespace="AWS/SageMaker",
        metric_name="HasBacklogWithoutCapacity",
        dimensions={"EndpointName": endpoint_name},
        statistic="Average",
        comparison_operator="GreaterThanOrEqualToThreshold",
        threshold=1,
        period=60,
        evaluation_periods=2,
        datapoints_to_alarm=2,
        treat_missing_data="missing",
        alarm_actions=[policy.arn],
        tags=tags,
        opts=opts,
    )


def _schedule(
    name: str,
    target: aws.appautoscaling.Target,
    schedule: SageMakerScheduleArgs,
    opts: pulumi.ResourceOptions,
) -> None:
    aws.appautoscaling.ScheduledAction(
        name,
        name=schedule["name"],
        service_namespace=target.service_namespace,
        scalable_dimension=target.scalable_dimension,
        resource_id=target.resource_id,
        schedule=schedule["schedule"],
        timezone=schedule.get("timezone"),
        start_time=schedule.get("start_time"),
        end_time=schedule.get("end_time"),
        scalable_target_action={
            "min_capacity": schedule.get("min_instances"),
            "max_capacity": schedule.get("max_instances"),
        },
        opts=opts,
    )
