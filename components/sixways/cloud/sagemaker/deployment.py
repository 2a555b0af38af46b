"""How an update moves the traffic: SageMaker's blue/green deployments and their way back.

Limits are those of SageMaker's API (`TrafficRoutingConfig`, `BlueGreenUpdatePolicy`,
`AutoRollbackConfig` in botocore's model) and of AWS's pages "Canary traffic shifting" and
"Linear traffic shifting".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from sixways.checks import Checks, is_number, is_plain
from sixways.cloud.sagemaker.args import SageMakerDeploymentArgs

ALL_AT_ONCE, CANARY, LINEAR = "all-at-once", "canary", "linear"
STRATEGIES = (ALL_AT_ONCE, CANARY, LINEAR)
PERCENT, INSTANCES = "CAPACITY_PERCENT", "INSTANCE_COUNT"
MOST_ALARMS = 10
_LEAST_PERCENT = {CANARY: 1, LINEAR: 10}
_MOST_PERCENT = 50
_SIZE = {CANARY: 10, LINEAR: 25}
_STEP_WAIT, _LAST_WAIT = 300, 600


def check_deployment(checks: Checks, deployment: Any, counts: Sequence[object]) -> None:
    """Checks how updates move the traffic.

    Args:
        checks: collects the problems.
        deployment: `SageMakerDeploymentArgs` as given, or None.
        counts: the instances of each variant that callers reach.
    """
    if deployment is None:
        return
    if not isinstance(deployment, dict):
        checks.add("deployment", type(deployment).__name__, "a dict of its fields")
        return
    checks.known(deployment, SageMakerDeploymentArgs, "deployment.")
    strategy = deployment.get("strategy", ALL_AT_ONCE)
    checks.one_of("deployment.strategy", strategy, STRATEGIES)
    checks.one_of("deployment.size_type", deployment.get("size_type"), (PERCENT, INSTANCES))
    for field in ("wait_seconds", "termination_wait_seconds"):
        checks.number(f"deployment.{field}", deployment.get(field), 0, 3600, whole=True)
    checks.number("deployment.max_seconds", deployment.get("max_seconds"), 600, 28800, whole=True)
    if strategy in (CANARY, LINEAR):
        _check_size(checks, deployment, strategy, [c for c in counts if is_number(c)])
    elif deployment.get("size") is not None:
        checks.add(
            "deployment.size", deployment["size"], "nothing with all-at-once", "remove it, "
            "or choose canary or linear",
        )  # fmt: skip
    _check_time(checks, deployment, strategy)


def _check_size(
    checks: Checks, deployment: dict[str, Any], strategy: str, counts: list[float]
) -> None:
    few = int(min(counts, default=2))
    if few < 2:
        checks.add(
            "deployment.strategy", strategy, "all-at-once where a variant has one instance",
            "give every variant at least 2 instances: the first step is at most half of them",
        )  # fmt: skip
    least, most = _LEAST_PERCENT[strategy], _MOST_PERCENT
    if few >= 2 and deployment.get("size_type") == INSTANCES:
        # Of the variant with the fewest instances, where the share of a step is the largest.
        least, most = max(1, math.ceil(few * least / 100)), few * _MOST_PERCENT // 100
    checks.number(
        "deployment.size", deployment.get("size"), least, most, whole=True,
        fix=f"a step of {strategy} is at most half of the instances",
    )  # fmt: skip


def _check_time(checks: Checks, deployment: dict[str, Any], strategy: str) -> None:
    whole = deployment.get("max_seconds")
    if not is_plain(deployment) or not is_number(whole):
        return
    size = deployment.get("size", _SIZE.get(strategy))
    # The least that is sure: of instances, how many steps there are is not known here.
    steps = 0 if strategy == ALL_AT_ONCE else 1
    percent = deployment.get("size_type", PERCENT) == PERCENT
    if strategy == LINEAR and percent and is_number(size) and size > 0:
        steps = math.ceil(100 / size) - 1
    waits = [
        deployment.get("wait_seconds", _STEP_WAIT),
        deployment.get("termination_wait_seconds", _LAST_WAIT),
    ]
    if all(is_number(wait) for wait in waits) and whole <= steps * waits[0] + waits[1]:
        checks.add(
            "deployment.max_seconds", whole,
            f"more than the {steps * waits[0] + waits[1]} seconds of all its waiting",
            "give it more, or wait less",
        )  # fmt: skip


def deployment_config(
    deployment: SageMakerDeploymentArgs, alarm_names: Sequence[pulumi.Input[str]]
) -> aws.sagemaker.EndpointDeploymentConfigArgsDict:
    """The deployment of every update of the endpoint, undone where one of the alarms fires."""
    strategy = deployment.get("strategy", ALL_AT_ONCE)
    kind = deployment.get("size_type", PERCENT)
    size = deployment.get("size", _SIZE.get(strategy, 1) if kind == PERCENT else 1)
    stepwise = strategy in (CANARY, LINEAR)
    return {
        "blue_green_update_policy": {
            "traffic_routing_configuration": {
                "type": strategy.upper().replace("-", "_"),
                "wait_interval_in_seconds": deployment.get(
                    "wait_seconds", _STEP_WAIT if stepwise else 0
                ),
                "canary_size": {"type": kind, "value": size} if strategy == CANARY else None,
                "linear_step_size": {"type": kind, "value": size} if strategy == LINEAR else None,
            },
            "termination_wait_in_seconds": deployment.get("termination_wait_seconds", _LAST_WAIT),
            "maximum_execution_timeout_in_seconds": deployment.get("max_seconds"),
        },
        "auto_rollback_configuration": {"alarms": [{"alarm_name": name} for name in alarm_names]},
    }
