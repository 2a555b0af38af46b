"""What can go wrong with a gateway, and the alarms on it.

Sources: AWS's pages "Amazon API Gateway dimensions and metrics" and "Monitor CloudWatch metrics for
HTTP APIs" (names, units; `SampleCount` of `Count` is the number of requests). How much of a usage
plan's quota is used is no metric, so requests are counted from the access log by the key's id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws

from sixways.cloud.alarms import Graph, Section
from sixways.observability.cloudwatch import AlarmSpec, Metric, percentile
from sixways.observability.slo import Slo

RUNBOOK = "docs/ways/api-aws.md"
NAMESPACE = "AWS/ApiGateway"
COUNTED = "Sixways/Api"
"""Metrics that are counted from the access log."""
_DAY_S = 86_400
_DAYS = {"day": 1, "week": 7, "month": 30}


def section(
    slo: Slo,
    client_error_rate: float,
    dimensions: Mapping[str, pulumi.Input[str]],
    *,
    rest: bool,
    with_quota: bool,
    api_id: pulumi.Input[str],
) -> Section:
    """The gateway's own alarms and graphs.

    Args:
        slo: the objective.
        client_error_rate: the share of 4xx that is no alarm yet.
        dimensions: `ApiName` and `Stage`, or `ApiId` and `Stage`.
        rest: whether it is a REST API, whose metrics have other names.
        with_quota: whether a plan has a quota.
        api_id: the API's id, as the log shows it.
    """
    of = dict(dimensions)
    requests = Metric("requests", NAMESPACE, "Count", of, "SampleCount")
    failed = Metric("failed", NAMESPACE, "5XXError" if rest else "5xx", of, "Sum")
    refused = Metric("refused", NAMESPACE, "4XXError" if rest else "4xx", of, "Sum")
    p = percentile(slo.latency_quantile)
    latency = Metric("latency", NAMESPACE, "Latency", of, p)
    alarms = [
        AlarmSpec(
            "latency",
            f"Slow: {p} of the time to an answer's end is above {slo.latency_ms:g} ms. First: see "
            "whether the upstream's time rose with it; then add instances behind the gateway.",
            (latency,),
            slo.latency_ms,
            slo.window_minutes,
            slo.breaching_minutes,
            title=f"Latency ({p})",
            unit="ms",
        ),
        _rate(
            "errors",
            f"Failing: more than {slo.error_rate * 100:.4g} % of the requests end in 5xx. First: "
            "see in the access log whether upstream_status is 5xx too; if not, the gateway does "
            "not reach the upstream.",
            "Error rate",
            (requests, failed),
            slo.error_rate,
            slo,
        ),
        _rate(
            "client-errors",
            f"Refused: more than {client_error_rate * 100:.4g} % of the requests end in 4xx. "
            "First: see in the access log which error and which key_id; then tell the caller.",
            "Refused requests",
            (requests, refused),
            client_error_rate,
            slo,
        ),
    ]
    if with_quota:
        exhausted = Metric("exhausted", COUNTED, "QuotaExceeded", {"Api": api_id}, "Sum", 300)
        alarms.append(
            AlarmSpec(
                "exhausted",
                "Used up: a caller's quota is used up, and its requests get 429. First: see which "
                "key_id in the access log; then raise its plan's quota, or tell the caller.",
                (exhausted,),
                0,
                1,
                1,
                title="Requests beyond a quota",
                unit="requests",
            )
        )
    upstream = Metric("upstream", NAMESPACE, "IntegrationLatency", of, p)
    graphs = (
        Graph("Requests a minute", "requests", (requests,)),
        Graph(f"Time of the upstream ({p})", "ms", (upstream,)),
    )
    return Section("", tuple(alarms), graphs)


def quota_alarm(caller: str, plan: Mapping[str, Any], key_id: pulumi.Input[str],
                percent: float | None) -> AlarmSpec:  # fmt: skip
    """The alarm on one key's use of its quota; see `quota_percent` of `ApiGatewayArgs`.

    An alarm sees a day at most at a time here, so a longer quota is watched by its pace.

    Args:
        caller: whose key it is.
        plan: its plan, with `quota`.
        key_id: the key's id.
        percent: of a day's share; None: 80 of a daily quota, else 200.
    """
    period = plan.get("quota_period") or "month"
    share = plan["quota"] / _DAYS[period]
    part = percent if percent is not None else 80.0 if period == "day" else 200.0
    used = Metric("used", COUNTED, "Requests", {"KeyId": key_id}, "Sum", _DAY_S)
    return AlarmSpec(
        "quota",
        f"Quota: {caller} sent more than {share * part / 100:.6g} requests in a day, {part:g} % "
        f"of a day's share of its {plan['quota']} a {period}. First: tell the caller; then raise "
        "the plan's quota, or let it end.",
        (used,),
        float(f"{share * part / 100:.6g}"),
        1,
        1,
        title=f"Requests of {caller} in a day",
        unit="requests",
    )


def create_counters(name: str, log_group: pulumi.Input[str], opts: pulumi.ResourceOptions) -> None:
    """Counts accepted requests by key, and requests beyond a quota, from the access log."""
    # "-" is what the log shows without a key. Ids are few, so the dimension is cheap.
    for key, metric, pattern, dimension in (
        ("used", "Requests", '{ ($.key_id != "-") && ($.status != "429") }', ("KeyId", "$.key_id")),
        ("exhausted", "QuotaExceeded", '{ $.error = "QUOTA_EXCEEDED" }', ("Api", "$.api")),
    ):
        aws.cloudwatch.LogMetricFilter(
            f"{name}-{key}",
            log_group_name=log_group,
            pattern=pattern,
            metric_transformation={
                "namespace": COUNTED,
                "name": metric,
                "value": "1",
                "unit": "Count",
                "dimensions": dict([dimension]),
            },
            opts=opts,
        )


def _rate(
    key: str, description: str, title: str, metrics: tuple[Metric, ...], threshold: float, slo: Slo
) -> AlarmSpec:
    return AlarmSpec(
        key,
        description,
        metrics,
        threshold,
        slo.window_minutes,
        slo.breaching_minutes,
        f"IF(requests > 0, FILL({metrics[1].id}, 0) / requests)",
        title=title,
        unit="%",
        scale=100,
    )
