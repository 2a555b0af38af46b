"""`EksCluster`: a Kubernetes cluster on AWS, ready for a `ModelDeployment`."""

from typing import Any, cast

import pulumi
import pulumi_aws as aws

from sixways.checks import InputsRefused
from sixways.cloud.network import CIDR, Network, create_network
from sixways.container.eks.access import create_entry, create_reader, kubeconfig
from sixways.container.eks.addons import AFTER_NODES, AUTO_MODE, BEFORE_NODES, create_addons
from sixways.container.eks.args import (
    AccessEntryArgs,
    BundleReaderArgs,
    EksClusterArgs,
    NodeGroupArgs,
    NodeTaintArgs,
)
from sixways.container.eks.checks import default_name, problems
from sixways.container.eks.keys import create_key, create_log_group
from sixways.container.eks.nodes import create_group
from sixways.container.eks.place import Made, Place
from sixways.container.eks.roles import RoleWithRights, cluster_role, node_role
from sixways.container.eks.upgrade import watch

__all__ = [
    "AccessEntryArgs",
    "BundleReaderArgs",
    "EksCluster",
    "EksClusterArgs",
    "NodeGroupArgs",
    "NodeTaintArgs",
    "problems",
]

LOG_TYPES = ("api", "audit", "authenticator", "controllerManager", "scheduler")
# EKS has no control plane in these zones ("Subnet requirements for clusters" in its user guide).
_NO_CONTROL_PLANE = ["use1-az3", "usw1-az2", "cac1-az3"]


