"""Way `container`: the bundle on Kubernetes, by one Helm chart.

`model_deployment.py` installs the chart on any cluster, `eks_cluster.py` makes a cluster on AWS,
`distributed_model.py` serves a model over several nodes. `image.py` and `bundle_image.py` bring the
server and the bundles to a registry. The chart itself is
`charts/sixways-server` of the repository; the wheel carries it beside this file.

Names are loaded when they are first used, since Pulumi's Kubernetes SDK takes seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sixways.container.bundle_image import BundleImage, BundleImageArgs
    from sixways.container.distributed_model import DistributedModel, DistributedModelArgs
    from sixways.container.eks_cluster import EksCluster, EksClusterArgs
    from sixways.container.image import ContainerImage, ContainerImageArgs
    from sixways.container.model_deployment import ModelDeployment, ModelDeploymentArgs

_WHERE = {
    "BundleImage": "bundle_image",
    "ContainerImage": "image",
    "DistributedModel": "distributed_model",
    "EksCluster": "eks_cluster",
    "ModelDeployment": "model_deployment",
}
_WHERE |= {f"{name}Args": module for name, module in _WHERE.items()}

__all__ = [
    "BundleImage",
    "BundleImageArgs",
    "ContainerImage",
    "ContainerImageArgs",
    "DistributedModel",
    "DistributedModelArgs",
    "EksCluster",
    "EksClusterArgs",
    "ModelDeployment",
    "ModelDeploymentArgs",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
