"""What `MonthlyBudget` accepts, and whom its topic admits."""

from __future__ import annotations

import json
from typing import Any, cast

import pulumi
import pytest
from botocore.loaders import Loader

from sixways.cloud import budget as module
from sixways.cloud.budget import MonthlyBudgetArgs, problems
from sixways.cloud.topic import BUDGETS, key_policy, topic_policy

TOPIC = "arn:aws:sns:eu-central-1:123456789012:alarms"


def fields(**changes: Any) -> list[str]:
    args = {"limit_usd": 100, **changes}
    given = {name: value for name, value in args.items() if value is not None}
    return [problem.field for problem in problems("month", cast(MonthlyBudgetArgs, given))]


def test_a_limit_is_enough() -> None:
    assert fields() == []


def test_everything_that_may_be_given_is_accepted() -> None:
    assert fields(
        budget_name="shop month",
        actual_thresholds=[10, 20, 30, 40, 50, 60, 70, 80, 90],
        forecast_thresholds=[120.5],
        emails=[f"person{n}@example.com" for n in range(10)],
        topic_arn=TOPIC,
        cost_tag_key="project",
        cost_tag_value="shop",
        tags={"team": "shop"},
    ) == []  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"limit_usd": None}, "limit_usd"),
        ({"limit_usd": 0}, "limit_usd"),
        ({"limit_usd": -5}, "limit_usd"),
        ({"limit_usd": "100"}, "limit_usd"),
        ({"limit_usd": True}, "limit_usd"),
        ({"limit": 5}, "limit"),
        ({"budget_name": "a:b"}, "budget_name"),
        ({"budget_name": "a/action/b"}, "budget_name"),
        ({"budget_name": "x" * 101}, "budget_name"),
        ({"budget_name": ""}, "budget_name"),
        ({"actual_thresholds": []}, None),
        ({"actual_thresholds": [], "forecast_thresholds": []}, "actual_thresholds"),
        ({"actual_thresholds": list(range(1, 12))}, "actual_thresholds"),
        ({"actual_thresholds": [80, 80]}, "actual_thresholds[1]"),
        ({"actual_thresholds": [0]}, "actual_thresholds[0]"),
        ({"actual_thresholds": 80}, "actual_thresholds"),
        ({"forecast_thresholds": ["high"]}, "forecast_thresholds[0]"),
        ({"forecast_thresholds": [2_000_000]}, "forecast_thresholds[0]"),
        ({"emails": ["ops"]}, "emails[0]"),
        ({"emails": ["a@b.de", "a@b.de"]}, "emails[1]"),
        ({"emails": [f"p{n}@b.de" for n in range(11)]}, "emails"),
        ({"emails": "a@b.de"}, "emails"),
        ({"topic_arn": "alarms"}, "topic_arn"),
        ({"cost_tag_key": "project"}, "cost_tag_value"),
        ({"cost_tag_value": "shop"}, "cost_tag_key"),
        ({"cost_tag_key": "a$b", "cost_tag_value": "shop"}, "cost_tag_key"),
    ],
)
def test_a_bad_input_names_its_field(changes: dict[str, Any], field: str | None) -> None:
    assert fields(**changes) == ([] if field is None else [field])


def test_outputs_are_passed_over() -> None:
    output = pulumi.Output.from_input("later")
    assert fields(limit_usd=output, budget_name=output, topic_arn=output, emails=output) == []


def test_the_limits_are_those_of_the_service() -> None:
    shapes = Loader().load_service_model("budgets", "service-2")["shapes"]
    assert shapes["NotificationWithSubscribersList"]["max"] == module._NOTIFICATIONS
    assert shapes["Subscribers"]["max"] == module._EMAILS + 1
    assert shapes["BudgetName"]["max"] == 100


@pytest.mark.parametrize(
    ("limit", "amount"), [(100, "100"), (100.5, "100.5"), (1_000_000, "1000000"), (0.01, "0.01")]
)
def test_a_limit_is_written_as_aws_reads_it(limit: float, amount: str) -> None:
    assert module._amount(limit) == amount


def test_only_budgets_of_this_account_use_topic_and_key() -> None:
    account = "123456789012"
    publish, refuse = topic_policy(BUDGETS, TOPIC, account, "aws")["Statement"]
    administer, encrypt = key_policy(BUDGETS, account, "aws")["Statement"]
    for statement in (publish, encrypt):
        assert statement["Principal"] == {"Service": "budgets.amazonaws.com"}
        assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": account}
        assert statement["Condition"]["ArnLike"] == {
            "aws:SourceArn": f"arn:aws:budgets::{account}:*"
        }
    assert refuse["Effect"] == "Deny"
    assert administer["Principal"] == {"AWS": f"arn:aws:iam::{account}:root"}
    actions = json.dumps([s["Action"] for s in (publish, administer, encrypt)])
    assert "*" not in actions
