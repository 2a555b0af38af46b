"""Autoscaling and updates of an endpoint: what must leave first, and what the new fleet starts with.

SageMaker refuses an update that removes a variant, or changes its instance type, while the variant
is registered with Application Auto Scaling. Pulumi deletes only at the end of an update, so the
registration would still stand. `release_before_update` therefore deregisters just those variants
right before the endpoint is updated; the `replacement_trigger` in `scaling.py` makes Pulumi register
them again after it.

Every update starts the new fleet with the `initial_instance_count` of the new endpoint
configuration, not with the count that autoscaling had reached: UpdateEndpoint keeps that only with
RetainAllVariantProperties, which the AWS provider does not offer. The count then grows by the
targets. So the initial count is the variant's own input, and `check_scaling` holds it within the
limits; whoever deploys in the hour of most traffic raises it first.
"""

from contextlib import closing

import pulumi
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session


def release_before_update(name: str) -> pulumi.ResourceHook:
    """A hook for `before_update` of the endpoint: see the head of this file.

    It deregisters the variants that the new endpoint configuration lacks or gives another instance
    type; `scale_variant` registers them again. It asks AWS with the credentials of the
    environment, or of the profile in `aws:profile`. Where it cannot ask, it warns and lets the
    update go: AWS refuses it then, if it must, and a second `up` without `scaling` helps.
    """
    profile = pulumi.Config("aws").get("profile")

    def release(args: pulumi.ResourceHookArgs) -> None:
        old, new = args.old_inputs or {}, args.new_inputs or {}
        names = [inputs.get("endpointConfigName") for inputs in (old, new)]
        arn = (args.old_outputs or {}).get("arn")
        if names[0] == names[1] or not all(isinstance(name, str) for name in (*names, arn)):
            return
        try:
            _release(profile, str(arn), str(names[0]), str(names[1]))
        except (BotoCoreError, ClientError) as error:
            pulumi.log.warn(
                f"cannot see whether a variant of {args.name} must leave autoscaling first: {error}"
            )

    return pulumi.ResourceHook(name, release)


def _release(profile: str | None, endpoint_arn: str, old: str, new: str) -> None:
    region, endpoint_name = endpoint_arn.split(":")[3], endpoint_arn.rpartition("/")[2]
    session = Session(profile=profile)
    with (
        closing(session.create_client("sagemaker", region_name=region)) as sagemaker,
        closing(session.create_client("application-autoscaling", region_name=region)) as scaling,
    ):
        before, after = (
            {
                variant["VariantName"]: variant.get("InstanceType")
                for variant in sagemaker.describe_endpoint_config(EndpointConfigName=config)[
                    "ProductionVariants"
                ]
            }
            for config in (old, new)
        )
        changed = [name for name in before if after.get(name) != before[name]]
        resources = [f"endpoint/{endpoint_name}/variant/{name}" for name in changed]
        if not resources:
            return
        found = scaling.describe_scalable_targets(
            ServiceNamespace="sagemaker", ResourceIds=resources
        )
        for target in found["ScalableTargets"]:
            scaling.deregister_scalable_target(
                ServiceNamespace="sagemaker",
                ResourceId=target["ResourceId"],
                ScalableDimension=target["ScalableDimension"],
            )
