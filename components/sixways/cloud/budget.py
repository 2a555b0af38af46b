"""`MonthlyBudget`: AWS says when a month costs, or will cost, more than it should."""

import re
from decimal import Decimal
from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from sixways.checks import Checks, InputsRefused, is_number, is_plain
from sixways.cloud.formats import EMAIL, TOPIC
from sixways.cloud.topic import BUDGETS, create_topic
from sixways.shapes import misfits
from sixways_bundle import Problem

_ACTUAL = [80.0, 100.0]
_FORECAST = [100.0]
_NOTIFICATIONS = 10
_EMAILS = 10
_MOST_PERCENT = 1_000_000
_NAME = re.compile(r"(?!.*/action/)[^:\\]{1,100}")
_TAG = re.compile(r"[^$]{1,128}")


class MonthlyBudgetArgs(TypedDict):
    """Inputs of a `MonthlyBudget`. Another name replaces it; all else changes in place."""

    limit_usd: pulumi.Input[float]
    """What a month may cost, in US dollars."""
    budget_name: NotRequired[pulumi.Input[str]]
    """The budget's name, once in an account: 1 to 100 characters without `:` and `\\`. Default:
    the resource's name and a random end."""
    actual_thresholds: NotRequired[list[float]]
    """Percent of the limit; each is told once it has been spent. Default: [80, 100]."""
    forecast_thresholds: NotRequired[list[float]]
    """Percent of the limit; each is told as soon as AWS expects the month to end above it. AWS
    forecasts after about five weeks of costs. Default: [100]."""
    emails: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Who is told, at most ten addresses. Default: nobody but the topic."""
    topic_arn: NotRequired[pulumi.Input[str]]
    """An SNS topic that is told; its policy, and that of its key, must admit
    budgets.amazonaws.com. Default: none with `emails`; else an own one is created, encrypted with
    an own key, for you to subscribe to."""
    cost_tag_key: NotRequired[pulumi.Input[str]]
    """Counts only what has this tag, with `cost_tag_value`; it must be active as a cost
    allocation tag of the account. Default: everything the account costs."""
    cost_tag_value: NotRequired[pulumi.Input[str]]
    """The value of `cost_tag_key`."""
    tags: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Tags of the budget, the topic and the key. Default: none."""


