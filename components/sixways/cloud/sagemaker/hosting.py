"""The endpoint itself: variants on instances of their own, or components that share instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_aws as aws

from sixways.cloud.sagemaker import defaults
from sixways.cloud.sagemaker.args import SageMakerEndpointArgs
from sixways.cloud.sagemaker.deployment import deployment_config
from sixways.cloud.sagemaker.modes import STEPWISE, TO_ZERO
from sixways.cloud.sagemaker.network import Network
from sixways.cloud.sagemaker.release import around_updates
from sixways.cloud.sagemaker.scaling import scale_variant
from sixways.cloud.sagemaker.variants import create_configuration, volume_key


@dataclass(frozen=True)
class Hosted:
    """An endpoint that is there.

    Attributes:
        name: its name.
        arn: its ARN.
        component_names: by variant, the inference component that callers name; mostly empty.
    """

    name: pulumi.Output[str]
    arn: pulumi.Output[str]
    component_names: Mapping[str, pulumi.Output[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Around:
    """What the endpoint stands on.

    Attributes:
        role_arn: the role it runs with.
        key_arn: the key of its data.
        network: where the containers are; None: in no VPC of the account.
        alarm_names: alarms that undo an update.
        ready: what must be there before a container starts.
    """

    role_arn: pulumi.Input[str]
    key_arn: pulumi.Output[str]
    network: Network | None
    alarm_names: Sequence[pulumi.Input[str]]
    ready: Sequence[pulumi.Resource]


def host(
    name: str,
    args: SageMakerEndpointArgs,
    models: Sequence[aws.sagemaker.Model],
    around: Around,
    opts: pulumi.ResourceOptions,
) -> Hosted:
    """Makes the endpoint of the inputs' mode.

    Args:
        name: the component's name.
        args: its checked inputs.
        models: the models of its variants, in their order.
        around: what it stands on.
        opts: the options of every child.
    """
    if defaults.mode(args) == TO_ZERO:
        return _host_components(name, args, models, around, opts)
    return _host_variants(name, args, models, around, opts)


def _host_variants(
    name: str,
    args: SageMakerEndpointArgs,
    models: Sequence[aws.sagemaker.Model],
    around: Around,
    opts: pulumi.ResourceOptions,
) -> Hosted:
    tags = args.get("tags", {})
    configuration = create_configuration(
        name, args, models, key_arn=around.key_arn, tags=tags, opts=opts
    )
    deployment = None
    if defaults.mode(args) in STEPWISE:
        deployment = deployment_config(args.get("deployment", {}), around.alarm_names)
    endpoint = aws.sagemaker.Endpoint(
        f"{name}-endpoint",
        name=defaults.endpoint_name(name, args),
        endpoint_config_name=configuration.name,
        deployment_config=deployment,
        tags=dict(tags),
        opts=pulumi.ResourceOptions.merge(
            opts,
            pulumi.ResourceOptions(
                depends_on=list(around.ready), hooks=around_updates(f"{name}-endpoint")
            ),
        ),
    )
    for variant in args["variants"]:
        if "scaling" in variant:
            scale_variant(
                f"{name}-{defaults.variant_name(variant)}",
                endpoint.name,
                defaults.variant_name(variant),
                variant["scaling"],
                mode=defaults.mode(args),
                instance_type=variant.get("instance_type"),
                tags=tags,
                opts=opts,
            )
    return Hosted(endpoint.name, endpoint.arn)


def _host_components(
    name: str,
    args: SageMakerEndpointArgs,
    models: Sequence[aws.sagemaker.Model],
    around: Around,
    opts: pulumi.ResourceOptions,
) -> Hosted:
    # Here, since its SDK takes seconds to load and no other mode needs it.
    from sixways.cloud.sagemaker.inference_components import (
        HostedModel,
        deploy_inference_components,
    )

    variants, network = args["variants"], around.network
    made = deploy_inference_components(
        name,
        args["scale_to_zero"],
        [
            HostedModel(
                defaults.variant_name(variant),
                model.name,
                variant.get("startup_timeout_seconds", defaults.STARTUP_SECONDS),
                variant.get("download_timeout_seconds", defaults.DOWNLOAD_SECONDS),
            )
            for variant, model in zip(variants, models, strict=True)
        ],
        endpoint_name=defaults.endpoint_name(name, args),
        instance_type=variants[0]["instance_type"],
        role_arn=around.role_arn,
        network_isolation=defaults.isolation(args),
        kms_key_arn=volume_key(variants, around.key_arn),
        subnet_ids=network.subnets if network else (),
        security_group_ids=network.security_groups if network else (),
        tags=args.get("tags", {}),
        opts=pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(depends_on=list(around.ready))
        ),
    )
    return Hosted(made.name, made.arn, made.component_names)
