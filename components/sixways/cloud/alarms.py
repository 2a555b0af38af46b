"""What can go wrong with an endpoint on AWS besides its objective, and the alarms on it.

Sources of metrics, their units and dimensions: those of `sixways.observability.cloudwatch`, and
AWS's pages "SageMaker AI endpoint metrics" (CPUUtilization and GPUUtilization are sums over cores
and GPUs: 0 to 100 for each), "CloudWatch metrics for Amazon EC2 Auto Scaling" and "Metrics
collected by the CloudWatch agent".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from sixways.cloud.instances import instance
from sixways.cloud.sagemaker.modes import ASYNC, REAL_TIME, SERVERLESS
from sixways.observability.cloudwatch import (
    ALB,
    SAGEMAKER,
    AlarmSpec,
    Metric,
    alb_slo_alarms,
    percentile,
    sagemaker_requests,
    sagemaker_slo_alarms,
)
from sixways.observability.slo import Slo

INSTANCES = "/aws/sagemaker/Endpoints"
"""SageMaker's metrics of the instances behind an endpoint."""
AGENT = "Sixways"
"""Where the CloudWatch agent of `Ec2Endpoint` sends its metrics."""
# A machine that is busy for a moment is well used; one that stays busy is too small.
_MINUTES, _BUSY_MINUTES = 15, 12
_HOUR_S = 3600


@dataclass(frozen=True)
class Limits:
    """Above these an alarm fires; see `ThresholdsArgs`."""

    cpu_percent: float = 85.0
    gpu_percent: float = 95.0
    memory_percent: float = 90.0
    disk_percent: float = 85.0
    throttle_rate: float = 0.05
    concurrency_percent: float = 90.0
    backlog_seconds: float = 600.0
    cost_per_thousand_usd: float | None = None


@dataclass(frozen=True)
class Graph:
    """A graph without an alarm: each metric is a line, or all of them one expression."""

    title: str
    unit: str
    metrics: tuple[Metric, ...]
    expression: str = ""
    scale: float = 1.0


@dataclass(frozen=True)
class Section:
    """What belongs together: a variant of an endpoint, or the endpoint itself (name empty)."""

    name: str
    alarms: tuple[AlarmSpec, ...]
    graphs: tuple[Graph, ...]


@dataclass(frozen=True)
class SageMakerTarget:
    """A SageMaker endpoint; `variants` maps each name to its instance type (serverless: empty)."""

    endpoint_name: pulumi.Input[str]
    variants: Mapping[str, str]
    mode: str = REAL_TIME


@dataclass(frozen=True)
class Ec2Target:
    """An auto scaling group behind a load balancer; `agent`: namespace of the CloudWatch agent's
    metrics, empty without one."""

    load_balancer: pulumi.Input[str]
    target_group: pulumi.Input[str]
    autoscaling_group: pulumi.Input[str]
    instance_type: str = ""
    agent: str = AGENT


def sagemaker_sections(
    target: SageMakerTarget, slo: Slo, limits: Limits, prices: Mapping[str, float]
) -> list[Section]:
    """The alarms and graphs of a SageMaker endpoint: a section for each variant, and one for all.

    Args:
        target: the endpoint.
        slo: the objective.
        limits: thresholds.
        prices: USD an hour of each instance type; cost is left out where one is missing.
    """
    sections = [
        _variant(target, name, instance_type, slo, limits)
        for name, instance_type in target.variants.items()
    ]
    alarms: list[AlarmSpec] = []
    graphs: list[Graph] = []
    if target.mode == ASYNC:
        alarms.append(_backlog(target.endpoint_name, limits))
        of = {"EndpointName": target.endpoint_name}
        size = Metric("backlog", SAGEMAKER, "ApproximateBacklogSize", of, "Maximum")
        graphs.append(Graph("Requests in the queue", "requests", (size,)))
    if target.mode != SERVERLESS and all(t in prices for t in target.variants.values()):
        _add_cost(*_sagemaker_cost(target, prices), limits, alarms, graphs)
    return [Section("", tuple(alarms), tuple(graphs)), *sections]


