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
    from sixways.cloud.bundle_store import BundleStore, BundleStoreArgs
    from sixways.cloud.ec2.endpoint import Ec2Endpoint, Ec2EndpointArgs
    from sixways.cloud.monitoring import CloudMonitoring, CloudMonitoringArgs
    from sixways.cloud.sagemaker.endpoint import SageMakerEndpoint, SageMakerEndpointArgs
    from sixways.cloud.server_image import ServerImage, ServerImageArgs

_WHERE = {
    "BundleStore": "bundle_store",
    "CloudMonitoring": "monitoring",
    "Ec2Endpoint": "ec2.endpoint",
    "MonthlyBudget": "budget",
    "SageMakerEndpoint": "sagemaker.endpoint",
    "ServerImage": "server_image",
}
_WHERE |= {f"{name}Args": module for name, module in _WHERE.items()}

__all__ = [
    "BundleStore",
    "BundleStoreArgs",
    "CloudMonitoring",
    "CloudMonitoringArgs",
    "Ec2Endpoint",
    "Ec2EndpointArgs",
    "MonthlyBudget",
    "MonthlyBudgetArgs",
    "SageMakerEndpoint",
    "SageMakerEndpointArgs",
    "ServerImage",
    "ServerImageArgs",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
