"""The roles of a cluster: of its control plane, of its nodes, and of single service accounts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from sixways.container.eks import policies
from sixways.container.eks.place import Made, Place


@dataclass(frozen=True)
class RoleWithRights:
    """A role, and what gives it its rights: who uses the role waits for `rights`."""

    role: aws.iam.Role
    rights: list[pulumi.Resource]


def cluster_role(
    made: Made, place: Place, key_arn: pulumi.Input[str], *, auto_mode: bool
) -> RoleWithRights:
    """The control plane's role.

    Args:
        made: how the cluster's resources are made.
        place: where it is.
        key_arn: the key of Kubernetes' secrets.
        auto_mode: whether it makes nodes, volumes and load balancers too.
    """
    found = _role(
        made,
        "control-plane",
        "Control plane of an EKS cluster",
        policies.service_trust("eks.amazonaws.com", tags=auto_mode),
        policies.AUTO_CLUSTER_POLICIES if auto_mode else policies.CLUSTER_POLICIES,
        place,
    )
    found.rights.append(
        aws.iam.RolePolicy(
            f"{made.name}-control-plane-secrets",
            role=found.role.name,
            policy=pulumi.Output.from_input(key_arn).apply(policies.secrets_policy),
            opts=made.opts(),
        )
    )
    return found


def node_role(made: Made, place: Place, *, auto_mode: bool) -> RoleWithRights:
    """The nodes' role."""
    return _role(
        made,
        "node",
        "Nodes of an EKS cluster",
        policies.service_trust("ec2.amazonaws.com"),
        policies.AUTO_NODE_POLICIES if auto_mode else policies.NODE_POLICIES,
        place,
    )


def pod_role(
    made: Made,
    place: Place,
    key: str,
    cluster_arn: pulumi.Output[str],
    namespace: str,
    service_account: str,
    managed: Sequence[str] = (),
    prefix: str | None = None,
) -> RoleWithRights:
    """The role of one service account's pods.

    Args:
        made: how the cluster's resources are made.
        place: where it is.
        key: ends the role's name in the program.
        cluster_arn: the cluster.
        namespace: the service account's namespace.
        service_account: its name.
        managed: AWS's own policies to attach.
        prefix: begins the role's name in AWS. Default: as the engine names things.
    """
    trust = cluster_arn.apply(lambda arn: policies.pod_trust(arn, namespace, service_account))
    what = f"Pods of {namespace}/{service_account} in an EKS cluster"
    return _role(made, key, what, trust, managed, place, prefix)


def _role(
    made: Made,
    key: str,
    description: str,
    trust: pulumi.Input[str],
    managed: Sequence[str],
    place: Place,
    prefix: str | None = None,
) -> RoleWithRights:
    role = aws.iam.Role(
        f"{made.name}-{key}",
        name_prefix=prefix,
        description=description,
        assume_role_policy=trust,
        tags=made.tags,
        opts=made.opts(),
    )
    rights: list[pulumi.Resource] = []
    for policy in managed:
        rights.append(
            aws.iam.RolePolicyAttachment(
                f"{made.name}-{key}-{policy.rpartition('/')[2]}",
                role=role.name,
                policy_arn=place.managed_policy(policy),
                opts=made.opts(),
            )
        )
    return RoleWithRights(role, rights)
