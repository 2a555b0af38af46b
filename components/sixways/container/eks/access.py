"""Who may use the cluster, and what its pods may read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from sixways.container.eks import policies
from sixways.container.eks.args import AccessEntryArgs, BundleReaderArgs
from sixways.container.eks.place import Made, Place
from sixways.container.eks.roles import pod_role

PREFIX = "bundles/"


def create_entry(
    made: Made, place: Place, cluster: aws.eks.Cluster, entry: AccessEntryArgs
) -> aws.eks.AccessPolicyAssociation:
    """Lets a principal use the Kubernetes API."""
    key = f"{made.name}-access-{entry['name']}"
    access = aws.eks.AccessEntry(
        key,
        cluster_name=cluster.name,
        principal_arn=entry["principal_arn"],
        type="STANDARD",
        tags=made.tags,
        opts=made.opts(),
    )
    spaces = entry.get("namespaces")
    scope: Any = {"type": "namespace", "namespaces": spaces} if spaces else {"type": "cluster"}
    return aws.eks.AccessPolicyAssociation(
        key,
        cluster_name=cluster.name,
        principal_arn=access.principal_arn,
        policy_arn=place.access_policy(entry["policy"]),
        access_scope=scope,
        opts=made.opts(),
    )


def create_reader(
    made: Made,
    place: Place,
    cluster: aws.eks.Cluster,
    reader: BundleReaderArgs,
    after: Sequence[pulumi.Resource],
) -> aws.eks.PodIdentityAssociation:
    """Lets the pods of a service account read bundles from S3.

    Args:
        made: how the cluster's resources are made.
        place: where it is.
        cluster: where the pods run.
        reader: the service account, and what it reads.
        after: what hands the credentials out.
    """
    namespace, account = str(reader["namespace"]), str(reader["service_account"])
    key = f"{made.name}-reader-{namespace}-{account}"
    rights = pod_role(
        made,
        place,
        f"reader-{namespace}-{account}",
        cluster.arn,
        namespace,
        account,
        # Namespace and account would not fit: a role's name has 64 characters, its prefix 38.
        prefix=f"{made.name}-reader-"[:38],
    )
    what = pulumi.Output.all(
        bucket_arn=reader["bucket_arn"],
        prefix=reader.get("prefix", PREFIX),
        key_arn=reader.get("kms_key_arn"),
    )
    policy = aws.iam.RolePolicy(
        key,
        role=rights.role.name,
        policy=what.apply(lambda known: policies.reader_policy(**known)),
        opts=made.opts(),
    )
    return aws.eks.PodIdentityAssociation(
        key,
        cluster_name=cluster.name,
        namespace=namespace,
        service_account=account,
        role_arn=rights.role.arn,
        tags=made.tags,
        opts=made.opts([*after, policy]),
    )


def kubeconfig(name: str, endpoint: str, authority: str, region: str) -> str:
    """A kubeconfig, as JSON, which is YAML too. It holds no credentials: `aws` (AWS's command line)
    gets a token with the caller's own.

    Args:
        name: the cluster.
        endpoint: address of its API.
        authority: its certificate authority, in base64.
        region: where it is.
    """
    command = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "aws",
        "args": [
            "--region",
            region,
            "eks",
            "get-token",
            "--cluster-name",
            name,
            "--output",
            "json",
        ],
        "interactiveMode": "Never",
    }
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": name,
                    "cluster": {"server": endpoint, "certificate-authority-data": authority},
                }
            ],
            "users": [{"name": name, "user": {"exec": command}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
    )
