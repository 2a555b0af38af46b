"""An endpoint that goes to zero: models as inference components on shared instances.

SageMaker lets a real-time endpoint go without instances only where its models are inference
components. Each has copies, which Application Auto Scaling counts; SageMaker adds and removes
instances for them (managed instance scaling). Target tracking cannot leave zero, since nothing is
measured per copy there: an alarm on requests that found no capacity adds the first copy.
https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-zero-instances.html

The classic provider has no inference components, nor the part of an endpoint configuration that
they need; these come from `pulumi_aws_native`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws
import pulumi_aws_native as native

from sixways.cloud.sagemaker.copies import (
    CONCURRENT_REQUESTS,
    SageMakerCopiesArgs,
    SageMakerScaleToZeroArgs,
    requirements,
)
from sixways.cloud.sagemaker.defaults import component_name

VARIANT = "shared"
"""The one production variant: the instances that all models share."""
_DIMENSION = "sagemaker:inference-component:DesiredCopyCount"


@dataclass(frozen=True)
class HostedModel:
    """A model to be hosted.

    Attributes:
        name: plain, unique in the endpoint; callers name it, see `component_name`.
        model_name: of a SageMaker model.
        startup_timeout_seconds: how long the server may take until it is ready, 60 to 3600.
        download_timeout_seconds: how long the files' way from S3 may take, 60 to 3600.
    """

    name: str
    model_name: pulumi.Input[str]
    startup_timeout_seconds: pulumi.Input[int] = 600
    download_timeout_seconds: pulumi.Input[int] = 900


@dataclass(frozen=True)
class InferenceEndpoint:
    """What was made.

    Attributes:
        name: the endpoint's name.
        arn: its ARN.
        component_names: by model, what callers send as `InferenceComponentName`.
        resources: everything, to depend on.
    """

    name: pulumi.Output[str]
    arn: pulumi.Output[str]
    component_names: dict[str, pulumi.Output[str]]
    resources: tuple[pulumi.Resource, ...]


def native_options(name: str, opts: pulumi.ResourceOptions) -> pulumi.ResourceOptions:
    """The options of aws-native resources, in the region of the classic provider.

    So that one region is set once. Where the stack sets `aws-native:region`, or the parent has an
    aws-native provider of its own, that one holds. Not all of `aws:` is handed on, but for the
    profile: who assumes a role gives the parent a provider.

    Args:
        name: the provider's name begins with it.
        opts: of the other children.
    """
    parent = opts.parent
    given = parent.get_provider("aws-native:sagemaker:Endpoint") if parent is not None else None
    if given is not None or pulumi.Config("aws-native").get("region"):
        return opts
    region = aws.get_region_output(opts=pulumi.InvokeOutputOptions(parent=parent)).region
    provider = native.Provider(
        f"{name}-native",
        region=region,
        profile=pulumi.Config("aws").get("profile"),
        opts=pulumi.ResourceOptions(parent=parent),
    )
    return pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(provider=provider))


def deploy_inference_components(
    name: str,
    scaling: SageMakerScaleToZeroArgs,
    models: Sequence[HostedModel],
    *,
    endpoint_name: str,
    instance_type: pulumi.Input[str],
    role_arn: pulumi.Input[str],
    network_isolation: bool = True,
    kms_key_arn: pulumi.Input[str] | None = None,
    subnet_ids: Sequence[pulumi.Input[str]] = (),
    security_group_ids: Sequence[pulumi.Input[str]] = (),
    tags: Mapping[str, pulumi.Input[str]] | None = None,
    opts: pulumi.ResourceOptions | None = None,
) -> InferenceEndpoint:
    """Makes the endpoint, its models' components, and what scales them.

    Args:
        name: the children's names begin with it.
        scaling: checked inputs.
        models: at least one.
        endpoint_name: the physical name.
        instance_type: of the shared instances.
        role_arn: the role that SageMaker takes on.
        network_isolation: as the models have it.
        kms_key_arn: encrypts the instances' volumes; None for types that have none.
        subnet_ids: of the models' VPC.
        security_group_ids: of the models' VPC.
        tags: of every child that takes some.
        opts: of every child: the parent, and what must be there first.
    """
    opts = opts or pulumi.ResourceOptions()
    tags = tags or {}
    own = native_options(name, opts)
    inside = native.sagemaker.EndpointConfigVpcConfigArgs(
        subnets=list(subnet_ids), security_group_ids=list(security_group_ids)
    )
    config = native.sagemaker.EndpointConfig(
        f"{name}-config",
        execution_role_arn=role_arn,
        kms_key_id=kms_key_arn,
        enable_network_isolation=network_isolation,
        vpc_config=inside if subnet_ids else None,
        production_variants=[
            {
                "variant_name": VARIANT,
                "instance_type": instance_type,
                # At least 1 in the API; the components take it from there.
                "initial_instance_count": 1,
                "managed_instance_scaling": {
                    "status": "ENABLED",
                    "min_instance_count": scaling.get("min_instances", 0),
                    "max_instance_count": scaling["max_instances"],
                },
                "routing_config": {"routing_strategy": "LEAST_OUTSTANDING_REQUESTS"},
            }
        ],
        tags=_tags(tags),
        # The provider would delete first, and SageMaker's endpoint needs its configuration until
        # it has the next one.
        opts=_also(own, delete_before_replace=False),
    )
    endpoint = native.sagemaker.Endpoint(
        f"{name}-endpoint",
        endpoint_name=endpoint_name,
        endpoint_config_name=config.endpoint_config_name.apply(str),
        # An update starts with as many instances as there are.
        retain_all_variant_properties=True,
        tags=_tags(tags),
        opts=own,
    )
    resources: list[pulumi.Resource] = [config, endpoint]
    components = {}
    for model in models:
        copies = scaling.get("copies", {}).get(model.name, {})
        component = _component(f"{name}-{model.name}", endpoint, endpoint_name, model,
                               instance_type, copies, tags, own)  # fmt: skip
        components[model.name] = component.inference_component_name.apply(str)
        most = copies.get("max_count", scaling["max_instances"])
        resources += [
            component,
            *_scale(f"{name}-{model.name}", component, copies, most, tags, own, opts),
        ]
    return InferenceEndpoint(
        endpoint.endpoint_name.apply(str), endpoint.endpoint_arn, components, tuple(resources)
    )


def _component(
    name: str,
    endpoint: native.sagemaker.Endpoint,
    endpoint_name: str,
    model: HostedModel,
    instance_type: pulumi.Input[str],
    copies: SageMakerCopiesArgs,
    tags: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> native.sagemaker.InferenceComponent:
    needs = pulumi.Output.all(instance_type, dict(copies)).apply(
        lambda known: native.sagemaker.InferenceComponentComputeResourceRequirementsArgs(
            **requirements(*known)
        )
    )
    return native.sagemaker.InferenceComponent(
        f"{name}-component",
        inference_component_name=component_name(endpoint_name, model.name),
        endpoint_name=endpoint.endpoint_name.apply(str),
        variant_name=VARIANT,
        specification=native.sagemaker.InferenceComponentSpecificationArgs(
            model_name=model.model_name,
            compute_resource_requirements=needs,
            startup_parameters=native.sagemaker.InferenceComponentStartupParametersArgs(
                container_startup_health_check_timeout_in_seconds=model.startup_timeout_seconds,
                model_data_download_timeout_in_seconds=model.download_timeout_seconds,
            ),
        ),
        runtime_config={"copy_count": copies.get("count", 1)},
        tags=_tags(tags),
        # The schema calls none of these create-only, yet UpdateInferenceComponent takes none.
        opts=_also(
            opts, replace_on_changes=["inferenceComponentName", "endpointName", "variantName"]
        ),
    )


def _scale(
    name: str,
    component: native.sagemaker.InferenceComponent,
    copies: SageMakerCopiesArgs,
    most: pulumi.Input[int],
    tags: Mapping[str, pulumi.Input[str]],
    own: pulumi.ResourceOptions,
    opts: pulumi.ResourceOptions,
) -> list[pulumi.Resource]:
    """Copies by load down to the least, and from zero up with the first request."""
    called = component.inference_component_name.apply(str)
    target = native.applicationautoscaling.ScalableTarget(
        f"{name}-target",
        service_namespace="sagemaker",
        scalable_dimension=_DIMENSION,
        resource_id=pulumi.Output.concat("inference-component/", called),
        min_capacity=copies.get("min_count", 0),
        max_capacity=most,
        opts=own,
    )
    targets: dict[str, pulumi.Input[float]] = {}
    if "invocations_per_copy" in copies:
        targets["SageMakerInferenceComponentInvocationsPerCopy"] = copies["invocations_per_copy"]
    if "concurrent_requests" in copies or not targets:
        targets["SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution"] = copies.get(
            "concurrent_requests", CONCURRENT_REQUESTS
        )
    which: dict[str, Any] = {
        "service_namespace": target.service_namespace,
        "scalable_dimension": target.scalable_dimension,
        "resource_id": target.resource_id,
    }
    tracking = [
        aws.appautoscaling.Policy(
            f"{name}-{'invocations' if 'Invocations' in metric else 'requests'}",
            policy_type="TargetTrackingScaling",
            target_tracking_scaling_policy_configuration={
                "target_value": value,
                "predefined_metric_specification": {"predefined_metric_type": metric},
                "scale_out_cooldown": copies.get("scale_out_cooldown", 60),
                "scale_in_cooldown": copies.get("scale_in_cooldown", 300),
            },
            **which,
            opts=opts,
        )
        for metric, value in targets.items()
    ]
    first = aws.appautoscaling.Policy(
        f"{name}-wake",
        policy_type="StepScaling",
        step_scaling_policy_configuration={
            "adjustment_type": "ChangeInCapacity",
            "metric_aggregation_type": "Maximum",
            "cooldown": 60,
            "step_adjustments": [{"metric_interval_lower_bound": "0", "scaling_adjustment": 1}],
        },
        **which,
        opts=opts,
    )
    alarm = aws.cloudwatch.MetricAlarm(
        f"{name}-wake",
        alarm_description=f"A request found no copy of {name}; starts the first one.",
        namespace="AWS/SageMaker",
        metric_name="NoCapacityInvocationFailures",
        dimensions={"InferenceComponentName": called},
        statistic="Sum",
        # AWS's example has "greater", which lets the first request wake nothing.
        comparison_operator="GreaterThanOrEqualToThreshold",
        threshold=1,
        period=60,
        evaluation_periods=1,
        datapoints_to_alarm=1,
        treat_missing_data="missing",
        alarm_actions=[first.arn],
        tags=dict(tags),
        opts=opts,
    )
    return [target, *tracking, first, alarm]


def _also(opts: pulumi.ResourceOptions, **more: Any) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(**more))


def _tags(tags: Mapping[str, pulumi.Input[str]]) -> list[native.TagArgs]:
    return [native.TagArgs(key=key, value=value) for key, value in tags.items()]
