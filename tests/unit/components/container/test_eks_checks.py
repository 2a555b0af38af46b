"""What an `EksCluster` accepts: every problem is found, and named as the user wrote it."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from sixways.container.eks.checks import problems
from sixways.container.eks.upgrade import refusal

ROLE = "arn:aws:iam::123456789012:role/team"
KEY = "arn:aws:kms:us-east-1:123456789012:key/11111111-1111-1111-1111-111111111111"
CPU: dict[str, Any] = {"name": "cpu", "instance_types": ["m7i.large"], "max_size": 4}
GPU: dict[str, Any] = {"name": "gpu", "instance_types": ["g6.xlarge"], "max_size": 2}
ENTRY = {"name": "team", "principal_arn": ROLE, "policy": "AmazonEKSViewPolicy"}
READER = {"namespace": "models", "service_account": "web", "bucket_arn": "arn:aws:s3:::bundles"}
VPC: dict[str, Any] = {"vpc_id": "vpc-1", "private_subnet_ids": ["a", "b"]}


def found(name: str = "models", **changes: Any) -> dict[str, str]:
    """The problems of good inputs with those changes: the field and the whole message."""
    args = {"version": "1.33", "node_groups": [CPU], **changes}
    args = {field: value for field, value in args.items() if value is not None}
    return {problem.field: str(problem) for problem in problems(name, args)}  # type: ignore[arg-type]


def of_group(**changes: Any) -> dict[str, str]:
    """The problems of a second group, a good one with those changes."""
    return found(node_groups=[CPU, {**CPU, "name": "other", **changes}])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"node_groups": [CPU, GPU]},
        {"node_groups": [{**CPU, "instance_types": ["m7g.large", "c7g.xlarge"]}]},
        {"node_groups": None, "auto_mode": True,
         "addon_versions": {"metrics-server": "v0.7.2-eksbuild.1"}},
        {"node_groups": [{**CPU, "max_size": 1}], "dev": True},
        {**VPC, "public_subnet_ids": []},
        {"availability_zones": ["eu-west-1a", "eu-west-1b", "eu-west-1c"],
         "vpc_cidr": "10.0.0.0/18"},
        {"public_access_cidrs": ["203.0.113.0/24", "198.51.100.7/32"]},
        {"public_access_cidrs": []},
        {"access_entries": [ENTRY], "creator_is_admin": False},
        {"access_entries": [{**ENTRY, "principal_arn": pulumi.Output.from_input(ROLE)}]},
        {"bundle_readers": [{**READER, "bucket_arn": pulumi.Output.from_input("x")}]},
        {"bundle_readers": [READER, {**READER, "namespace": "other"}]},
        {"kms_key_arn": pulumi.Output.from_input(KEY), "version": pulumi.Output.from_input("1.9")},
        {"addon_versions": {"vpc-cni": "v1.20.1-eksbuild.3"}, "log_retention_days": 365},
    ],
    ids=str,
)  # fmt: skip
def test_good_inputs_have_no_problems(changes: dict[str, Any]) -> None:
    assert found(**changes) == {}


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"version": None}, "version", "missing"),
        ({"version": "1.30"}, "version", "1.31 or newer"),
        ({"version": 1.33}, "version", "as text"),
        ({"version": "1.33.2"}, "version", "two numbers and a dot"),
        ({"versoin": "1.33"}, "versoin", "correct or remove the name"),
        ({"node_groups": None}, "node_groups", "or auto_mode: true"),
        ({"auto_mode": True}, "node_groups", "nothing beside auto_mode"),
        ({"auto_mode": "yes"}, "auto_mode", "true or false"),
        ({"node_groups": [GPU]}, "node_groups", "without taints that keep pods away"),
        ({"node_groups": [{**CPU, "min_size": 1}]}, "node_groups", "single point of failure"),
        ({"node_groups": [CPU, CPU]}, "node_groups[1].name", "each name once"),
        ({"availability_zones": ["eu-west-1a"]}, "availability_zones", "EKS needs two zones"),
        ({"availability_zones": ["a", "b", "b"]}, "availability_zones", "different zones"),
        ({"vpc_id": "vpc-1"}, "private_subnet_ids", "missing"),
        ({**VPC, "private_subnet_ids": ["a", "a"]}, "private_subnet_ids", "2 or more subnets"),
        ({"private_subnet_ids": ["a", "b"]}, "private_subnet_ids", "nothing without vpc_id"),
        ({**VPC, "vpc_cidr": "10.0.0.0/16"}, "vpc_cidr", "nothing beside vpc_id"),
        ({"vpc_cidr": "10.0.0.0/24"}, "vpc_cidr", "from /16 to /20"),
        ({"vpc_cidr": "10.0.0.1/16"}, "vpc_cidr", "host bits set"),
        ({"public_access_cidrs": ["0.0.0.0/0"]}, "public_access_cidrs[0]", "inside the VPC alone"),
        ({"public_access_cidrs": ["0.0.0.0/1"]}, "public_access_cidrs[0]", "/8 or less"),
        ({"public_access_cidrs": ["::/0"]}, "public_access_cidrs[0]", "an IPv4 network"),
        ({"cluster_name": "a cluster"}, "cluster_name", "letters, digits"),
        ({"kms_key_arn": "alias/mine"}, "kms_key_arn", "not of an alias"),
        ({"log_retention_days": 31}, "log_retention_days", "30, 60, 90"),
        ({"addon_versions": {"ebs": "v1.0.0-eksbuild.1"}}, "addon_versions.ebs", "vpc-cni, "),
        ({"addon_versions": {"coredns": "1.11"}}, "addon_versions.coredns", "eksbuild"),
        ({"tags": pulumi.Output.from_input({"a": "b"})}, "tags", "values may be outputs"),
        ({"access_entries": pulumi.Output.from_input([])}, "access_entries", "may be outputs"),
        ({"creator_is_admin": False}, "access_entries", "since creator_is_admin is false"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], field: str, words: str) -> None:
    messages = found(**changes)
    assert list(messages) == [field]
    assert words in messages[field]


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"max_size": None}, "max_size", "missing"),
        ({"min_size": 5}, "max_size", "at least min_size 5"),
        ({"desired_size": 5}, "desired_size", "from min_size 2 to max_size 4"),
        ({"desired_size": 1}, "desired_size", "from min_size 2 to max_size 4"),
        ({"min_size": -1, "desired_size": 2}, "min_size", "whole number from 0"),
        ({"instance_types": []}, "instance_types", "missing"),
        ({"instance_types": ["m7i.huge"]}, "instance_types[0]", "an instance type of EC2"),
        ({"instance_types": ["ml.m5.large"]}, "instance_types[0]", "an instance type of EC2"),
        ({"instance_types": ["m7i.large"] * 21}, "instance_types", "20 at most"),
        ({"instance_types": ["m7i.large", "m7g.large"]}, "instance_types", "arm64 and x86_64"),
        ({"instance_types": ["m7i.large", "g6.xlarge"]}, "instance_types", "make two groups"),
        ({"gpu": True}, "instance_types[0]", "a type with NVIDIA GPUs, since gpu is true"),
        ({"ami_type": "AL2_x86_64"}, "ami_type", "AL2023_x86_64_STANDARD"),
        ({"ami_type": "AL2023_ARM_64_STANDARD"}, "ami_type", "one for x86_64"),
        ({"ami_type": "AL2023_x86_64_NVIDIA"}, "ami_type", "without NVIDIA's driver"),
        ({"capacity_type": "CHEAP"}, "capacity_type", "ON_DEMAND, SPOT"),
        ({"disk_gb": 8}, "disk_gb", "from 20 to 16384"),
        ({"metadata_hop_limit": 3}, "metadata_hop_limit", "from 1 to 2"),
        ({"taints": [{"key": "a", "effect": "NoSchedule"}]}, "taints[0].effect", "NO_SCHEDULE"),
        ({"taints": [{"effect": "NO_EXECUTE"}]}, "taints[0].key", "missing"),
        ({"taints": pulumi.Output.from_input([])}, "taints", "values may be outputs"),
        ({"name": "a group"}, "name", "up to 36 letters"),
        ({"size": 3}, "size", "correct or remove the name"),
    ],
)
def test_what_is_wrong_in_a_group_is_named(changes: dict[str, Any], field: str, words: str) -> None:
    changes = {**CPU, "name": "other", **changes}
    group = {key: value for key, value in changes.items() if value is not None}
    messages = found(node_groups=[CPU, group])
    assert list(messages) == [f"node_groups[1].{field}"]
    assert words in messages[f"node_groups[1].{field}"]


def test_a_gpu_group_needs_an_image_with_the_driver() -> None:
    plain = {**GPU, "ami_type": "BOTTLEROCKET_x86_64"}
    assert "with NVIDIA's driver" in found(node_groups=[CPU, plain])["node_groups[1].ami_type"]
    driver = {**GPU, "ami_type": "AL2023_x86_64_NVIDIA"}
    assert found(node_groups=[CPU, driver]) == {}


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"principal_arn": "team"}, "principal_arn", "the ARN of an IAM role or user"),
        ({"principal_arn": "arn:aws:sts::123456789012:assumed-role/team/me"}, "principal_arn",
         "of no session"),
        ({"policy": "admin"}, "policy", "AmazonEKSClusterAdminPolicy"),
        ({"namespaces": []}, "namespaces", "leave it out for the whole cluster"),
        ({"namespaces": ["A"]}, "namespaces[0]", "a namespace's name"),
        ({"namespaces": ["a"], "policy": "AmazonEKSClusterAdminPolicy"}, "namespaces",
         "about the whole cluster"),
        ({"name": pulumi.Output.from_input("team")}, "name", "in plain text"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_an_access_entry_is_named(
    changes: dict[str, Any], field: str, words: str
) -> None:
    messages = found(access_entries=[{**ENTRY, **changes}])
    assert list(messages) == [f"access_entries[0].{field}"]
    assert words in messages[f"access_entries[0].{field}"]


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"bucket_arn": "bundles"}, "bucket_arn", "BundleStore.bucket_arn"),
        ({"kms_key_arn": "alias/mine"}, "kms_key_arn", "BundleStore.kms_key_arn"),
        ({"prefix": "*"}, "prefix", "without wildcards"),
        ({"prefix": "/"}, "prefix", "without wildcards"),
        ({"service_account": "Web"}, "service_account", "a service account's name"),
        ({"namespace": pulumi.Output.from_input("a")}, "namespace", "in plain text"),
    ],
)
def test_what_is_wrong_in_a_bundle_reader_is_named(
    changes: dict[str, Any], field: str, words: str
) -> None:
    messages = found(bundle_readers=[{**READER, **changes}])
    assert list(messages) == [f"bundle_readers[0].{field}"]
    assert words in messages[f"bundle_readers[0].{field}"]


def test_a_principal_and_a_service_account_stand_once() -> None:
    entries = found(access_entries=[ENTRY, {**ENTRY, "name": "again"}])
    assert list(entries) == ["access_entries[1].principal_arn"]
    assert list(found(bundle_readers=[READER, READER])) == ["bundle_readers[1].service_account"]


def test_all_problems_come_at_once() -> None:
    wrong = {**GPU, "instance_types": ["m7i.large"], "gpu": True, "min_size": 3}
    messages = found(
        "9", version="2", node_groups=[CPU, wrong], public_access_cidrs=["0.0.0.0/0"],
        access_entries=[{**ENTRY, "policy": "all"}], bundle_readers=[{**READER, "prefix": "*"}],
    )  # fmt: skip
    assert list(messages) == [
        "name", "version", "node_groups[1].max_size", "node_groups[1].instance_types[0]",
        "public_access_cidrs[0]", "access_entries[0].policy", "bundle_readers[0].prefix",
    ]  # fmt: skip


def test_an_unknown_region_is_refused() -> None:
    pulumi.runtime.set_all_config({"aws:region": "eu-west-9"})
    try:
        assert "eu-west-1" in found()["aws:region"]
    finally:
        pulumi.runtime.set_all_config({})


@pytest.mark.parametrize(
    ("old", "new", "refused"),
    [
        ("1.33", "1.34", False),
        ("1.33", "1.33", False),
        ("1.34", "1.33", False),
        ("1.33", "1.35", True),
        ("1.9", "1.35", False),
        (None, "1.35", False),
        ("1.33", pulumi.UNKNOWN, False),
    ],
)
def test_a_version_goes_one_step_at_a_time(old: object, new: object, refused: bool) -> None:
    assert (refusal(old, new) is not None) == refused
