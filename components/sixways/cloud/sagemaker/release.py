"""Autoscaling and updates of an endpoint: what leaves first, and what the new fleet starts with.

SageMaker refuses an update that removes a variant, or changes its instance type, while the variant
is registered with Application Auto Scaling. Pulumi deletes only at the end of an update, so the
registration would still stand. `around_updates` therefore takes just those variants out right
before the endpoint is updated, and puts them back right after it with their policies and schedules,
which go with a registration. Also where the update failed or was rolled back: an endpoint that no
longer scales would be noticed too late. The `replacement_trigger` in `scaling.py` then makes Pulumi
create anew what it knows.

Every update starts the new fleet with the `initial_instance_count` of the new endpoint
configuration, not with the count that autoscaling had reached: UpdateEndpoint keeps that only with
RetainAllVariantProperties, which the AWS provider does not offer. The count then grows by the
targets. So the initial count is the variant's own input, and `check_scaling` holds it within the
limits; whoever deploys in the hour of most traffic raises it first.
"""

from contextlib import closing
from typing import Any

import pulumi
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

_WHICH = ("ServiceNamespace", "ResourceId", "ScalableDimension")
_TARGET = ("MinCapacity", "MaxCapacity", "SuspendedState")
_POLICY = (
    "PolicyName",
    "PolicyType",
    "StepScalingPolicyConfiguration",
    "TargetTrackingScalingPolicyConfiguration",
)
_SCHEDULE = (
    "ScheduledActionName",
    "Schedule",
    "Timezone",
    "StartTime",
    "EndTime",
    "ScalableTargetAction",
)


def around_updates(name: str) -> pulumi.ResourceHookBinding:
    """Hooks for the endpoint, a `pulumi_aws.sagemaker.Endpoint`: see the head of this file.

    They speak to AWS with the credentials of the environment, or of the profile in `aws:profile`.
    Where they cannot, they warn and let the update go: if AWS refuses it then, deploy once without
    `scaling` and then with it.

    Args:
        name: the hooks' names begin with it; unique in the stack.
    """
    released = Released(pulumi.Config("aws").get("profile"))
    return pulumi.ResourceHookBinding(
        before_update=[pulumi.ResourceHook(f"{name}-release", released.before)],
        after_update=[pulumi.ResourceHook(f"{name}-register", released.after)],
        on_error=[pulumi.ErrorHook(f"{name}-restore", released.failed)],
    )


class Released:
    """What one update takes out of autoscaling for a while."""

    def __init__(self, profile: str | None) -> None:
        self._profile = profile
        # Calls that bring it back, and whether the new configuration still has the variant.
        self._again: list[tuple[str, dict[str, Any], bool]] = []

    def before(self, args: pulumi.ResourceHookArgs) -> None:
        """Before the update."""
        old = (args.old_inputs or {}).get("endpointConfigName")
        new = (args.new_inputs or {}).get("endpointConfigName")
        if old == new or not isinstance(old, str) or not isinstance(new, str):
            return
        try:
            self._release(args, old, new)
        except (BotoCoreError, ClientError) as error:
            pulumi.log.warn(f"{args.name}: whether variants must leave autoscaling first: {error}")

    def after(self, args: pulumi.ResourceHookArgs) -> None:
        """After an update that went well: its new configuration holds."""
        self._restore(args, gone=False)

    def failed(self, args: pulumi.ErrorHookArgs) -> bool:
        """After one that did not: the old configuration holds. False: it is not tried again."""
        self._restore(args, gone=True)
        return False

    def _release(self, args: pulumi.ResourceHookArgs, old: str, new: str) -> None:
        with (
            closing(self._client("sagemaker", args)) as sagemaker,
            closing(self._client("application-autoscaling", args)) as scaling,
        ):
            before, after = _types(sagemaker, old), _types(sagemaker, new)
            for variant in before:
                if after.get(variant) == before[variant]:
                    continue
                resource = f"endpoint/{args.id}/variant/{variant}"
                calls = _calls(scaling, resource)
                for call, parameters in calls:
                    self._again.append((call, parameters, variant in after))
                    if call == "register_scalable_target":
                        which = {key: parameters[key] for key in _WHICH}
                        scaling.deregister_scalable_target(**which)

    def _restore(self, args: pulumi.ResourceHookArgs | pulumi.ErrorHookArgs, *, gone: bool) -> None:
        again, self._again = self._again, []
        wanted = [(call, parameters) for call, parameters, stays in again if stays or gone]
        if not wanted:
            return
        try:
            with closing(self._client("application-autoscaling", args)) as scaling:
                for call, parameters in wanted:
                    getattr(scaling, call)(**parameters)
        except (BotoCoreError, ClientError) as error:
            pulumi.log.warn(
                f"{args.name}: variants left autoscaling and are not back: {error}; "
                "`pulumi up --refresh` brings them back"
            )

    def _client(self, service: str, args: pulumi.ResourceHookArgs | pulumi.ErrorHookArgs) -> Any:
        region = str((args.old_outputs or {})["arn"]).split(":")[3]
        return Session(profile=self._profile).create_client(service, region_name=region)


def _types(sagemaker: Any, config: str) -> dict[str, str | None]:
    """The instance type of each variant; None where it is serverless."""
    variants = sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    return {variant["VariantName"]: variant.get("InstanceType") for variant in variants}


def _calls(scaling: Any, resource: str) -> list[tuple[str, dict[str, Any]]]:
    """The calls that make a variant's registration, its policies and schedules as they are."""
    one = {"ServiceNamespace": "sagemaker", "ResourceId": resource}
    targets = scaling.describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[resource]
    )
    policies = scaling.describe_scaling_policies(**one)
    schedules = scaling.describe_scheduled_actions(**one)
    found = [
        *(("register_scalable_target", _TARGET, item) for item in targets["ScalableTargets"]),
        *(("put_scaling_policy", _POLICY, item) for item in policies["ScalingPolicies"]),
        *(("put_scheduled_action", _SCHEDULE, item) for item in schedules["ScheduledActions"]),
    ]
    return [
        (call, {key: item[key] for key in (*_WHICH, *keys) if item.get(key) is not None})
        for call, keys, item in found
    ]
