"""Autoscaling and updates of an endpoint: what leaves first, and what the new fleet starts with.

SageMaker refuses an update that removes a variant, or changes its instance type, while the variant
is registered with Application Auto Scaling. Pulumi deletes only at the end of an update, so the
registration would still stand. `around_updates` therefore deregisters just those variants right
before the endpoint is updated, and registers them again with their limits right after it. Their
policies and schedules go with the registration; the `replacement_trigger` in `scaling.py` makes
Pulumi create all of it anew.

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


def around_updates(name: str) -> pulumi.ResourceHookBinding:
    """Hooks for the endpoint, a `pulumi_aws.sagemaker.Endpoint`: see the head of this file.

    They speak to AWS with the credentials of the environment, or of the profile in `aws:profile`.
    Where they cannot, they warn and let the update go: if AWS refuses it then, deploy once without
    `scaling` and then with it.

    Args:
        name: the hooks' names begin with it; unique in the stack.
    """
    released = _Released(pulumi.Config("aws").get("profile"))
    return pulumi.ResourceHookBinding(
        before_update=[pulumi.ResourceHook(f"{name}-release", released.before)],
        after_update=[pulumi.ResourceHook(f"{name}-register", released.after)],
    )


class _Released:
    """The registrations that one update takes away for a while."""

    def __init__(self, profile: str | None) -> None:
        self._profile = profile
        self._again: list[dict[str, Any]] = []

    def before(self, args: pulumi.ResourceHookArgs) -> None:
        old = (args.old_inputs or {}).get("endpointConfigName")
        new = (args.new_inputs or {}).get("endpointConfigName")
        if old == new or not isinstance(old, str) or not isinstance(new, str):
            return
        try:
            self._release(args, old, new)
        except (BotoCoreError, ClientError) as error:
            pulumi.log.warn(f"{args.name}: whether variants must leave autoscaling first: {error}")

    def after(self, args: pulumi.ResourceHookArgs) -> None:
        again, self._again = self._again, []
        for target in again:
            with closing(self._client("application-autoscaling", args)) as scaling:
                scaling.register_scalable_target(**target)

    def _release(self, args: pulumi.ResourceHookArgs, old: str, new: str) -> None:
        with (
            closing(self._client("sagemaker", args)) as sagemaker,
            closing(self._client("application-autoscaling", args)) as scaling,
        ):
            before, after = _types(sagemaker, old), _types(sagemaker, new)
            resources = {
                f"endpoint/{args.id}/variant/{variant}": variant in after
                for variant in before
                if after.get(variant) != before[variant]
            }
            if not resources:
                return
            found = scaling.describe_scalable_targets(
                ServiceNamespace="sagemaker", ResourceIds=list(resources)
            )
            for target in found["ScalableTargets"]:
                which = {
                    key: target[key]
                    for key in ("ServiceNamespace", "ResourceId", "ScalableDimension")
                }
                scaling.deregister_scalable_target(**which)
                if resources[target["ResourceId"]]:
                    limits = {key: target[key] for key in ("MinCapacity", "MaxCapacity")}
                    self._again.append(which | limits)

    def _client(self, service: str, args: pulumi.ResourceHookArgs) -> Any:
        region = str((args.old_outputs or {})["arn"]).split(":")[3]
        return Session(profile=self._profile).create_client(service, region_name=region)


def _types(sagemaker: Any, config: str) -> dict[str, str | None]:
    """The instance type of each variant; None where it is serverless."""
    variants = sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    return {variant["VariantName"]: variant.get("InstanceType") for variant in variants}
