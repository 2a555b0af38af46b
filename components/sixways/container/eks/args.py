"""Inputs of an `EksCluster`."""

from typing import NotRequired, TypedDict

import pulumi


class NodeTaintArgs(TypedDict):
    """A taint: pods without a toleration for it stay away."""

    key: pulumi.Input[str]
    """Its key, e.g. `nvidia.com/gpu`."""
    value: NotRequired[pulumi.Input[str]]
    """Its value. Default: none."""
    effect: NotRequired[pulumi.Input[str]]
    """`NO_SCHEDULE`, `PREFER_NO_SCHEDULE` or `NO_EXECUTE`. Default: `NO_SCHEDULE`."""


class NodeGroupArgs(TypedDict):
    """A managed group of like nodes in the private subnets."""

    name: pulumi.Input[str]
    """Name of the group, unique in the cluster, up to 36 characters. A change replaces the group:
    the new nodes come before the old ones go."""
    instance_types: pulumi.Input[list[pulumi.Input[str]]]
    """EC2's instance types, up to 20, all of one architecture; several help to get spot capacity.
    A change replaces the group."""
    max_size: pulumi.Input[int]
    """Most nodes."""
    min_size: NotRequired[pulumi.Input[int]]
    """Fewest nodes. Default: 2; 1 with `dev`."""
    desired_size: NotRequired[pulumi.Input[int]]
    """Nodes to run. Default: `min_size` when the group is made; afterwards what an autoscaler sets
    stays. To raise `min_size` over the nodes that run then, give this too for that update."""
    gpu: NotRequired[pulumi.Input[bool]]
    """Whether the nodes have NVIDIA GPUs. Default: as the instance types have. Where true, a type
    without a GPU is refused, and without `taints` and `labels` of its own the group gets the taint
    and the label `nvidia.com/gpu` and `nvidia.com/gpu.present`."""
    capacity_type: NotRequired[pulumi.Input[str]]
    """`ON_DEMAND` or `SPOT`. Default: `ON_DEMAND`. A change replaces the group."""
    ami_type: NotRequired[pulumi.Input[str]]
    """EKS's kind of machine image. Default: Amazon Linux 2023; Bottlerocket on nodes with NVIDIA
    GPUs, whose image brings the driver and Kubernetes' device plugin."""
    disk_gb: NotRequired[pulumi.Input[int]]
    """Size of the encrypted volume for images and pods, in GiB. Default: 100. A change replaces
    the nodes step by step."""
    labels: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Labels of the nodes. Default: none; see `gpu`."""
    taints: NotRequired[pulumi.Input[list[pulumi.Input[NodeTaintArgs]]]]
    """Taints of the nodes. Default: none; see `gpu`."""
    metadata_hop_limit: NotRequired[pulumi.Input[int]]
    """Network hops that an answer of the instance metadata service survives: 1 keeps pods away
    from the node's role, 2 lets them reach it. Default: 1."""


class AccessEntryArgs(TypedDict):
    """Who may use the Kubernetes API, and what for."""

    name: pulumi.Input[str]
    """Name of the entry in the program."""
    principal_arn: pulumi.Input[str]
    """ARN of an IAM role or user, in one entry only. A change replaces the entry."""
    policy: pulumi.Input[str]
    """EKS's access policy: `AmazonEKSClusterAdminPolicy`, `AmazonEKSAdminPolicy`,
    `AmazonEKSAdminViewPolicy`, `AmazonEKSEditPolicy` or `AmazonEKSViewPolicy`."""
    namespaces: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Namespaces it holds in. Default: the whole cluster."""


class BundleReaderArgs(TypedDict):
    """A service account whose pods may read bundles from S3, by EKS Pod Identity."""

    namespace: pulumi.Input[str]
    """Kubernetes namespace of the service account."""
    service_account: pulumi.Input[str]
    """Name of the service account."""
    bucket_arn: pulumi.Input[str]
    """The bucket (`BundleStore.bucket_arn`)."""
    prefix: NotRequired[pulumi.Input[str]]
    """What lies below this in the bucket may be read. Default: `bundles/`."""
    kms_key_arn: NotRequired[pulumi.Input[str]]
    """Key the bundles are encrypted with (`BundleStore.kms_key_arn`). Default: none."""


class EksClusterArgs(TypedDict):
    """Inputs of an `EksCluster`: either `node_groups` or `auto_mode`."""

    version: pulumi.Input[str]
    """Kubernetes version, e.g. `1.33`. A newer one updates in place: first the control plane, then
    each node group, node by node. EKS goes one minor version at a time, and a larger step fails
    the preview."""
    cluster_name: NotRequired[pulumi.Input[str]]
    """Name in AWS, up to 100 characters. Default: project, stack and name, joined by dashes. A
    change makes a new cluster before the old one goes."""
    node_groups: NotRequired[pulumi.Input[list[pulumi.Input[NodeGroupArgs]]]]
    """The node groups. At least one must have no taint, for the cluster's own pods. Default: none,
    with `auto_mode` alone."""
    auto_mode: NotRequired[pulumi.Input[bool]]
    """Whether EKS itself makes the nodes that pods ask for, with storage and load balancers (EKS
    Auto Mode), in its pools `general-purpose` and `system`. GPUs need a pool of yours. Default:
    false."""
    addon_versions: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Versions by add-on: `{"coredns": "v1.11.4-eksbuild.2"}`. Default: EKS's for the Kubernetes
    version at the time the add-on is made; it stays until a version is named here."""
    access_entries: NotRequired[pulumi.Input[list[pulumi.Input[AccessEntryArgs]]]]
    """Who may use the Kubernetes API. Default: nobody else, see `creator_is_admin`."""
    creator_is_admin: NotRequired[pulumi.Input[bool]]
    """Whether the identity that makes the cluster administers it. Default: true, so that the same
    program can deploy to it. A change replaces the cluster."""
    bundle_readers: NotRequired[pulumi.Input[list[pulumi.Input[BundleReaderArgs]]]]
    """Service accounts that may read bundles. Default: none."""
    public_access_cidrs: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """IPv4 networks that reach the Kubernetes API over the internet; everybody (0.0.0.0/0) is
    refused. Default: none; the API answers inside the VPC alone, and a program that deploys to the
    cluster has to run where it reaches the VPC."""
    vpc_id: NotRequired[pulumi.Input[str]]
    """An existing VPC. Default: a new one, with a NAT gateway a zone (one with `dev`)."""
    private_subnet_ids: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Subnets of `vpc_id` for nodes, in 2 zones or more, with a way to the internet and the tag
    `kubernetes.io/role/internal-elb: 1` for internal load balancers."""
    public_subnet_ids: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Subnets of `vpc_id` with the tag `kubernetes.io/role/elb: 1`, where Kubernetes puts public
    load balancers. They are handed on as an output. Default: none."""
    vpc_cidr: NotRequired[pulumi.Input[str]]
    """Network of the new VPC. Default: 10.64.0.0/16."""
    availability_zones: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Zones of the new VPC, 2 to 8. Default: the first 2 of the region that EKS supports."""
    kms_key_arn: NotRequired[pulumi.Input[str]]
    """Key that Kubernetes' secrets and the control plane's log are encrypted with. Its policy must
    let CloudWatch Logs use it. Default: an own key, rotated each year."""
    log_retention_days: NotRequired[pulumi.Input[int]]
    """How long CloudWatch keeps the control plane's log. Default: 90."""
    dev: NotRequired[pulumi.Input[bool]]
    """For trying out: one NAT gateway, one node is enough, the key is deleted after 7 days instead
    of 30. Default: false."""
    tags: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Tags of everything that can have some. Default: none."""
