"""Policy documents: who may take a role, and what it may do. No action is a `*`.

AWS's own policies are attached where they are what a service expects, each for one reason:

- `AmazonEKSClusterPolicy`: the control plane manages network interfaces and load balancers.
- With Auto Mode `AmazonEKSComputePolicy`, `AmazonEKSBlockStoragePolicy`,
  `AmazonEKSLoadBalancingPolicy` and `AmazonEKSNetworkingPolicy`: it makes nodes, volumes, load
  balancers and addresses too.
- `AmazonEKSWorkerNodePolicy`: a node looks up its cluster and gets pods' credentials (Auto Mode:
  `AmazonEKSWorkerNodeMinimalPolicy`, the latter alone).
- `AmazonEC2ContainerRegistryPullOnly`: a node pulls images from ECR.
- `AmazonEKS_CNI_Policy` and `AmazonEBSCSIDriverPolicy`: the two add-ons that act on EC2. Their
  pods alone have them, by Pod Identity, not every pod of a node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

CLUSTER_POLICIES = ("AmazonEKSClusterPolicy",)
AUTO_CLUSTER_POLICIES = (
    "AmazonEKSClusterPolicy",
    "AmazonEKSComputePolicy",
    "AmazonEKSBlockStoragePolicy",
    "AmazonEKSLoadBalancingPolicy",
    "AmazonEKSNetworkingPolicy",
)
NODE_POLICIES = ("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly")
AUTO_NODE_POLICIES = ("AmazonEKSWorkerNodeMinimalPolicy", "AmazonEC2ContainerRegistryPullOnly")
CNI_POLICY = "AmazonEKS_CNI_Policy"
EBS_CSI_POLICY = "service-role/AmazonEBSCSIDriverPolicy"

_ADMINISTER = (
    "CancelKeyDeletion", "DescribeKey", "DisableKey", "DisableKeyRotation", "EnableKey",
    "EnableKeyRotation", "GetKeyPolicy", "GetKeyRotationStatus", "ListGrants", "ListKeyPolicies",
    "ListResourceTags", "PutKeyPolicy", "RevokeGrant", "ScheduleKeyDeletion", "TagResource",
    "UntagResource", "UpdateKeyDescription",
)  # fmt: skip
_USE = ("CreateGrant", "Decrypt", "Encrypt", "GenerateDataKey")
_WRITE_LOG = (
    "Decrypt",
    "DescribeKey",
    "Encrypt",
    "GenerateDataKey",
    "ReEncryptFrom",
    "ReEncryptTo",
)


def service_trust(service: str, *, tags: bool = False) -> str:
    """One AWS service takes the role.

    Args:
        service: its name, `ec2.amazonaws.com`.
        tags: whether it tags its sessions too.
    """
    actions = ["sts:AssumeRole", "sts:TagSession"] if tags else ["sts:AssumeRole"]
    return _document({"Effect": "Allow", "Principal": {"Service": service}, "Action": actions})


def pod_trust(cluster_arn: str, namespace: str, service_account: str) -> str:
    """The pods of one service account of one cluster take the role, by EKS Pod Identity.

    The conditions are on the tags that Pod Identity gives to each session ("Create IAM role with
    trust policy required by EKS Pod Identity" in EKS's user guide).
    """
    return _document(
        {
            "Effect": "Allow",
            "Principal": {"Service": "pods.eks.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Condition": {
                "StringEquals": {
                    "aws:RequestTag/eks-cluster-arn": cluster_arn,
                    "aws:RequestTag/kubernetes-namespace": namespace,
                    "aws:RequestTag/kubernetes-service-account": service_account,
                }
            },
        }
    )


def secrets_policy(key_arn: str) -> str:
    """The control plane encrypts Kubernetes' secrets with this key."""
    actions = ["kms:Encrypt", "kms:Decrypt", "kms:DescribeKey", "kms:ListGrants"]
    return _document({"Effect": "Allow", "Action": actions, "Resource": key_arn})


def reader_policy(bucket_arn: str, prefix: str, key_arn: str | None) -> str:
    """Reads what lies below a prefix of a bucket, and lists nothing else.

    Args:
        bucket_arn: the bucket.
        prefix: `bundles/`; with or without the last slash, empty for the whole bucket.
        key_arn: the key that the objects are encrypted with.
    """
    below = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    listing: dict[str, Any] = {
        "Sid": "List",
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": bucket_arn,
    }
    if below:
        listing["Condition"] = {"StringLike": {"s3:prefix": [below, f"{below}*"]}}
    statements = [
        listing,
        {
            "Sid": "Read",
            "Effect": "Allow",
            "Action": "s3:GetObject",
            "Resource": f"{bucket_arn}/{below}*",
        },
    ]
    if key_arn:
        statements.append(
            {"Sid": "Decrypt", "Effect": "Allow", "Action": "kms:Decrypt", "Resource": key_arn}
        )
    return _document(*statements)


def key_policy(place: Mapping[str, str], log_group: str) -> str:
    """The policy of the cluster's own key: IAM of the account rules it, and one log may use it.

    Args:
        place: `partition`, `region`, `account`, and `domain`, the end of AWS's host names.
        log_group: name of the control plane's log group.
    """
    partition, region, account = place["partition"], place["region"], place["account"]
    log = f"arn:{partition}:logs:{region}:{account}:log-group:{log_group}"
    return _document(
        {
            "Sid": "Account",
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:{partition}:iam::{account}:root"},
            "Action": [f"kms:{action}" for action in (*_ADMINISTER, *_USE)],
            # In a key's policy this is the key itself.
            "Resource": "*",
        },
        {
            "Sid": "Log",
            "Effect": "Allow",
            "Principal": {"Service": f"logs.{region}.{place['domain']}"},
            "Action": [f"kms:{action}" for action in _WRITE_LOG],
            "Resource": "*",
            "Condition": {"ArnEquals": {"kms:EncryptionContext:aws:logs:arn": log}},
        },
    )


def _document(*statements: Mapping[str, Any]) -> str:
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    return msgspec.json.encode(document).decode()