def ec2_sections(
    target: Ec2Target, slo: Slo, limits: Limits, prices: Mapping[str, float]
) -> list[Section]:
    """The alarms and graphs of an auto scaling group behind a load balancer: one section.

    Args:
        target: the group.
        slo: the objective.
        limits: thresholds.
        prices: USD an hour of each instance type; cost is left out where it is missing.
    """
    balancer = {"LoadBalancer": target.load_balancer}
    both = {**balancer, "TargetGroup": target.target_group}
    group = {"AutoScalingGroupName": target.autoscaling_group}
    requests = Metric("requests", ALB, "RequestCount", both, "Sum")
    unhealthy = Metric("unhealthy", ALB, "UnHealthyHostCount", both, "Maximum")
    alarms = [
        *alb_slo_alarms(slo, target.load_balancer, target.target_group),
        _throttles(
            slo,
            limits,
            (
                requests,
                Metric("refused", ALB, "HTTPCode_Target_4XX_Count", both, "Sum"),
                Metric("rejected", ALB, "RejectedConnectionCount", balancer, "Sum"),
            ),
            "IF(FILL(requests, 0) + FILL(rejected, 0) > 0, (FILL(refused, 0) + FILL(rejected, 0))"
            " / (FILL(requests, 0) + FILL(rejected, 0)))",
        ),
        # Five-minute datapoints: what EC2 publishes with and without detailed monitoring.
        _busy(
            "cpu",
            Metric("cpu", "AWS/EC2", "CPUUtilization", group, "Average", 300),
            limits.cpu_percent,
            periods=3,
            datapoints=3,
        ),
        AlarmSpec(
            "unhealthy",
            "Unhealthy: the load balancer found an instance that does not answer its health check "
            "for five minutes. First: see which, and why, in the target group's health.",
            (unhealthy,),
            0,
            5,
            5,
            title="Unhealthy instances",
            unit="instances",
        ),
    ]
    if target.agent:
        alarms += [
            _busy(key, Metric(key, target.agent, name, group, statistic), limit)
            for key, name, statistic, limit in (
                ("memory", "mem_used_percent", "Maximum", limits.memory_percent),
                ("disk", "disk_used_percent", "Maximum", limits.disk_percent),
            )
        ]
        if _gpus(target.instance_type):
            gpu = Metric("gpu", target.agent, "nvidia_smi_utilization_gpu", group, "Average")
            alarms.append(_busy("gpu", gpu, limits.gpu_percent))
    hosts = Metric("hosts", ALB, "HealthyHostCount", both, "Average")
    graphs = [
        Graph("Requests a minute", "requests", (requests,)),
        Graph("Healthy instances", "instances", (hosts,)),
    ]
    if target.instance_type in prices:
        metrics = (
            Metric("requests", ALB, "RequestCount", both, "Sum", _HOUR_S),
            Metric("hosts", ALB, "HealthyHostCount", both, "Average", _HOUR_S),
        )
        price = _decimal(prices[target.instance_type])
        cost = f"IF(requests > 0, {price} * hosts * 1000 / requests)"
        _add_cost(metrics, cost, limits, alarms, graphs)
    return [Section("", tuple(alarms), tuple(graphs))]


