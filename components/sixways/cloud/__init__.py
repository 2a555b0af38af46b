"""Way `cloud`: the bundle on AWS, behind SageMaker or on EC2.

`sagemaker/` and `ec2/` end in an endpoint; `server_image.py` and `bundle_store.py` are what both
serve; `monitoring.py` and `budget.py` watch them. `instances.py` and `regions.py` know what there
is.

Names are loaded when they are first used, since Pulumi's AWS SDK takes a second.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sixways.cloud.budget import MonthlyBudget, MonthlyBudgetArgs
    from sixways.cloud.bundle_store import BundleStore, BundleStoreArgs, BundleStoreBundleArgs
    from sixways.cloud.ec2.args import Ec2EndpointArgs, Ec2ModelArgs
    from sixways.cloud.ec2.endpoint import Ec2Endpoint
    from sixways.cloud.monitoring import CloudMonitoring
    from sixways.cloud.monitoring_args import (
        CloudMonitoringArgs,
        MonitoredVariantArgs,
        ThresholdsArgs,
    )
    from sixways.cloud.sagemaker.args import (
        SageMakerAsyncArgs,
        SageMakerBundleArgs,
        SageMakerCaptureArgs,
        SageMakerDeploymentArgs,
        SageMakerEndpointArgs,
        SageMakerServerlessArgs,
        SageMakerVariantArgs,
    )
    from sixways.cloud.sagemaker.copies import SageMakerScaleToZeroArgs
    from sixways.cloud.sagemaker.endpoint import SageMakerEndpoint
    from sixways.cloud.sagemaker.scaling import SageMakerScalingArgs
    from sixways.cloud.sagemaker.schedules import SageMakerScheduleArgs
    from sixways.cloud.server_image import ServerImage, ServerImageArgs

_WHERE = {
    "BundleStore": "bundle_store",
    "BundleStoreArgs": "bundle_store",
    "BundleStoreBundleArgs": "bundle_store",
    "CloudMonitoring": "monitoring",
    "CloudMonitoringArgs": "monitoring_args",
    "Ec2Endpoint": "ec2.endpoint",
    "Ec2EndpointArgs": "ec2.args",
    "Ec2ModelArgs": "ec2.args",
    "MonitoredVariantArgs": "monitoring_args",
    "MonthlyBudget": "budget",
    "MonthlyBudgetArgs": "budget",
    "SageMakerAsyncArgs": "sagemaker.args",
    "SageMakerBundleArgs": "sagemaker.args",
    "SageMakerCaptureArgs": "sagemaker.args",
    "SageMakerDeploymentArgs": "sagemaker.args",
    "SageMakerEndpoint": "sagemaker.endpoint",
    "SageMakerEndpointArgs": "sagemaker.args",
    "SageMakerScaleToZeroArgs": "sagemaker.copies",
    "SageMakerScalingArgs": "sagemaker.scaling",
    "SageMakerScheduleArgs": "sagemaker.schedules",
    "SageMakerServerlessArgs": "sagemaker.args",
    "SageMakerVariantArgs": "sagemaker.args",
    "ServerImage": "server_image",
    "ServerImageArgs": "server_image",
    "ThresholdsArgs": "monitoring_args",
}

__all__ = [
    "BundleStore",
    "BundleStoreArgs",
    "BundleStoreBundleArgs",
    "CloudMonitoring",
    "CloudMonitoringArgs",
    "Ec2Endpoint",
    "Ec2EndpointArgs",
    "Ec2ModelArgs",
    "MonitoredVariantArgs",
    "MonthlyBudget",
    "MonthlyBudgetArgs",
    "SageMakerAsyncArgs",
    "SageMakerBundleArgs",
    "SageMakerCaptureArgs",
    "SageMakerDeploymentArgs",
    "SageMakerEndpoint",
    "SageMakerEndpointArgs",
    "SageMakerScaleToZeroArgs",
    "SageMakerScalingArgs",
    "SageMakerScheduleArgs",
    "SageMakerServerlessArgs",
    "SageMakerVariantArgs",
    "ServerImage",
    "ServerImageArgs",
    "ThresholdsArgs",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
