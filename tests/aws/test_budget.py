"""`MonthlyBudget` from nothing to nothing: told by its own topic, by e-mail, by a given topic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.aws.server import ACCOUNT, Aws
from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.aws
_PROGRAM = """
import json
import pulumi
from sixways.cloud import MonthlyBudget

budget = MonthlyBudget("month", json.loads(pulumi.Config().require("args")))
pulumi.export("budget_name", budget.budget_name)
pulumi.export("topic_arn", budget.topic_arn)
"""


def budget(aws: Aws, name: str) -> dict[str, Any]:
    answer = aws.client("budgets").describe_budget(AccountId=ACCOUNT, BudgetName=name)
    found: dict[str, Any] = answer["Budget"]
    return found


def told(aws: Aws, name: str) -> dict[tuple[str, float], list[str]]:
    """By kind and percent: who is told."""
    budgets = aws.client("budgets")
    where = {"AccountId": ACCOUNT, "BudgetName": name}
    found = {}
    for note in budgets.describe_notifications_for_budget(**where)["Notifications"]:
        subscribers = budgets.describe_subscribers_for_notification(Notification=note, **where)
        assert note["ComparisonOperator"] == "GREATER_THAN"
        found[note["NotificationType"], note["Threshold"]] = sorted(
            subscriber["Address"] for subscriber in subscribers["Subscribers"]
        )
    return found


def test_the_whole_life_of_a_budget(aws: Aws, aws_env: dict[str, str], project: Path) -> None:
    (project / "__main__.py").write_text(_PROGRAM)
    with Stack(project, aws_env) as stack:
        args: dict[str, Any] = {"limit_usd": 250, "budget_name": "shop"}
        stack.config(args=json.dumps(args))
        stack.up("--skip-preview")
        out = stack.outputs()
        assert out["budget_name"] == "shop"
        topic = out["topic_arn"]
        assert told(aws, "shop") == {
            ("ACTUAL", 80.0): [topic],
            ("ACTUAL", 100.0): [topic],
            ("FORECASTED", 100.0): [topic],
        }
        made = budget(aws, "shop")
        assert (made["BudgetType"], made["TimeUnit"]) == ("COST", "MONTHLY")
        assert made["BudgetLimit"] == {"Amount": "250", "Unit": "USD"}
        check_the_topic(aws, topic)
        stack.up("--expect-no-changes")

        # Limit, thresholds, filter and whom it tells change in place.
        args |= {
            "limit_usd": 1_000_000.5,
            "actual_thresholds": [50],
            "forecast_thresholds": [],
            "emails": ["ops@example.com", "boss@example.com"],
            "tags": {"team": "shop"},  # the server forgets those given when it is created
            "cost_tag_key": "project",
            "cost_tag_value": "shop",
        }
        other = aws.client("sns").create_topic(Name="given")["TopicArn"]
        args["topic_arn"] = other
        stack.config(args=json.dumps(args))
        assert "replaced" not in stack.up("--skip-preview").stdout
        changed = budget(aws, "shop")
        assert changed["BudgetLimit"] == {"Amount": "1000000.5", "Unit": "USD"}
        assert changed["CostFilters"] == {"TagKeyValue": ["user:project$shop"]}
        assert told(aws, "shop") == {
            ("ACTUAL", 50.0): sorted(["ops@example.com", "boss@example.com", other])
        }
        assert stack.outputs()["topic_arn"] == other
        arn = f"arn:aws:budgets::{ACCOUNT}:budget/shop"
        tags = aws.client("budgets").list_tags_for_resource(ResourceARN=arn)["ResourceTags"]
        assert tags == [{"Key": "team", "Value": "shop"}]
        stack.up("--expect-no-changes")

        # Another name is another budget; e-mail alone needs no topic.
        del args["topic_arn"]
        stack.config(args=json.dumps({**args, "budget_name": "store"}))
        assert "replaced" in stack.up("--skip-preview").stdout
        names = aws.client("budgets").describe_budgets(AccountId=ACCOUNT)["Budgets"]
        assert [one["BudgetName"] for one in names] == ["store"]
        assert stack.outputs()["topic_arn"] == ""
        aws.client("sns").delete_topic(TopicArn=other)

        # Bad input: everything at once, and the budget stays as it is.
        stack.config(args=json.dumps({"limit_usd": 0, "emails": ["nobody"], "limit": 5}))
        refused = stack.up("--skip-preview", check=False)
        assert refused.returncode != 0
        for part in ("limit_usd: '0'", "emails[0]: 'nobody'", "limit: 'limit'"):
            assert part in refused.stdout
        assert aws.left() == ["budgets Budgets store"]
    assert aws.left() == []


def check_the_topic(aws: Aws, topic: str) -> None:
    """Budgets of this account may publish to it, and use its key."""
    attributes = aws.client("sns").get_topic_attributes(TopicArn=topic)["Attributes"]
    publish, refuse = json.loads(attributes["Policy"])["Statement"]
    assert publish["Principal"] == {"Service": "budgets.amazonaws.com"}
    assert publish["Resource"] == topic
    assert publish["Condition"]["StringEquals"] == {"aws:SourceAccount": ACCOUNT}
    assert refuse["Effect"] == "Deny"
    key = attributes["KmsMasterKeyId"]
    kms = aws.client("kms")
    policy = json.loads(kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"])
    assert policy["Statement"][1]["Principal"] == {"Service": "budgets.amazonaws.com"}
    assert kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