def _variant(
    target: SageMakerTarget, name: str, instance_type: str, slo: Slo, limits: Limits
) -> Section:
    endpoint, mode = target.endpoint_name, target.mode
    of = {"EndpointName": endpoint, "VariantName": name}
    requests = sagemaker_requests(endpoint, name, mode)
    alarms = [*sagemaker_slo_alarms(slo, endpoint, name, mode=mode)]
    graphs = [Graph("Requests a minute", "requests", (requests,))]
    if mode != ASYNC:
        p = percentile(slo.latency_quantile)
        overhead = Metric("overhead", SAGEMAKER, "OverheadLatency", of, p)
        graphs.append(Graph(f"SageMaker's overhead ({p})", "ms", (overhead,), scale=0.001))
    memory = Metric("memory", INSTANCES, "MemoryUtilization", of, "Maximum")
    if mode == SERVERLESS:
        alarms += [_concurrency(of, slo, limits), _busy("memory", memory, limits.memory_percent)]
        return Section(name, tuple(alarms), tuple(graphs))
    refused = Metric("refused", SAGEMAKER, "Invocation4XXErrors", of, "Sum")
    alarms.append(
        _throttles(
            slo, limits, (requests, refused), "IF(requests > 0, FILL(refused, 0) / requests)"
        )
    )
    if mode == ASYNC:
        alarms.append(_lost(of))
    machine = instance(instance_type)
    if machine is not None:
        cpu = Metric("cpu", INSTANCES, "CPUUtilization", of, "Average")
        alarms.append(_busy("cpu", cpu, limits.cpu_percent, of_each=machine.vcpus))
    gpus = _gpus(instance_type)
    if gpus:
        gpu = Metric("gpu", INSTANCES, "GPUUtilization", of, "Average")
        alarms.append(_busy("gpu", gpu, limits.gpu_percent, of_each=gpus))
        # Not watched: an engine that takes all the memory of a GPU beforehand does well.
        held = Metric("gpu_memory", INSTANCES, "GPUMemoryUtilization", of, "Average")
        graphs.append(Graph("GPU memory", "%", (held,), scale=1 / gpus))
    disk = Metric("disk", INSTANCES, "DiskUtilization", of, "Maximum")
    alarms += [
        _busy("memory", memory, limits.memory_percent),
        _busy("disk", disk, limits.disk_percent),
    ]
    # Every instance sends one datapoint a minute.
    running = Metric("instances", INSTANCES, "CPUUtilization", of, "SampleCount")
    graphs.append(Graph("Instances", "instances", (running,)))
    return Section(name, tuple(alarms), tuple(graphs))


def _gpus(instance_type: str) -> int:
    machine = instance(instance_type)
    return machine.accelerators if machine and machine.accelerator == "nvidia" else 0


_BUSY = {
    "cpu": ("CPU", "First: see whether requests rose; then add instances or take a larger type."),
    "gpu": ("GPU", "First: see whether requests rose; then add instances or take a larger type."),
    "memory": (
        "Memory",
        "First: see whether it grows with time or with load; then restart, or take a larger type.",
    ),
    "disk": ("Disk", "First: see what writes; then replace the instance, or give it more."),
}


def _busy(
    key: str,
    metric: Metric,
    percent: float,
    *,
    of_each: int = 1,
    periods: int = _MINUTES,
    datapoints: int = _BUSY_MINUTES,
) -> AlarmSpec:
    """`of_each`: the cores or GPUs over which the metric is a sum."""
    title, first = _BUSY[key]
    return AlarmSpec(
        key,
        f"{title}: more than {percent:g} % in use for a quarter of an hour. {first}",
        (metric,),
        percent * of_each,
        periods,
        datapoints,
        title=title,
        unit="%",
        scale=1 / of_each,
    )


def _throttles(slo: Slo, limits: Limits, metrics: tuple[Metric, ...], expression: str) -> AlarmSpec:
    return AlarmSpec(
        "throttles",
        f"Refused: more than {limits.throttle_rate * 100:.4g} % of the requests were turned away "
        "(status 4xx): the queue is full (429), or callers send what is not accepted. "
        "First: see which of the two in an answer's body; then add instances, or tell the caller.",
        metrics,
        limits.throttle_rate,
        slo.window_minutes,
        slo.breaching_minutes,
        expression,
        title="Refused requests",
        unit="%",
        scale=100,
    )