class EksCluster(pulumi.ComponentResource):
    """A Kubernetes cluster on EKS over two zones or more.

    Nodes have private addresses, the Kubernetes API too unless networks are named that may reach
    it. Secrets are encrypted with a key of yours, the whole control plane writes its log, access is
    by access entries, and pods get AWS's credentials by Pod Identity alone.

    What deploys to the cluster depends on it (`depends_on=[cluster]`), so that it finds nodes.
    """

    cluster_name: pulumi.Output[str]
    """Name in AWS."""
    cluster_arn: pulumi.Output[str]
    """ARN of the cluster."""
    version: pulumi.Output[str]
    """Kubernetes version of the control plane."""
    endpoint: pulumi.Output[str]
    """Address of the Kubernetes API."""
    certificate_authority: pulumi.Output[str]
    """Certificate authority of the Kubernetes API, PEM in base64."""
    kubeconfig: pulumi.Output[str]
    """A kubeconfig, a secret. It calls `aws eks get-token`, so AWS's command line has to be there;
    the caller's own credentials count."""
    oidc_issuer: pulumi.Output[str]
    """Address of the cluster's OpenID Connect issuer. No provider in IAM is made for it: Pod
    Identity needs none."""
    node_role_arn: pulumi.Output[str]
    """Role of the nodes."""
    vpc_id: pulumi.Output[str]
    """The VPC."""
    private_subnet_ids: pulumi.Output[list[str]]
    """Subnets of the nodes."""
    public_subnet_ids: pulumi.Output[list[str]]
    """Subnets of public load balancers."""
    cluster_security_group_id: pulumi.Output[str]
    """Security group that EKS made for the control plane and all nodes."""
    kms_key_arn: pulumi.Output[str]
    """Key of Kubernetes' secrets and of the log."""
    log_group_name: pulumi.Output[str]
    """CloudWatch log group with the control plane's log."""

    def __init__(
        self, name: str, args: EksClusterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Makes the cluster.

        Args:
            name: the resource's name.
            args: see `EksClusterArgs`.
            opts: the usual resource options.

        Raises:
            InputsRefused: inputs that cannot be used; carries every problem.
        """
        found = problems(name, args)
        if found:
            raise InputsRefused(f"EksCluster {name}", found)
        super().__init__("sixways:container:EksCluster", name, None, opts)
        self._args = cast(Any, args)
        self._made = Made(name, self, dict(args.get("tags") or {}))  # type: ignore[arg-type]
        self._place = Place.of(self)
        self._auto, self._dev = args.get("auto_mode") is True, args.get("dev") is True
        if self._dev:
            pulumi.log.warn("dev: one NAT gateway and single nodes are points of failure", self)
        network = self._network()
        key_arn = self._key()
        log = create_log_group(
            self._made, self._cluster_name, self._args.get("log_retention_days", 90), key_arn
        )
        nodes = node_role(self._made, self._place, auto_mode=self._auto)
        cluster = self._cluster(network, key_arn, log, nodes)
        for entry in self._args.get("access_entries") or []:
            create_entry(self._made, self._place, cluster, entry)
        ready = self._nodes(cluster, network, nodes)
        for reader in self._args.get("bundle_readers") or []:
            create_reader(self._made, self._place, cluster, reader, ready)
        self._give(cluster, network, nodes, key_arn, log)

    @property
    def _cluster_name(self) -> str:
        return str(self._args.get("cluster_name") or default_name(self._made.name))

    def _network(self) -> Network:
        args = self._args
        if "vpc_id" in args:
            return Network(
                args["vpc_id"], args.get("public_subnet_ids") or [], args["private_subnet_ids"]
            )
        zones = args.get("availability_zones")
        if zones is None:
            names = aws.get_availability_zones_output(
                state="available",
                exclude_zone_ids=_NO_CONTROL_PLANE,
                filters=[{"name": "opt-in-status", "values": ["opt-in-not-required"]}],
                opts=pulumi.InvokeOptions(parent=self),
            ).names
            zones = [names[0], names[1]]
        return create_network(
            self._made.name,
            zones,
            parent=self,
            tags=self._made.tags,
            cidr=str(args.get("vpc_cidr", CIDR)),
            one_gateway=self._dev,
            keep_zones="availability_zones" not in args,
            # Kubernetes finds by these where to put which load balancer.
            public_tags={"kubernetes.io/role/elb": "1"},
            private_tags={"kubernetes.io/role/internal-elb": "1"},
        )

    def _key(self) -> pulumi.Input[str]:
        if "kms_key_arn" in self._args:
            return self._args["kms_key_arn"]  # type: ignore[no-any-return]
        return create_key(self._made, self._place, self._cluster_name, dev=self._dev).arn

    def _cluster(
        self,
        network: Network,
        key_arn: pulumi.Input[str],
        log: aws.cloudwatch.LogGroup,
        nodes: RoleWithRights,
    ) -> aws.eks.Cluster:
        control = cluster_role(self._made, self._place, key_arn, auto_mode=self._auto)
        cidrs = self._args.get("public_access_cidrs") or None
        auto: dict[str, Any] = {}
        if self._auto:
            auto = {
                "compute_config": {
                    "enabled": True,
                    "node_pools": ["general-purpose", "system"],
                    "node_role_arn": nodes.role.arn,
                },
                "storage_config": {"block_storage": {"enabled": True}},
                "kubernetes_network_config": {"elastic_load_balancing": {"enabled": True}},
            }
        after = [
            log,
            *control.rights,
            *nodes.rights,
            *(network.private_ready if self._auto else ()),
        ]
        return aws.eks.Cluster(
            self._made.name,
            name=self._cluster_name,
            version=self._args["version"],
            role_arn=control.role.arn,
            vpc_config={
                "subnet_ids": network.private_subnet_ids,
                "endpoint_private_access": True,
                "endpoint_public_access": cidrs is not None,
                "public_access_cidrs": cidrs,
            },
            access_config={
                "authentication_mode": "API",
                "bootstrap_cluster_creator_admin_permissions": self._args.get(
                    "creator_is_admin", True
                ),
            },
            encryption_config={"provider": {"key_arn": key_arn}, "resources": ["secrets"]},
            enabled_cluster_log_types=list(LOG_TYPES),
            # The add-ons are EKS's own kind, which are updated and configured from here.
            bootstrap_self_managed_addons=False,
            tags=self._made.tags,
            opts=pulumi.ResourceOptions.merge(
                self._made.opts(after), pulumi.ResourceOptions(hooks=watch(self._made.name))
            ),
            **auto,
        )

    def _nodes(
        self, cluster: aws.eks.Cluster, network: Network, role: RoleWithRights
    ) -> list[pulumi.Resource]:
        """Nodes and add-ons; returns what hands credentials to pods."""
        versions = self._args.get("addon_versions") or {}
        if self._auto:
            create_addons(self._made, self._place, cluster, AUTO_MODE, versions, [])
            return []
        first = create_addons(self._made, self._place, cluster, BEFORE_NODES, versions, [])
        groups = [
            create_group(
                self._made,
                group,
                cluster=cluster,
                role_arn=role.role.arn,
                subnet_ids=network.private_subnet_ids,
                dev=self._dev,
                after=[*first, *role.rights, *network.private_ready],
            )
            for group in self._args.get("node_groups") or []
        ]
        create_addons(self._made, self._place, cluster, AFTER_NODES, versions, groups)
        return first

    def _give(
        self,
        cluster: aws.eks.Cluster,
        network: Network,
        nodes: RoleWithRights,
        key_arn: pulumi.Input[str],
        log: aws.cloudwatch.LogGroup,
    ) -> None:
        self.cluster_name = cluster.name
        self.cluster_arn = cluster.arn
        self.version = cluster.version
        self.endpoint = cluster.endpoint
        self.certificate_authority = cluster.certificate_authority.data.apply(str)
        self.kubeconfig = pulumi.Output.secret(
            pulumi.Output.all(
                name=cluster.name,
                endpoint=cluster.endpoint,
                authority=self.certificate_authority,
                region=self._place.region,
            ).apply(lambda known: kubeconfig(**known))
        )
        self.oidc_issuer = cluster.identities[0].oidcs[0].issuer.apply(str)
        self.node_role_arn = nodes.role.arn
        self.vpc_id = pulumi.Output.from_input(network.vpc_id)
        self.private_subnet_ids = _texts(network.private_subnet_ids)
        self.public_subnet_ids = _texts(network.public_subnet_ids)
        self.cluster_security_group_id = cluster.vpc_config.cluster_security_group_id.apply(str)
        self.kms_key_arn = pulumi.Output.from_input(key_arn)
        self.log_group_name = log.name
        outputs = (output for output in EksCluster.__annotations__ if not output.startswith("_"))
        self.register_outputs({output: getattr(self, output) for output in outputs})


def _texts(ids: Any) -> pulumi.Output[list[str]]:
    return pulumi.Output.from_input(ids).apply(lambda known: [str(one) for one in known])