class MonthlyBudget(pulumi.ComponentResource):
    """A cost budget of AWS Budgets for each calendar month. It tells; it stops nothing."""

    budget_name: pulumi.Output[str]
    """The budget's name."""
    topic_arn: pulumi.Output[str]
    """The SNS topic that is told; empty where only `emails` are."""

    def __init__(
        self, name: str, args: MonthlyBudgetArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Creates the budget.

        Args:
            name: the resource's name.
            args: see `MonthlyBudgetArgs`.
            opts: the usual resource options.

        Raises:
            InputsRefused: an input cannot be used; nothing was created.
        """
        if found := problems(name, args):
            raise InputsRefused(f"MonthlyBudget {name}", found)
        super().__init__("sixways:cloud:MonthlyBudget", name, {}, opts)
        tags = args.get("tags") or {}
        emails = args.get("emails") or []
        topic: pulumi.Input[str] | None = args.get("topic_arn")
        if not topic and not emails:
            topic = create_topic(f"{name}-topic", BUDGETS, tags, self)
        budget = aws.budgets.Budget(
            f"{name}-budget",
            name=args.get("budget_name"),
            budget_type="COST",
            time_unit="MONTHLY",
            limit_amount=pulumi.Output.from_input(args["limit_usd"]).apply(_amount),
            limit_unit="USD",
            cost_filters=_filters(args),
            notifications=[
                {
                    "notification_type": kind,
                    "comparison_operator": "GREATER_THAN",
                    "threshold": float(threshold),
                    "threshold_type": "PERCENTAGE",
                    "subscriber_email_addresses": emails,
                    "subscriber_sns_topic_arns": [topic] if topic else [],
                }
                for kind, threshold in _thresholds(args)
            ],
            tags=tags,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.budget_name = budget.name
        self.topic_arn = pulumi.Output.from_input(topic or "")
        self.register_outputs({"budget_name": self.budget_name, "topic_arn": self.topic_arn})


def problems(name: str, args: MonthlyBudgetArgs) -> list[Problem]:
    """Everything that is wrong with the plain inputs; outputs are passed over.

    Limits: botocore's model of AWS Budgets (BudgetName, NotificationWithSubscribersList,
    Subscribers, Notification).
    """
    checks = Checks()
    checks.known(args, MonthlyBudgetArgs)
    if wrong := [*misfits(args, MonthlyBudgetArgs)]:
        return [*checks.problems, *wrong]  # more would be guesses
    checks.required(args, "limit_usd")
    checks.number("limit_usd", args.get("limit_usd"), 0.01, 1e12)
    accepted = "1 to 100 characters without ':' and '\\', and without /action/"
    checks.matches("budget_name", args.get("budget_name"), _NAME, accepted)
    checks.matches("topic_arn", args.get("topic_arn"), TOPIC, "the ARN of an SNS topic")
    _check_thresholds(checks, args)
    _check_emails(checks, args.get("emails"))
    checks.matches("cost_tag_key", args.get("cost_tag_key"), _TAG, "a tag's key without '$'")
    pair = ("cost_tag_key", "cost_tag_value")
    for one, other in (pair, pair[::-1]):
        if args.get(one) is not None and args.get(other) is None:
            checks.add(other, None, f"a value, since {one} is given", f"add it or remove {one}")
    return checks.problems


def _check_thresholds(checks: Checks, args: MonthlyBudgetArgs) -> None:
    given: Any = args
    for field in ("actual_thresholds", "forecast_thresholds"):
        values = given.get(field)
        if values is None:
            continue
        if not isinstance(values, list) or not is_plain(values):
            checks.add(field, type(values).__name__, "a list that is known before the update")
            return
        for index, value in enumerate(values):
            where = f"{field}[{index}]"
            checks.number(where, value, 0.1, _MOST_PERCENT, fix="give percent of the limit")
            if value in values[:index]:
                checks.add(where, value, "each threshold once", "remove it")
    count = len(_thresholds(args))
    if not 1 <= count <= _NOTIFICATIONS:
        checks.add(
            "actual_thresholds",
            f"{count} together with forecast_thresholds",
            f"1 to {_NOTIFICATIONS} thresholds of both kinds together",
            "add or remove some",
        )


def _check_emails(checks: Checks, emails: Any) -> None:
    if emails is None or isinstance(emails, pulumi.Output):
        return
    if not isinstance(emails, list):
        checks.add("emails", type(emails).__name__, "a list of addresses")
        return
    if len(emails) > _EMAILS:
        checks.add("emails", len(emails), f"at most {_EMAILS} addresses",
                   "use a mailing list, or subscribe to the topic")  # fmt: skip
    for index, email in enumerate(emails):
        checks.matches(f"emails[{index}]", email, EMAIL, "an address, e.g. ops@example.com")
        if email in emails[:index]:
            checks.add(f"emails[{index}]", email, "each address once", "remove it")


def _thresholds(args: MonthlyBudgetArgs) -> list[tuple[str, float]]:
    return [
        *(("ACTUAL", value) for value in args.get("actual_thresholds", _ACTUAL)),
        *(("FORECASTED", value) for value in args.get("forecast_thresholds", _FORECAST)),
    ]


def _filters(args: MonthlyBudgetArgs) -> list[Any]:
    if args.get("cost_tag_key") is None:
        return []
    # How AWS Budgets writes a tag of one's own.
    value = pulumi.Output.concat("user:", args["cost_tag_key"], "$", args["cost_tag_value"])
    return [{"name": "TagKeyValue", "values": [value]}]


def _amount(limit: float) -> str:
    """Never `1e+06`, which AWS does not read."""
    return format(Decimal(str(limit)).normalize(), "f") if is_number(limit) else str(limit)