def _concurrency(of: Mapping[str, pulumi.Input[str]], slo: Slo, limits: Limits) -> AlarmSpec:
    name = "ServerlessConcurrentExecutionsUtilization"
    return AlarmSpec(
        "throttles",
        f"Refused soon: more than {limits.concurrency_percent:g} % of the endpoint's concurrency "
        "is in use; over all of it requests get 429. First: raise max_concurrency.",
        (Metric("concurrency", SAGEMAKER, name, of, "Maximum"),),
        limits.concurrency_percent / 100,
        slo.window_minutes,
        slo.breaching_minutes,
        title="Concurrency in use",
        unit="%",
        scale=100,
    )


def _backlog(endpoint: pulumi.Input[str], limits: Limits) -> AlarmSpec:
    of = {"EndpointName": endpoint}
    return AlarmSpec(
        "backlog",
        f"Waiting: the oldest request in the queue waits for more than {limits.backlog_seconds:g} s"
        ". First: see whether instances run at all; then raise the most that scaling may start.",
        (Metric("age", SAGEMAKER, "ApproximateAgeOfOldestRequest", of, "Maximum"),),
        limits.backlog_seconds,
        5,
        5,
        title="Age of the oldest request",
        unit="s",
    )


def _lost(of: Mapping[str, pulumi.Input[str]]) -> AlarmSpec:
    metrics = (
        Metric("expired", SAGEMAKER, "ExpiredRequests", of, "Sum"),
        Metric("unread", SAGEMAKER, "RequestDownloadFailures", of, "Sum"),
        Metric("unwritten", SAGEMAKER, "ResponseUploadFailures", of, "Sum"),
        Metric("untold", SAGEMAKER, "NotificationFailures", of, "Sum"),
    )
    return AlarmSpec(
        "lost",
        "Lost: a request expired in the queue, or its input, result or notice did not get through. "
        "First: see which in the dashboard; then check the role's rights on bucket, key and topic.",
        metrics,
        0,
        5,
        1,
        " + ".join(f"FILL({metric.id}, 0)" for metric in metrics),
        title="Lost requests",
        unit="requests",
    )


def _sagemaker_cost(
    target: SageMakerTarget, prices: Mapping[str, float]
) -> tuple[tuple[Metric, ...], str]:
    """An instance sends one datapoint of CPUUtilization a minute: 60 of them are an hour to pay."""
    metrics: list[Metric] = []
    paid, total = [], []
    for index, (name, instance_type) in enumerate(target.variants.items()):
        of = {"EndpointName": target.endpoint_name, "VariantName": name}
        count = sagemaker_requests(target.endpoint_name, name, target.mode, _HOUR_S)
        metrics += [
            Metric(f"requests{index}", SAGEMAKER, count.name, of, count.statistic, _HOUR_S),
            Metric(f"samples{index}", INSTANCES, "CPUUtilization", of, "SampleCount", _HOUR_S),
        ]
        paid.append(f"{_decimal(prices[instance_type])} * FILL(samples{index}, 0) / 60")
        total.append(f"FILL(requests{index}, 0)")
    requests = " + ".join(total)
    return tuple(metrics), f"IF(({requests}) > 0, ({' + '.join(paid)}) * 1000 / ({requests}))"


def _add_cost(
    metrics: tuple[Metric, ...],
    expression: str,
    limits: Limits,
    alarms: list[AlarmSpec],
    graphs: list[Graph],
) -> None:
    title = "Cost of a thousand requests"
    most = limits.cost_per_thousand_usd
    if most is None:
        graphs.append(Graph(title, "USD", metrics, expression))
        return
    alarms.append(
        AlarmSpec(
            "cost",
            f"Dear: a thousand requests cost more than {most:g} USD for two hours. "
            "First: see whether instances run without work; then lower the least that scaling "
            "keeps.",
            metrics,
            most,
            2,
            2,
            expression,
            title=title,
            unit="USD",
        )
    )


def _decimal(price: float) -> str:
    """Without an exponent, which metric math does not know."""
    return f"{price:.6f}".rstrip("0").rstrip(".")
