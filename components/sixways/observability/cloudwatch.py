"""The objective as Amazon CloudWatch sees it: metrics, and the alarms on them.

An `AlarmSpec` is plain data; `create_alarm` makes the resource of it.

Sources: names, units and dimensions of metrics stand on AWS's pages "Amazon SageMaker AI metrics in
Amazon CloudWatch", "Alarms and logs for tracking metrics from asynchronous endpoints" (and "from
serverless endpoints"; both list what such an endpoint does not publish) and "CloudWatch metrics for
your Application Load Balancer"; how missing datapoints count in an expression stands on "Using math
expressions with CloudWatch metrics".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from sixways.observability.slo import Slo

RUNBOOK = "docs/ways/cloud-runbook.md"
"""Where the runbook is when nobody says otherwise: a page of this project."""

SAGEMAKER = "AWS/SageMaker"
ALB = "AWS/ApplicationELB"


@dataclass(frozen=True)
class Metric:
    """One metric of CloudWatch, and how it is summed up.

    Attributes:
        id: its name in an expression; begins with a small letter.
        namespace: `AWS/SageMaker`.
        name: `ModelLatency`.
        dimensions: what it is measured of.
        statistic: `Sum`, `Average`, `Maximum`, `SampleCount`, `p95` …
        period_s: seconds of one datapoint.
    """

    id: str
    namespace: str
    name: str
    dimensions: Mapping[str, pulumi.Input[str]]
    statistic: str
    period_s: int = 60


@dataclass(frozen=True)
class AlarmSpec:
    """One alarm, before it is a resource.

    Attributes:
        key: what it watches (`latency`, `errors` …); names its section in the runbook.
        description: what it means when it fires, and the first thing to do.
        metrics: what it reads.
        threshold: it fires above this value, in the unit of the metric or expression.
        evaluation_periods: the datapoints it looks at.
        datapoints_to_alarm: how many of them must be above the threshold.
        expression: metric math over the metrics' ids; empty: the one metric itself.
        title: heads its graph.
        unit: the unit of its graph.
        scale: what one unit of the metric is in the unit of the graph (µs in ms: 0.001).
    """

    key: str
    description: str
    metrics: tuple[Metric, ...]
    threshold: float
    evaluation_periods: int
    datapoints_to_alarm: int
    expression: str = ""
    title: str = ""
    unit: str = ""
    scale: float = 1.0

    @property
    def runbook(self) -> str:
        """The anchor of its section in the runbook (heading `Runbook: KEY`)."""
        return f"runbook-{self.key}"


def percentile(quantile: float) -> str:
    """CloudWatch's statistic of a quantile: 0.95 is `p95`, 0.999 is `p99.9`."""
    return f"p{quantile * 100:.4g}"


def sagemaker_requests(
    endpoint_name: pulumi.Input[str], variant_name: str, mode: str, period_s: int = 60
) -> Metric:
    """The requests of a variant. An asynchronous endpoint has no Invocations: there the latencies
    are counted."""
    of = {"EndpointName": endpoint_name, "VariantName": variant_name}
    name, statistic = ("ModelLatency", "SampleCount") if mode == "async" else ("Invocations", "Sum")
    return Metric("requests", SAGEMAKER, name, of, statistic, period_s)


def sagemaker_slo_alarms(
    slo: Slo, endpoint_name: pulumi.Input[str], variant_name: str, *, mode: str = "realtime"
) -> tuple[AlarmSpec, ...]:
    """The alarms `latency` and `errors` of one variant of a SageMaker endpoint.

    ModelLatency is in microseconds: what the container takes, without SageMaker's own overhead and
    without the queue of an asynchronous endpoint. The container's errors are Invocation5XXErrors;
    where it gave no answer at all (a broken connection, a timeout), only InvocationModelErrors of a
    real-time endpoint counts it, together with the 4xx that are the callers' own.

    Args:
        slo: the objective.
        endpoint_name: the endpoint's name.
        variant_name: the production variant's.
        mode: `realtime`, `async` or `serverless`.
    """
    of = {"EndpointName": endpoint_name, "VariantName": variant_name}
    metrics: tuple[Metric, ...] = (
        sagemaker_requests(endpoint_name, variant_name, mode),
        Metric("failed", SAGEMAKER, "Invocation5XXErrors", of, "Sum"),
    )
    expression = "IF(requests > 0, FILL(failed, 0) / requests)"
    if mode == "realtime":
        metrics = (
            *metrics,
            Metric("unusable", SAGEMAKER, "InvocationModelErrors", of, "Sum"),
            Metric("refused", SAGEMAKER, "Invocation4XXErrors", of, "Sum"),
        )
        broken = "FILL(unusable, 0) - FILL(refused, 0)"
        expression = (
            f"IF(requests > 0, IF({broken} > FILL(failed, 0), {broken}, FILL(failed, 0))"
            " / requests)"
        )
    latency = Metric("latency", SAGEMAKER, "ModelLatency", of, percentile(slo.latency_quantile))
    return (
        _latency(slo, latency, slo.latency_ms * 1000, 0.001),
        _errors(slo, metrics, expression),
    )


