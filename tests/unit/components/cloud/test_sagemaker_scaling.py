"""What is refused of autoscaling before anything is created."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest
from botocore.loaders import Loader

from sixways.checks import Checks
from sixways.cloud.sagemaker.release import Released
from sixways.cloud.sagemaker.scaling import _PREDEFINED, check_scaling
from sixways.cloud.sagemaker.schedules import why_no_schedule

_GOOD: dict[str, dict[str, Any]] = {
    "real-time": {"max_instances": 4, "concurrent_requests": 5},
    "async": {"max_instances": 4, "backlog_per_instance": 5},
    "serverless": {"max_instances": 4, "provisioned_concurrency_utilization": 0.7},
}


def _found(scaling: dict[str, Any], mode: str = "real-time", **more: Any) -> list[str]:
    checks = Checks()
    check_scaling(checks, scaling, "scaling.", mode=mode, **{"dev": False, **more})
    return [problem.field for problem in checks.problems]


@pytest.mark.parametrize("mode", _GOOD)
def test_the_least_that_a_mode_needs_is_accepted(mode: str) -> None:
    assert _found(_GOOD[mode], mode) == []


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"min_instances": 5}, "min_instances"),
        ({"min_instances": 1}, "min_instances"),
        ({"min_instances": True}, "min_instances"),
        ({"max_instances": 1}, "max_instances"),
        ({"max_instances": None}, "max_instances"),
        ({"concurrent_requests": 0}, "concurrent_requests"),
        ({"invocations_per_instance": -1}, "invocations_per_instance"),
        ({"invocations_per_instance": "many"}, "invocations_per_instance"),
        ({"backlog_per_instance": 3}, "backlog_per_instance"),
        ({"scale_in_cooldown": -1}, "scale_in_cooldown"),
        ({"scale_out_cooldown": 1.5}, "scale_out_cooldown"),
        ({"max_instance": 4}, "max_instance"),
    ],
)
def test_a_wrong_value_is_named_by_its_field(changed: dict[str, Any], field: str) -> None:
    assert f"scaling.{field}" in _found({**_GOOD["real-time"], **changed})


def test_every_problem_is_told_at_once() -> None:
    scaling = {"min_instances": 9, "max_instances": 3, "concurrent_requests": 0, "typo": 1}
    assert set(_found(scaling)) == {
        "scaling.typo",
        "scaling.min_instances",
        "scaling.concurrent_requests",
    }


def test_one_instance_needs_dev() -> None:
    one = {**_GOOD["real-time"], "min_instances": 1}
    assert _found(one) == ["scaling.min_instances"]
    assert _found(one, dev=True) == []


def test_no_instance_at_all_needs_a_queue() -> None:
    assert _found({**_GOOD["real-time"], "min_instances": 0}, dev=True) == ["scaling.min_instances"]
    assert _found({**_GOOD["async"], "min_instances": 0}, "async") == []
    assert _found({**_GOOD["serverless"], "min_instances": 0}, "serverless")


def test_a_queue_that_may_empty_the_variant_needs_a_target() -> None:
    night = {"name": "night", "schedule": "rate(1 day)", "max_instances": 1}
    scaling = {"max_instances": 4, "schedules": [night]}
    assert _found(scaling, "async") == ["scaling.backlog_per_instance"]
    assert _found({**scaling, "min_instances": 1}, "async") == []


def test_scaling_by_nothing_is_refused() -> None:
    assert _found({"max_instances": 4}) == ["scaling"]


def test_the_share_of_provisioned_concurrency_is_at_most_all_of_it() -> None:
    over = {**_GOOD["serverless"], "provisioned_concurrency_utilization": 70}
    assert _found(over, "serverless") == ["scaling.provisioned_concurrency_utilization"]
    assert _found({**_GOOD["serverless"], "max_instances": 201}, "serverless")


def test_the_initial_count_lies_within_the_limits() -> None:
    assert _found(_GOOD["real-time"], instances=2) == []
    assert _found(_GOOD["real-time"], instances=5) == ["scaling.min_instances"]
    assert _found(_GOOD["async"], "async", instances=1) == []


async def test_values_that_are_not_known_yet_are_passed_over() -> None:
    later: Any = pulumi.Output.from_input(3)
    scaling = {"min_instances": later, "max_instances": later, "concurrent_requests": later}
    assert _found(scaling) == []


def _schedule(**changed: Any) -> dict[str, Any]:
    return {"name": "a", "schedule": "rate(2 hours)", "min_instances": 2, **changed}


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": "a:b"}, "[0].name"),
        ({"name": ""}, "[0].name"),
        ({"name": "x" * 257}, "[0].name"),
        ({"name": " a"}, "[0].name"),
        ({"schedule": "0 7 * * *"}, "[0].schedule"),
        ({"timezone": "Europe/Berln"}, "[0].timezone"),
        ({"min_instances": None}, "[0]"),
        ({"min_instances": 1}, "[0].min_instances"),
        ({"max_instances": 1}, "[0].max_instances"),
        ({"min_instances": 4, "max_instances": 3}, "[0].min_instances"),
        ({"start_time": "2030-01-01T00:00:00"}, "[0].start_time"),
        ({"start_time": "tomorrow"}, "[0].start_time"),
        (
            {"start_time": "2030-01-02T00:00:00Z", "end_time": "2030-01-01T00:00:00Z"},
            "[0].end_time",
        ),
        ({"when": "noon"}, "[0].when"),
    ],
)
def test_a_wrong_schedule_is_named_by_its_place(changed: dict[str, Any], field: str) -> None:
    scaling = {**_GOOD["real-time"], "schedules": [_schedule(**changed)]}
    assert f"scaling.schedules{field}" in _found(scaling)


def test_two_schedules_of_one_name_are_refused() -> None:
    scaling = {**_GOOD["real-time"], "schedules": [_schedule(), _schedule()]}
    assert _found(scaling) == ["scaling.schedules[1].name"]


def test_good_schedules_are_accepted() -> None:
    times = {"start_time": "2030-01-01T00:00:00Z", "end_time": "2031-01-01T00:00:00+01:00"}
    scaling = {
        **_GOOD["real-time"],
        "schedules": [_schedule(**times), _schedule(name="b c", timezone="Europe/Berlin")],
    }
    assert _found(scaling) == []


@pytest.mark.parametrize(
    "expression",
    [
        "cron(0 7 ? * MON-FRI *)",
        "cron(0/15 8-18 1,15 JAN-MAR ? 2030)",
        "cron(30 22 L * ? *)",
        "cron(0 10 ? * 6#3 2030-2032)",
        "at(2030-02-28T08:00:00)",
        "rate(1 minute)",
        "rate(90 days)",
    ],
)
def test_what_aws_takes_is_a_schedule(expression: str) -> None:
    assert why_no_schedule(expression) is None


@pytest.mark.parametrize(
    "expression",
    [
        "cron(0 7 * * *)",
        "cron(60 7 ? * * *)",
        "cron(0 24 ? * * *)",
        "cron(0 7 * * * *)",
        "cron(0 7 ? * ? *)",
        "cron(0 7 ? * FRY *)",
        "cron(0/0 7 ? * * *)",
        "cron(0 7 ? 13 * *)",
        "cron(? 7 ? * * *)",
        "at(2030-02-30T08:00:00)",
        "at(2030-02-28)",
        "rate(0 hours)",
        "rate(5 weeks)",
        "every morning",
        "cron(0 7 ? * * *",
    ],
)
def test_what_aws_refuses_is_no_schedule(expression: str) -> None:
    assert why_no_schedule(expression)


def test_the_metrics_are_those_of_the_api() -> None:
    shapes = Loader().load_service_model("application-autoscaling", "service-2")["shapes"]
    assert set(_PREDEFINED.values()) <= set(shapes["MetricType"]["enum"])
    assert "sagemaker:variant:DesiredInstanceCount" in shapes["ScalableDimension"]["enum"]
    assert "sagemaker:variant:DesiredProvisionedConcurrency" in shapes["ScalableDimension"]["enum"]


def test_where_aws_cannot_be_asked_the_update_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warned.append)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    Released("no-such-profile").before(
        pulumi.ResourceHookArgs(
            urn="",
            id="e",
            name="endpoint",
            type="",
            old_inputs={"endpointConfigName": "old"},
            new_inputs={"endpointConfigName": "new"},
            old_outputs={"arn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/e"},
        )
    )
    (warning,) = warned
    assert "no-such-profile" in warning
