"""Copies of a model on shared instances: what one needs, how many there are, what does not fit.

Limits are those of botocore's model: InferenceComponentComputeResourceRequirements and
ProductionVariantManagedInstanceScaling.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi

from sixways.checks import Checks, InputsRefused, is_number
from sixways.cloud.formats import SAGEMAKER_NAME
from sixways.cloud.instances import Instance, instance
from sixways.cloud.sagemaker.scaling import LONGEST_COOLDOWN_S, MOST_INSTANCES
from sixways_bundle import Problem

CONCURRENT_REQUESTS = 5.0
"""As AWS has it in its own example."""
MEMORY_SHARE = 0.7
"""Of an instance's memory, what a copy may have: the rest is for the system and SageMaker's agents,
and a copy that asks for more than is free is never placed."""


class SageMakerCopiesArgs(TypedDict):
    """The copies of one model: what one of them needs, and how many there are."""

    cpus: NotRequired[pulumi.Input[float]]
    """Virtual CPUs of one copy, at least 0.25. Default: all but one of the instance's; none
    reserved where it has accelerators."""
    accelerators: NotRequired[pulumi.Input[float]]
    """GPUs of one copy, whole ones. Default: all that the instance has."""
    memory_mb: NotRequired[pulumi.Input[int]]
    """Memory of one copy in MB, at least 128. Default: 70 % of the instance's."""
    count: NotRequired[pulumi.Input[int]]
    """Copies at the start, and again when anything here changes. Default: 1, so that a deployment
    shows whether the model starts."""
    min_count: NotRequired[pulumi.Input[int]]
    """Least copies. Default: 0."""
    max_count: NotRequired[pulumi.Input[int]]
    """Most copies. Default: as many as there may be instances."""
    concurrent_requests: NotRequired[pulumi.Input[float]]
    """Target: requests that one copy works on at the same time. Default: 5, and none where
    `invocations_per_copy` is given."""
    invocations_per_copy: NotRequired[pulumi.Input[float]]
    """Target: requests a minute and copy. Default: none."""
    scale_out_cooldown: NotRequired[pulumi.Input[int]]
    """Seconds from one growth to the next. Default: 60."""
    scale_in_cooldown: NotRequired[pulumi.Input[int]]
    """Seconds from one shrinking to the next. Default: 300."""


class SageMakerScaleToZeroArgs(TypedDict):
    """An endpoint that costs nothing while nobody asks.

    The first request after a pause fails and wakes it; for the minutes until an instance stands and
    the model is loaded, requests fail. Callers must try again, and name the model they ask
    (`InferenceComponentName`).
    """

    min_instances: NotRequired[pulumi.Input[int]]
    """Least instances. Default: 0."""
    max_instances: pulumi.Input[int]
    """Most instances."""
    copies: NotRequired[dict[str, SageMakerCopiesArgs]]
    """The copies of each model, by the variant's name. Default: one copy fills an instance."""


def check_scale_to_zero(
    checks: Checks,
    scaling: Mapping[str, Any],
    prefix: str,
    *,
    instance_type: object,
    models: Sequence[str],
) -> None:
    """Collects what AWS would refuse, or could never place.

    Args:
        checks: takes the problems.
        scaling: the `SageMakerScaleToZeroArgs` as the user gave them.
        prefix: names them in messages, with its dot: `scale_to_zero.`.
        instance_type: of the instances; an output is passed over.
        models: the names of the models.
    """
    checks.known(scaling, SageMakerScaleToZeroArgs, prefix)
    checks.required(scaling, "max_instances", prefix=prefix)
    low, high = scaling.get("min_instances", 0), scaling.get("max_instances")
    checks.number(f"{prefix}min_instances", low, 0, MOST_INSTANCES, whole=True)
    checks.number(f"{prefix}max_instances", high, 1, MOST_INSTANCES, whole=True)
    if is_number(low) and is_number(high) and low > high:
        checks.add(f"{prefix}min_instances", low, f"at most max_instances, {high}")
    for model in models:
        if not SAGEMAKER_NAME.fullmatch(model):
            accepted = "letters, digits and hyphens, at most 63, no hyphen at either end"
            checks.add(f"{prefix}copies.{model}", model, accepted)
    copies = scaling.get("copies") or {}
    for model in sorted(set(copies) - {*models}):
        checks.add(f"{prefix}copies.{model}", model, ", ".join(models), "name one of the variants")
    machine = instance(instance_type) if isinstance(instance_type, str) else None
    for model in models:
        given = copies.get(model, {})
        where = f"{prefix}copies.{model}."
        _check_copies(checks, given, where, high)
        if machine is not None:
            _check_fit(checks, given, where, machine, high)
        elif isinstance(instance_type, str):
            checks.required(given, "memory_mb", prefix=where)


