"""Usage plans, and the callers' keys in them.

A key of API Gateway cannot change its value, and no two may have the same. So each value is a
resource of its own, named by the caller and the beginning of the value's hash: a rotation makes the
new key beside the old one, which is never touched until it is taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pulumi
import pulumi_aws as aws

from sixways.api.defaults import QUOTA_PERIOD, burst
from sixways.api_key import ApiKey
from sixways.plugin.api_key import sha256


@dataclass(frozen=True)
class Caller:
    """One entry of `keys` with its values.

    Attributes:
        name: who calls.
        plan: the plan that bounds it.
        key: the current key, a secret.
        previous: the one before it, a secret; None: there is none.
    """

    name: str
    plan: str
    key: pulumi.Output[str]
    previous: pulumi.Output[str] | None


@dataclass(frozen=True)
class Place:
    """One key that API Gateway holds.

    Attributes:
        resource: the end of its resources' names: `search-1f0c2a9b`.
        caller: whose it is.
        plan: the plan that bounds it.
        key_id: its id, which logs show.
    """

    resource: str
    caller: str
    plan: str
    key_id: pulumi.Output[str]


Made = tuple[Place, aws.cloudwatch.MetricAlarm | None]
"""A key, and the alarm on its quota."""


def create_plans(
    name: str,
    plans: Sequence[Mapping[str, Any]],
    api_id: pulumi.Input[str],
    stage_name: pulumi.Input[str],
    tags: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> dict[str, aws.apigateway.UsagePlan]:
    """The usage plans by name; a changed limit is changed in place."""
    found: dict[str, aws.apigateway.UsagePlan] = {}
    for plan in plans:
        throttle: Any = None
        quota: Any = None
        if plan.get("requests_per_second") is not None:
            throttle = {"rate_limit": plan["requests_per_second"], "burst_limit": burst(plan)}
        if plan.get("quota") is not None:
            period = pulumi.Output.from_input(plan.get("quota_period") or QUOTA_PERIOD)
            quota = {"limit": plan["quota"], "period": period.apply(str.upper)}
        found[plan["name"]] = aws.apigateway.UsagePlan(
            f"{name}-plan-{plan['name']}",
            description="Sixways",
            api_stages=[{"api_id": api_id, "stage": stage_name}],
            throttle_settings=throttle,
            quota_settings=quota,
            tags=dict(tags),
            opts=opts,
        )
    return found


def callers(
    name: str, keys: Sequence[Mapping[str, Any]], opts: pulumi.ResourceOptions
) -> list[Caller]:
    """The entries with their values; a key that is left out is made at random."""
    found = []
    for key in keys:
        value = key.get("key")
        if value is None:
            value = ApiKey(f"{name}-{key['name']}", opts=opts).key
        previous = key.get("previous_key")
        found.append(
            Caller(
                key["name"],
                key["plan"],
                pulumi.Output.secret(value),
                None if previous is None else pulumi.Output.secret(previous),
            )
        )
    return found


def create_keys(
    name: str,
    found: Sequence[Caller],
    plans: Mapping[str, aws.apigateway.UsagePlan],
    watch: Callable[[Place], aws.cloudwatch.MetricAlarm | None],
    tags: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> pulumi.Output[list[Made]]:
    """The keys, each in its plan. They are shown in a preview once their values are known.

    Args:
        name: the component's name.
        found: the callers.
        plans: the usage plans by name.
        watch: what else is made for a key: its alarm.
        tags: tags of the keys.
        opts: the usual resource options.
    """

    def made(caller: Caller, values: Sequence[str | None]) -> list[Made]:
        places = []
        # A value that is both is one key.
        for value in dict.fromkeys(value for value in values if value):
            resource = f"{caller.name}-{sha256(value)[:8]}"
            key = aws.apigateway.ApiKey(
                f"{name}-key-{resource}",
                description=f"Caller {caller.name}",
                value=pulumi.Output.secret(value),
                tags=dict(tags),
                opts=opts,
            )
            aws.apigateway.UsagePlanKey(
                f"{name}-key-{resource}",
                key_id=key.id,
                key_type="API_KEY",
                usage_plan_id=plans[caller.plan].id,
                opts=pulumi.ResourceOptions.merge(
                    opts,
                    pulumi.ResourceOptions(
                        # A key is in one plan of a stage at a time: AWS refuses a second one.
                        delete_before_replace=True,
                        # AWS tells the key itself here too.
                        additional_secret_outputs=["value"],
                    ),
                ),
            )
            place = Place(resource, caller.name, caller.plan, key.id)
            places.append((place, watch(place)))
        return places

    lists: list[pulumi.Output[list[Made]]] = []
    for caller in found:
        # The names and ids are no secrets; the values stay some.
        values: pulumi.Output[Any] = pulumi.Output.unsecret(
            pulumi.Output.all(caller.key, caller.previous)
        )
        lists.append(values.apply(partial(made, caller)))
    return pulumi.Output.all(*lists).apply(lambda each: [one for part in each for one in part])