def alb_slo_alarms(
    slo: Slo, load_balancer: pulumi.Input[str], target_group: pulumi.Input[str]
) -> tuple[AlarmSpec, ...]:
    """The alarms `latency` and `errors` of a target group behind an Application Load Balancer.

    TargetResponseTime is in seconds, until the target's first byte. RequestCount leaves out the
    requests for which the load balancer found no target, so its own errors are added to the total:
    without any healthy target the error rate is 1, not 0. The counts of errors have no datapoint
    where there were none.

    Args:
        slo: the objective.
        load_balancer: the load balancer's ARN suffix (`app/NAME/ID`).
        target_group: the target group's ARN suffix (`targetgroup/NAME/ID`).
    """
    balancer = {"LoadBalancer": load_balancer}
    both = {**balancer, "TargetGroup": target_group}
    total = "(FILL(requests, 0) + FILL(unanswered, 0))"
    latency = Metric("latency", ALB, "TargetResponseTime", both, percentile(slo.latency_quantile))
    return (
        _latency(slo, latency, slo.latency_ms / 1000, 1000),
        _errors(
            slo,
            (
                Metric("requests", ALB, "RequestCount", both, "Sum"),
                Metric("failed", ALB, "HTTPCode_Target_5XX_Count", both, "Sum"),
                Metric("unanswered", ALB, "HTTPCode_ELB_5XX_Count", balancer, "Sum"),
            ),
            f"IF({total} > 0, (FILL(failed, 0) + FILL(unanswered, 0)) / {total})",
        ),
    )


def alarm_description(spec: AlarmSpec, runbook_url: str = RUNBOOK) -> str:
    """What an alarm says: what it means, what to do first, and where to read on."""
    return f"{spec.description} Runbook: {runbook_url}#{spec.runbook}"


def create_alarm(
    spec: AlarmSpec,
    name: str,
    *,
    alarm_actions: Sequence[pulumi.Input[str]],
    tags: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
    alarm_name: pulumi.Input[str] | None = None,
    runbook_url: str = RUNBOOK,
) -> aws.cloudwatch.MetricAlarm:
    """Creates the alarm.

    A period without data is no breach: an endpoint that nobody calls keeps its promise.

    Args:
        spec: what it watches.
        name: the resource's name, and the beginning of the alarm's.
        alarm_actions: ARNs of topics that are told when it fires and when it is over; at most 5.
        tags: the alarm's tags.
        opts: the usual resource options.
        alarm_name: the alarm's whole name, where something must know it beforehand.
        runbook_url: the runbook's page, to which the alarm's section is added.
    """
    # CloudWatch wants one metric in the fields of the alarm itself, an expression in a list.
    first = spec.metrics[0]
    single = not spec.expression
    is_percentile = first.statistic.startswith("p")
    queries = [
        aws.cloudwatch.MetricAlarmMetricQueryArgs(
            id=metric.id,
            metric=aws.cloudwatch.MetricAlarmMetricQueryMetricArgs(
                namespace=metric.namespace,
                metric_name=metric.name,
                dimensions=dict(metric.dimensions),
                stat=metric.statistic,
                period=metric.period_s,
            ),
        )
        for metric in spec.metrics
    ]
    result = aws.cloudwatch.MetricAlarmMetricQueryArgs(
        id="result", expression=spec.expression, label=spec.key, return_data=True
    )
    return aws.cloudwatch.MetricAlarm(
        name,
        name=alarm_name,
        alarm_description=alarm_description(spec, runbook_url),
        comparison_operator="GreaterThanThreshold",
        threshold=spec.threshold,
        evaluation_periods=spec.evaluation_periods,
        datapoints_to_alarm=spec.datapoints_to_alarm,
        treat_missing_data="notBreaching",
        namespace=first.namespace if single else None,
        metric_name=first.name if single else None,
        dimensions=dict(first.dimensions) if single else None,
        statistic=first.statistic if single and not is_percentile else None,
        extended_statistic=first.statistic if single and is_percentile else None,
        period=first.period_s if single else None,
        metric_queries=None if single else [*queries, result],
        alarm_actions=list(alarm_actions),
        ok_actions=list(alarm_actions),
        tags=dict(tags),
        opts=opts,
    )


def _latency(slo: Slo, metric: Metric, threshold: float, scale: float) -> AlarmSpec:
    return AlarmSpec(
        "latency",
        f"Slow: {metric.statistic} of the time to an answer is above {slo.latency_ms:g} ms. "
        "First: see whether requests or CPU rose with it; then add instances, or undo the last "
        "update.",
        (metric,),
        threshold,
        slo.window_minutes,
        slo.breaching_minutes,
        title=f"Latency L ({metric.statistic})",
        unit="ms",
        scale=scale,
    )


def _errors(slo: Slo, metrics: tuple[Metric, ...], expression: str) -> AlarmSpec:
    return AlarmSpec(
        "errors",
        f"Failing: more than {slo.error_rate * 100:.4g} % of the requests end in a server error. "
        "First: read the newest lines of the server's log; undo the last update if it began "
        "with it.",
        metrics,
        slo.error_rate,
        slo.window_minutes,
        slo.breaching_minutes,
        expression,
        title="Error rate E",
        unit="%",
        scale=100,
    )
