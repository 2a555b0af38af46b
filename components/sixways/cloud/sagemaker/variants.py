"""Models and the endpoint's configuration: what each variant serves, and on what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pulumi
import pulumi_aws as aws

from sixways.checks import InputsRefused
from sixways.cloud.instances import why_not
from sixways.cloud.sagemaker import defaults
from sixways.cloud.sagemaker.args import SageMakerEndpointArgs, SageMakerVariantArgs
from sixways.cloud.sagemaker.modes import ASYNC, SERVERLESS
from sixways.cloud.sagemaker.storage import has_own_storage
from sixways_bundle import Problem

FOLDER = "/opt/ml/model"
"""Where SageMaker puts a model's files, and the server looks for them."""

Variant = aws.sagemaker.EndpointConfigurationProductionVariantArgs
Shadow = aws.sagemaker.EndpointConfigurationShadowProductionVariantArgs


def create_model(
    name: str,
    variant: SageMakerVariantArgs,
    args: SageMakerEndpointArgs,
    *,
    role_arn: pulumi.Input[str],
    vpc_config: aws.sagemaker.ModelVpcConfigArgs | None,
    tags: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> aws.sagemaker.Model:
    """The image with one bundle. Between containers there is no traffic to encrypt: a model is one
    container, and SageMaker's API has no such switch for hosting."""
    uri = variant["bundle"]["uri"]
    files: dict[str, Any] = {"model_data_url": uri}
    if defaults.mode(args) != SERVERLESS:
        source = {"s3_uri": uri, "s3_data_type": "S3Prefix", "compression_type": "None"}
        files = {"model_data_source": {"s3_data_sources": [source]}}
    return aws.sagemaker.Model(
        f"{name}-{defaults.variant_name(variant)}-model",
        execution_role_arn=role_arn,
        enable_network_isolation=defaults.isolation(args),
        vpc_config=vpc_config,
        primary_container=aws.sagemaker.ModelPrimaryContainerArgs(
            image=args["image_uri"],
            environment={**variant.get("environment", {}), "SIXWAYS_MODELS": _models(variant)},
            **files,
        ),
        tags=dict(tags),
        opts=opts,
    )


def _models(variant: SageMakerVariantArgs) -> pulumi.Output[str]:
    """The server's setting that pins the bundle by its digest.

    What was an output when the inputs were checked is known here, and is checked before the model
    is made.
    """

    def render(known: dict[str, Any]) -> str:
        served, kind, size = known["variant"], known["instance_type"], known["size"]
        reason = why_not(kind, served, size) if kind and served else None
        if reason:
            raise InputsRefused(
                f"variant {defaults.variant_name(variant)}",
                [Problem("instance_type", kind, f"a type that can run {served}: {reason}",
                         "take a larger type or another variant")],
            )  # fmt: skip
        model = {"name": known["name"], "path": FOLDER, "digest": known["digest"]}
        return json.dumps([{**model, "variant": served} if served else model])

    bundle = variant["bundle"]
    return pulumi.Output.all(
        name=bundle["name"],
        digest=bundle["digest"],
        variant=bundle.get("variant"),
        size=bundle.get("size"),
        instance_type=variant.get("instance_type"),
    ).apply(render)


def create_configuration(
    name: str,
    args: SageMakerEndpointArgs,
    models: Sequence[aws.sagemaker.Model],
    *,
    key_arn: pulumi.Input[str],
    tags: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> aws.sagemaker.EndpointConfiguration:
    """The endpoint's configuration. It has no fixed name: a changed one is made beside the old,
    the endpoint moves to it, and the old one goes last."""
    variants = args["variants"]
    pairs = list(zip(variants, models, strict=True))
    return aws.sagemaker.EndpointConfiguration(
        f"{name}-configuration",
        production_variants=[
            Variant(**_variant(v, args, model)) for v, model in pairs if not defaults.is_shadow(v)
        ],
        shadow_production_variants=[
            Shadow(**_variant(v, args, model)) for v, model in pairs if defaults.is_shadow(v)
        ]
        or None,
        kms_key_arn=volume_key(variants, key_arn),
        async_inference_config=_asynchronous(args, key_arn),
        data_capture_config=_capture(args, key_arn),
        tags=dict(tags),
        opts=opts,
    )


def _variant(
    variant: SageMakerVariantArgs, args: SageMakerEndpointArgs, model: aws.sagemaker.Model
) -> dict[str, Any]:
    common = {
        "variant_name": defaults.variant_name(variant),
        "model_name": model.name,
        "initial_variant_weight": variant.get("weight", 1),
    }
    if defaults.mode(args) == SERVERLESS:
        size = variant.get("serverless", {})
        return {
            **common,
            "serverless_config": {
                "memory_size_in_mb": size.get("memory_mb", defaults.MEMORY_MB),
                "max_concurrency": size.get("max_concurrency", defaults.MAX_CONCURRENCY),
                "provisioned_concurrency": size.get("provisioned_concurrency"),
            },
        }
    return {
        **common,
        "instance_type": variant["instance_type"],
        "initial_instance_count": defaults.instance_count(variant, args),
        "volume_size_in_gb": variant.get("volume_size_gb"),
        "container_startup_health_check_timeout_in_seconds": variant.get(
            "startup_timeout_seconds", defaults.STARTUP_SECONDS
        ),
        "model_data_download_timeout_in_seconds": variant.get(
            "download_timeout_seconds", defaults.DOWNLOAD_SECONDS
        ),
    }


def volume_key(
    variants: Sequence[SageMakerVariantArgs], key_arn: pulumi.Input[str]
) -> pulumi.Output[str] | None:
    """The volumes' key, where there is a volume: own storage is encrypted by its hardware."""
    types = [variant["instance_type"] for variant in variants if "instance_type" in variant]
    if not types:
        return None
    key = pulumi.Output.all(key_arn, *types).apply(
        lambda known: None if all(map(has_own_storage, known[1:])) else str(known[0])
    )
    # An output of None is an input that was left out, which the SDK's types do not say.
    return cast("pulumi.Output[str]", key)


def _asynchronous(
    args: SageMakerEndpointArgs, key_arn: pulumi.Input[str]
) -> aws.sagemaker.EndpointConfigurationAsyncInferenceConfigArgsDict | None:
    if defaults.mode(args) != ASYNC:
        return None
    given = args["asynchronous"]
    success, error = given.get("success_topic_arn"), given.get("error_topic_arn")
    most = given.get("max_concurrent_per_instance")
    return {
        "output_config": {
            "s3_output_path": given["output_uri"],
            "s3_failure_path": given.get("failure_uri"),
            "kms_key_id": given.get("kms_key_arn", key_arn),
            "notification_config": None
            if success is None and error is None
            else {"success_topic": success, "error_topic": error},
        },
        "client_config": None
        if most is None
        else {"max_concurrent_invocations_per_instance": most},
    }


def _capture(
    args: SageMakerEndpointArgs, key_arn: pulumi.Input[str]
) -> aws.sagemaker.EndpointConfigurationDataCaptureConfigArgsDict | None:
    given = args.get("capture")
    if given is None:
        return None
    return {
        "enable_capture": True,
        "destination_s3_uri": given["uri"],
        "initial_sampling_percentage": given.get("percent", 100),
        "kms_key_id": given.get("kms_key_arn", key_arn),
        "capture_options": [{"capture_mode": "Input"}, {"capture_mode": "Output"}],
        # Else SageMaker writes JSON as base64.
        "capture_content_type_header": {"json_content_types": ["application/json"]},
    }
