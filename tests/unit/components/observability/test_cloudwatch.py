"""The objective's alarms in CloudWatch: what they read, in which unit, and when they fire."""

from __future__ import annotations

import pytest

from sixways.observability.cloudwatch import (
    AlarmSpec,
    alarm_description,
    alb_slo_alarms,
    percentile,
    sagemaker_slo_alarms,
)
from sixways.observability.slo import Slo
from tests.unit.components.observability.metric_math import names, value

BOTH_FILLS = pytest.mark.parametrize("fill_invents", [True, False])


def of_sagemaker(mode: str = "realtime", slo: Slo | None = None) -> tuple[AlarmSpec, ...]:
    return sagemaker_slo_alarms(slo or Slo(), "shop", "main", mode=mode)


def of_alb() -> tuple[AlarmSpec, ...]:
    return alb_slo_alarms(Slo(), "app/shop/1", "targetgroup/shop/2")


@pytest.mark.parametrize(
    ("quantile", "name"),
    [(0.5, "p50"), (0.57, "p57"), (0.95, "p95"), (0.999, "p99.9"), (0.9999, "p99.99")],
)
def test_a_quantile_is_a_percentile_of_cloudwatch(quantile: float, name: str) -> None:
    assert percentile(quantile) == name


def test_sagemaker_measures_latency_in_microseconds_and_the_load_balancer_in_seconds() -> None:
    sagemaker, _ = of_sagemaker(slo=Slo(latency_ms=250, latency_quantile=0.99))
    assert sagemaker.metrics[0].name == "ModelLatency"
    assert sagemaker.metrics[0].statistic == "p99"
    assert sagemaker.threshold == 250_000
    balancer, _ = of_alb()
    assert balancer.metrics[0].name == "TargetResponseTime"
    assert balancer.threshold == 0.5
    for latency, ms in ((sagemaker, 250), (balancer, 500)):
        assert latency.threshold * latency.scale == pytest.approx(ms)


@pytest.mark.parametrize(
    ("mode", "requests"),
    [("realtime", "Invocations"), ("serverless", "Invocations"), ("async", "ModelLatency")],
)
def test_errors_read_only_what_an_endpoint_of_the_mode_publishes(mode: str, requests: str) -> None:
    _, errors = of_sagemaker(mode)
    read = [metric.name for metric in errors.metrics]
    assert read[0] == requests
    assert ("InvocationModelErrors" in read) == (mode == "realtime")


@pytest.mark.parametrize(
    "spec",
    [*of_sagemaker(), *of_sagemaker("async"), *of_sagemaker("serverless"), *of_alb()],
    ids=lambda spec: f"{spec.key} of {spec.metrics[-1].name}",
)
def test_an_expression_reads_each_metric_of_its_alarm(spec: AlarmSpec) -> None:
    ids = [metric.id for metric in spec.metrics]
    assert len(ids) == len(set(ids))
    assert names(spec.expression) == set(ids) if spec.expression else len(ids) == 1


@BOTH_FILLS
@pytest.mark.parametrize(
    ("requests", "failed", "unusable", "refused", "rate"),
    [
        (100, 2, 2, 0, 0.02),
        (100, 0, 40, 40, 0),  # what callers did wrong is no error of the server
        (100, 1, 46, 40, 0.06),  # five requests got no answer, and count as neither 4xx nor 5xx
        (100, 5, None, 0, 0.05),
        (100, 5, 0, 3, 0.05),
        (100, None, None, None, 0),
        (0, 0, 0, 0, None),
        (None, None, None, None, None),
    ],
)
def test_the_error_rate_of_a_sagemaker_variant(
    requests: float | None,
    failed: float | None,
    unusable: float | None,
    refused: float | None,
    rate: float | None,
    fill_invents: bool,
) -> None:
    _, errors = of_sagemaker()
    data = {"requests": requests, "failed": failed, "unusable": unusable, "refused": refused}
    got = value(errors.expression, data, fill_invents=fill_invents)
    assert got == (None if rate is None else pytest.approx(rate))


@BOTH_FILLS
@pytest.mark.parametrize(
    ("requests", "failed", "unanswered", "rate"),
    [
        (98, 1, 2, 0.03),
        (98, None, 2, 0.02),
        (98, None, None, 0),
        # No healthy target: the load balancer counts no request, and answers 503 to all.
        (None, None, 50, 1),
        (0, None, 50, 1),
        (None, None, None, None),
    ],
)
def test_the_error_rate_behind_a_load_balancer(
    requests: float | None,
    failed: float | None,
    unanswered: float | None,
    rate: float | None,
    fill_invents: bool,
) -> None:
    _, errors = of_alb()
    data = {"requests": requests, "failed": failed, "unanswered": unanswered}
    got = value(errors.expression, data, fill_invents=fill_invents) or (None if rate is None else 0)
    assert got == (None if rate is None else pytest.approx(rate))


def test_an_alarm_says_what_to_do_first_and_links_to_its_section() -> None:
    latency, _ = of_sagemaker()
    text = alarm_description(latency, "https://wiki.example.org/cloud")
    assert "p95" in text
    assert "500 ms" in text
    assert " First: " in text
    assert text.endswith(" Runbook: https://wiki.example.org/cloud#runbook-latency")