def _check_copies(checks: Checks, given: Mapping[str, Any], where: str, instances: object) -> None:
    checks.known(given, SageMakerCopiesArgs, where)
    low, high = given.get("min_count", 0), given.get("max_count", instances)
    checks.number(f"{where}min_count", low, 0, MOST_INSTANCES, whole=True)
    checks.number(f"{where}max_count", given.get("max_count"), 1, MOST_INSTANCES, whole=True)
    if is_number(low) and is_number(high) and high > 0:
        if low > high:
            checks.add(f"{where}min_count", low, f"at most max_count, {high}")
        else:
            checks.number(f"{where}count", given.get("count"), low, high, whole=True)
    checks.number(f"{where}cpus", given.get("cpus"), 0.25, 1024)
    checks.number(f"{where}accelerators", given.get("accelerators"), 1, 64, whole=True)
    checks.number(f"{where}memory_mb", given.get("memory_mb"), 128, 2**25, whole=True)
    for field in ("concurrent_requests", "invocations_per_copy"):
        value = given.get(field)
        if value is None or isinstance(value, pulumi.Output):
            continue
        if not is_number(value) or value <= 0:
            checks.add(f"{where}{field}", value, "a number over 0")
    for field in ("scale_out_cooldown", "scale_in_cooldown"):
        checks.number(f"{where}{field}", given.get(field), 0, LONGEST_COOLDOWN_S, whole=True)


def _check_fit(
    checks: Checks, given: Mapping[str, Any], where: str, machine: Instance, instances: object
) -> None:
    """One copy fits an instance, and as many as there may be fit all of them."""
    has = {
        "cpus": machine.vcpus,
        "accelerators": machine.accelerators,
        "memory_mb": machine.memory_mib,
    }
    fit = []
    for field, amount in has.items():
        asked = given.get(field)
        if not is_number(asked) or asked <= 0:
            continue
        if asked > amount:
            accepted = f"at most {amount}, which {machine.name} has"
            checks.add(f"{where}{field}", asked, accepted, "ask for less or take a larger type")
        fit.append(int(amount // asked))
    high = given.get("max_count", instances)
    if fit and is_number(high) and is_number(instances) and 0 < min(fit) * instances < high:
        accepted = f"at most {min(fit) * instances:g}, {min(fit)} on each of {instances} instances"
        checks.add(f"{where}max_count", high, accepted, "raise max_instances or ask for less")


def requirements(instance_type: str, copies: Mapping[str, Any]) -> dict[str, Any]:
    """What one copy needs, as `pulumi_aws_native` names it.

    Args:
        instance_type: of the instances.
        copies: the `SageMakerCopiesArgs`, all known.

    Raises:
        InputsRefused: nothing is known of the type here, and `memory_mb` is not given.
    """
    machine = instance(instance_type)
    cpus, accelerators = copies.get("cpus"), copies.get("accelerators")
    memory = copies.get("memory_mb")
    if machine is not None:
        memory = memory or int(machine.memory_mib * MEMORY_SHARE)
        if machine.accelerators:
            accelerators = accelerators or machine.accelerators
        else:
            cpus = cpus or max(machine.vcpus - 1, 1)
    if memory is None:
        accepted = f"a value, since {instance_type} is not known here"
        raise InputsRefused("scale to zero", [Problem("memory_mb", "", accepted, "add memory_mb")])
    needs = {
        "number_of_cpu_cores_required": cpus,
        "number_of_accelerator_devices_required": accelerators,
        "min_memory_required_in_mb": memory,
    }
    return {field: value for field, value in needs.items() if value is not None}
