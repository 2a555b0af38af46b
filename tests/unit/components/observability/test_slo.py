"""The objective: defaults, budgets, and inputs that are refused."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from sixways.checks import Checks
from sixways.observability.slo import Slo, check_slo
from tests.unit.components.test_package import loaded_by


def refused(slo: Any) -> list[str]:
    checks = Checks()
    check_slo(checks, slo)
    return [problem.field for problem in checks.problems]


def test_what_is_left_out_has_a_default() -> None:
    assert Slo.of(None) == Slo.of({}) == Slo(500, 0.95, 0.01, 5, 30)
    assert Slo.of({"latency_ms": 80}) == Slo(latency_ms=80)


def test_the_budgets_are_what_the_objective_leaves() -> None:
    slo = Slo(latency_quantile=0.99, error_rate=0.001)
    assert slo.latency_budget == pytest.approx(0.01)
    assert slo.availability == pytest.approx(0.999)


@pytest.mark.parametrize(("window", "breaching"), [(1, 1), (2, 2), (3, 2), (5, 3), (10, 6)])
def test_an_alarm_fires_when_three_in_five_minutes_miss_the_objective(
    window: int, breaching: int
) -> None:
    assert Slo(window_minutes=window).breaching_minutes == breaching


@pytest.mark.parametrize(
    ("slo", "fields"),
    [
        (None, []),
        ({}, []),
        ({"latency_ms": 1, "latency_quantile": 0.9999, "error_rate": 0.99}, []),
        ({"latency_quantile": 95}, ["slo.latency_quantile"]),
        ({"latency_quantile": 1}, ["slo.latency_quantile"]),
        ({"error_rate": 0}, ["slo.error_rate"]),
        ({"error_rate": 1.0}, ["slo.error_rate"]),
        ({"window_minutes": 2.5}, ["slo.window_minutes"]),
        ({"latency_ms": 0, "period_days": 365}, ["slo.latency_ms", "slo.period_days"]),
        ({"latency": 500}, ["slo.latency"]),
        (500, ["slo"]),
    ],
)
def test_an_objective_is_checked_whole(slo: Any, fields: list[str]) -> None:
    assert refused(slo) == fields


async def test_an_objective_must_be_known_beforehand() -> None:
    assert refused({"latency_ms": pulumi.Output.from_input(500)}) == ["slo"]


def test_the_objective_needs_no_cloud_sdk() -> None:
    loaded = loaded_by("import sixways.observability, sixways.observability.slo")
    assert not loaded & {"pulumi_aws", "boto3", "botocore"}
