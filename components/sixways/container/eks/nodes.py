"""Managed node groups: their machine images, launch templates and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pulumi
import pulumi_aws as aws
from botocore.loaders import Loader

from sixways.cloud.instances import instance
from sixways.container.eks.args import NodeGroupArgs
from sixways.container.eks.place import Made

GPU_KEY = "nvidia.com/gpu"
GPU_LABEL = "nvidia.com/gpu.present"
NO_SCHEDULE = "NO_SCHEDULE"
LEAST, LEAST_DEV = 2, 1
DISK_GB = 100
# Amazon Linux 2 has no image for a Kubernetes that EKS still makes; the server runs on Linux; an
# own image would need an own way to join the cluster.
_NOT_USED = ("AL2_", "WINDOWS_", "CUSTOM")


@cache
def ami_types() -> tuple[str, ...]:
    """The kinds of machine image that can be asked for, by botocore's model of EKS's API."""
    shapes = Loader().load_service_model("eks", "service-2")["shapes"]
    return tuple(kind for kind in shapes["AMITypes"]["enum"] if not kind.startswith(_NOT_USED))


def architecture_of(ami_type: str) -> str:
    """`x86_64` or `arm64`."""
    return "arm64" if "ARM_64" in ami_type else "x86_64"


def has_gpu(instance_type: object) -> bool:
    """Whether it is known to have NVIDIA GPUs."""
    machine = instance(instance_type) if isinstance(instance_type, str) else None
    return machine is not None and machine.accelerator == "nvidia"


def is_gpu(group: NodeGroupArgs) -> bool:
    """Whether the nodes of a group have NVIDIA GPUs."""
    given = group.get("gpu")
    if isinstance(given, bool):
        return given
    types: Any = group.get("instance_types") or []
    return bool(types) and all(has_gpu(kind) for kind in types)


def default_ami_type(group: NodeGroupArgs) -> str:
    """The kind of image that fits the group's instance types."""
    types: Any = group["instance_types"]
    machine = instance(types[0]) if isinstance(types[0], str) else None
    arm = machine is not None and machine.architecture == "arm64"
    if is_gpu(group):
        return f"BOTTLEROCKET_{'ARM_64' if arm else 'x86_64'}_NVIDIA"
    if machine is not None and machine.accelerator == "neuron":
        return "AL2023_x86_64_NEURON"
    return f"AL2023_{'ARM_64' if arm else 'x86_64'}_STANDARD"


def taints_of(group: NodeGroupArgs) -> list[dict[str, Any]]:
    """The group's taints; nodes with GPUs have one unless told otherwise."""
    given: Any = group.get("taints")
    if given is None:
        return (
            [{"key": GPU_KEY, "value": "present", "effect": NO_SCHEDULE}] if is_gpu(group) else []
        )
    return [{"effect": NO_SCHEDULE, **taint} for taint in given]


def sizes_of(group: NodeGroupArgs, *, dev: bool) -> tuple[Any, Any, Any]:
    """Fewest, desired and most nodes."""
    least = group.get("min_size", LEAST_DEV if dev else LEAST)
    return least, group.get("desired_size", least), group["max_size"]


def create_group(
    made: Made,
    group: NodeGroupArgs,
    *,
    cluster: aws.eks.Cluster,
    role_arn: pulumi.Input[str],
    subnet_ids: pulumi.Input[Sequence[pulumi.Input[str]]],
    dev: bool,
    after: Sequence[pulumi.Resource],
) -> aws.eks.NodeGroup:
    """Makes a group and its launch template.

    Args:
        made: how the cluster's resources are made.
        group: the group's inputs.
        cluster: its cluster, whose version it follows.
        role_arn: the nodes' role.
        subnet_ids: the private subnets.
        dev: whether one node is enough.
        after: what nodes need when they start.
    """
    key = f"{made.name}-{group['name']}"
    ami_type = group.get("ami_type", default_ami_type(group))
    template = _template(made, key, group, ami_type)
    least, desired, most = sizes_of(group, dev=dev)
    taints: Any = taints_of(group)
    labels: Any = group.get("labels", {GPU_LABEL: "true"} if is_gpu(group) else {})
    # Left out, the number of nodes is an autoscaler's.
    free = [] if "desired_size" in group else ["scalingConfig.desiredSize"]
    return aws.eks.NodeGroup(
        key,
        cluster_name=cluster.name,
        # A name that is made anew: a replacement comes before the old group goes.
        node_group_name_prefix=f"{group['name']}-",
        node_role_arn=role_arn,
        subnet_ids=subnet_ids,
        version=cluster.version,
        ami_type=ami_type,
        capacity_type=group.get("capacity_type", "ON_DEMAND"),
        instance_types=group["instance_types"],
        labels=labels,
        taints=taints,
        scaling_config={"min_size": least, "desired_size": desired, "max_size": most},
        update_config={"max_unavailable_percentage": 33},
        launch_template={"id": template.id, "version": template.latest_version.apply(str)},
        tags=made.tags,
        opts=pulumi.ResourceOptions.merge(
            made.opts(after), pulumi.ResourceOptions(ignore_changes=free)
        ),
    )


def _template(made: Made, key: str, group: NodeGroupArgs, ami_type: object) -> Any:
    size = group.get("disk_gb", DISK_GB)
    encrypted: dict[str, Any] = {
        "encrypted": "true",
        "volume_type": "gp3",
        "delete_on_termination": "true",
    }
    disk = {"device_name": "/dev/xvda", "ebs": {**encrypted, "volume_size": size}}
    disks: Any = [disk]
    if str(ami_type).startswith("BOTTLEROCKET"):
        # Two volumes: the system's own, whose size is its image's, and one for images and pods.
        disks = [
            {"device_name": "/dev/xvda", "ebs": encrypted},
            {**disk, "device_name": "/dev/xvdb"},
        ]
    named = {"Name": key, **made.tags}
    return aws.ec2.LaunchTemplate(
        key,
        description=f"Nodes of {key}",
        block_device_mappings=disks,
        metadata_options={
            "http_endpoint": "enabled",
            "http_tokens": "required",
            "http_put_response_hop_limit": group.get("metadata_hop_limit", 1),
        },
        tag_specifications=[
            {"resource_type": kind, "tags": named} for kind in ("instance", "volume")
        ],
        tags=made.tags,
        opts=made.opts(),
    )
