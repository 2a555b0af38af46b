"""Add-ons of EKS: what every cluster needs, in the order in which nodes need it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from sixways.container.eks import policies
from sixways.container.eks.place import Made, Place
from sixways.container.eks.roles import pod_role

# Without these a node never gets ready; they are pods of the host's network.
BEFORE_NODES = ("vpc-cni", "kube-proxy", "eks-pod-identity-agent")
# These need nodes to run on.
AFTER_NODES = ("coredns", "aws-ebs-csi-driver", "metrics-server")
# Auto Mode has the others in it.
AUTO_MODE = ("metrics-server",)

# Add-on: service account in kube-system, AWS's policy of its pods.
_RIGHTS = {
    "vpc-cni": ("aws-node", policies.CNI_POLICY),
    "aws-ebs-csi-driver": ("ebs-csi-controller-sa", policies.EBS_CSI_POLICY),
}
# The charts' NetworkPolicies are enforced by it, which is off by default.
_SETTINGS: dict[str, Mapping[str, Any]] = {"vpc-cni": {"enableNetworkPolicy": "true"}}


def create_addons(
    made: Made,
    place: Place,
    cluster: aws.eks.Cluster,
    names: Sequence[str],
    versions: Mapping[str, pulumi.Input[str]],
    after: Sequence[pulumi.Resource],
) -> list[pulumi.Resource]:
    """Makes some add-ons; those that act on EC2 with a role of their own.

    Args:
        made: how the cluster's resources are made.
        place: where it is.
        cluster: their cluster.
        names: which.
        versions: versions by name; EKS's default for others.
        after: what they wait for.
    """
    found: list[pulumi.Resource] = []
    for name in names:
        identities, waits = [], list(after)
        if name in _RIGHTS:
            account, policy = _RIGHTS[name]
            rights = pod_role(made, place, name, cluster.arn, "kube-system", account, [policy])
            identities = [{"role_arn": rights.role.arn, "service_account": account}]
            waits += rights.rights
        settings = _SETTINGS.get(name)
        found.append(
            aws.eks.Addon(
                f"{made.name}-{name}",
                cluster_name=cluster.name,
                addon_name=name,
                addon_version=versions.get(name),
                configuration_values=json.dumps(settings) if settings else None,
                pod_identity_associations=identities or None,  # type: ignore[arg-type]
                resolve_conflicts_on_create="OVERWRITE",
                resolve_conflicts_on_update="OVERWRITE",
                tags=made.tags,
                opts=made.opts(waits),
            )
        )
    return found
