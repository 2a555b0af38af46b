"""The life of an EKS cluster: made, found unchanged, scaled, upgraded, renamed, gone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.aws.eks_memory import EksMemory, remembering
from tests.aws.server import Aws
from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.aws

_PROGRAM = """
import json

import pulumi

from sixways.container import EksCluster

cluster = EksCluster("models", json.loads(pulumi.Config().require("args")))
for field in EksCluster.__annotations__:
    pulumi.export(field, getattr(cluster, field))
"""
ROLE = "arn:aws:iam::123456789012:role/team"
KEY = f"arn:aws:kms:us-east-1:123456789012:key/{'1' * 8}-1111-1111-1111-{'1' * 12}"
CPU = {"name": "cpu", "instance_types": ["m7i.large", "m6i.large"], "max_size": 6}
GPU = {"name": "gpu", "instance_types": ["g6.xlarge"], "min_size": 0, "max_size": 4}
READER = {
    "namespace": "models",
    "service_account": "sixways",
    "bucket_arn": "arn:aws:s3:::shop-bundles",
    "kms_key_arn": KEY,
}
ENTRY = {
    "name": "team", "principal_arn": ROLE, "policy": "AmazonEKSEditPolicy", "namespaces": ["models"]
}  # fmt: skip


@pytest.fixture(scope="module")
def memory(aws: Aws) -> Iterator[EksMemory]:
    with remembering(aws.url) as memory:
        yield memory


@pytest.fixture
def stack(memory: EksMemory, aws: Aws, aws_env: dict[str, str], project: Path) -> Iterator[Stack]:
    """A stack whose EKS remembers; at the end nothing of it may be left."""
    (project / "__main__.py").write_text(_PROGRAM)
    memory.calls.clear()
    with Stack(project, aws_env) as stack:
        stack.run("config", "set", "--stack", stack.name, "--path", "aws:endpoints[0].eks",
                  memory.url)  # fmt: skip
        yield stack
    assert aws.left() + memory.left() == []


def arguments(**more: Any) -> dict[str, Any]:
    return {
        "version": "1.33", "node_groups": [CPU, GPU], "access_entries": [ENTRY],
        "bundle_readers": [READER], "tags": {"team": "ml"}, **more,
    }  # fmt: skip


def give(stack: Stack, args: dict[str, Any]) -> None:
    stack.config(args=json.dumps(args))


def shown(output: str, operation: str) -> set[str]:
    """The resources that a preview or an update does something to, as `type name`."""
    return set(re.findall(rf"(aws:\S+ \S+) {operation}\b", output))


def eks_of(memory: EksMemory) -> Any:
    return Aws(memory.url, {}).client("eks")


def test_a_cluster_lives_through_updates(aws: Aws, memory: EksMemory, stack: Stack) -> None:
    give(stack, arguments())
    stack.up("--skip-preview")
    outputs = stack.outputs()
    _stands(aws, memory, outputs)
    stack.up("--expect-no-changes")

    give(stack, arguments(version="1.35"))
    refused = stack.preview(check=False)
    assert refused.returncode
    assert "2 minor versions after the running 1.33" in refused.stdout
    assert "Fix: set 1.34, deploy, and go on from there" in refused.stdout

    memory.calls.clear()
    larger = {**CPU, "min_size": 3, "desired_size": 4, "max_size": 8, "disk_gb": 200}
    give(stack, arguments(version="1.34", node_groups=[larger, GPU]))
    preview = stack.preview().stdout
    assert shown(preview, "update") == {
        "aws:eks:Cluster models", "aws:eks:NodeGroup models-cpu", "aws:eks:NodeGroup models-gpu",
        "aws:ec2:LaunchTemplate models-cpu",
    }  # fmt: skip
    assert not shown(preview, "replace")
    assert "Kubernetes 1.33 -> 1.34 in place: first the control plane" in preview
    before = _groups(memory)
    stack.up("--skip-preview")
    assert _groups(memory).keys() == before.keys(), "a group was replaced"
    cpu, gpu = (_group(memory, name) for name in ("cpu", "gpu"))
    assert cpu["scalingConfig"] == {"minSize": 3, "maxSize": 8, "desiredSize": 4}
    assert cpu["version"] == gpu["version"] == "1.34"
    assert cpu["launchTemplate"]["version"] == "2"
    upgrades = [name for name, _ in memory.calls if name.endswith("Version")]
    assert upgrades[0] == "UpdateClusterVersion"
    assert upgrades.count("UpdateNodegroupVersion") == 2
    stack.up("--expect-no-changes")

    memory.calls.clear()
    give(stack, arguments(version="1.34", node_groups=[larger, GPU], cluster_name="models-two"))
    stack.up("--skip-preview")
    assert eks_of(memory).list_clusters()["clusters"] == ["models-two"]
    order = [name for name, _ in memory.calls if name in ("CreateCluster", "DeleteCluster")]
    assert order == ["CreateCluster", "DeleteCluster"]
    assert len(_groups(memory, "models-two")) == 2
    stack.destroy()
    for cluster in ("shop-test-models", "models-two"):
        assert eks_of(memory).list_addons(clusterName=cluster)["addons"] == []


def _groups(memory: EksMemory, cluster: str = "shop-test-models") -> dict[str, Any]:
    eks = eks_of(memory)
    return {
        name: eks.describe_nodegroup(clusterName=cluster, nodegroupName=name)["nodegroup"]
        for name in eks.list_nodegroups(clusterName=cluster)["nodegroups"]
    }


def _group(memory: EksMemory, prefix: str) -> Any:
    (found,) = (v for k, v in _groups(memory).items() if k.startswith(f"{prefix}-"))
    return found


def _stands(aws: Aws, memory: EksMemory, outputs: dict[str, Any]) -> None:
    """What was made is what was asked for, and safe."""
    cluster = eks_of(memory).describe_cluster(name="shop-test-models")["cluster"]
    assert cluster["version"] == "1.33"
    assert cluster["accessConfig"]["authenticationMode"] == "API"
    network = cluster["resourcesVpcConfig"]
    assert (network["endpointPrivateAccess"], network["endpointPublicAccess"]) == (True, False)
    assert set(network["subnetIds"]) == set(outputs["private_subnet_ids"])
    (secrets,) = cluster["encryptionConfig"]
    assert secrets == {"resources": ["secrets"], "provider": {"keyArn": outputs["kms_key_arn"]}}
    (logged,) = (kind for kind in cluster["logging"]["clusterLogging"] if kind["enabled"])
    assert sorted(logged["types"]) == sorted(
        ["api", "audit", "authenticator", "controllerManager", "scheduler"]
    )
    (log,) = aws.client("logs").describe_log_groups()["logGroups"]
    assert log["logGroupName"] == outputs["log_group_name"] == "/aws/eks/shop-test-models/cluster"
    assert (log["retentionInDays"], log["kmsKeyId"]) == (90, outputs["kms_key_arn"])
    kms = aws.client("kms")
    assert kms.get_key_rotation_status(KeyId=outputs["kms_key_arn"])["KeyRotationEnabled"]
    _stands_in_ec2(aws, memory, outputs)
    _stands_in_iam(aws, memory)
    assert sorted(eks_of(memory).list_addons(clusterName="shop-test-models")["addons"]) == [
        "aws-ebs-csi-driver", "coredns", "eks-pod-identity-agent", "kube-proxy", "metrics-server",
        "vpc-cni",
    ]  # fmt: skip
    assert memory.left()[0] == f"eks AccessEntries {ROLE}"
    (policy,) = memory.policies["shop-test-models", ROLE].values()
    assert policy["policyArn"] == "arn:aws:eks::aws:cluster-access-policy/AmazonEKSEditPolicy"
    assert policy["accessScope"] == {"type": "namespace", "namespaces": ["models"]}
    order = [a.get("addonName", name) for name, a in memory.calls if name.startswith("Create")]
    nodes = order.index("CreateNodegroup")
    assert all(order.index(name) < nodes for name in ("vpc-cni", "eks-pod-identity-agent"))
    assert order.index("coredns") > nodes
    kubeconfig = json.loads(outputs["kubeconfig"])
    assert kubeconfig["clusters"][0]["cluster"] == {
        "server": outputs["endpoint"],
        "certificate-authority-data": outputs["certificate_authority"],
    }


def _stands_in_ec2(aws: Aws, memory: EksMemory, outputs: dict[str, Any]) -> None:
    ec2 = aws.client("ec2")
    for kind, role in (("public", "elb"), ("private", "internal-elb")):
        found = ec2.describe_subnets(SubnetIds=outputs[f"{kind}_subnet_ids"])["Subnets"]
        assert len({subnet["AvailabilityZone"] for subnet in found}) == 2
        for subnet in found:
            tags = {tag["Key"]: tag["Value"] for tag in subnet["Tags"]}
            assert tags == {f"kubernetes.io/role/{role}": "1", "team": "ml"}
    assert len(ec2.describe_nat_gateways()["NatGateways"]) == 2
    cpu, gpu = _group(memory, "cpu"), _group(memory, "gpu")
    assert set(cpu["subnets"]) == set(outputs["private_subnet_ids"])
    assert (cpu["amiType"], gpu["amiType"]) == (
        "AL2023_x86_64_STANDARD",
        "BOTTLEROCKET_x86_64_NVIDIA",
    )
    assert cpu["scalingConfig"] == {"minSize": 2, "maxSize": 6, "desiredSize": 2}
    assert gpu["scalingConfig"] == {"minSize": 0, "maxSize": 4, "desiredSize": 0}
    assert gpu["taints"] == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}]
    for group, devices in ((cpu, ["/dev/xvda"]), (gpu, ["/dev/xvda", "/dev/xvdb"])):
        (version,) = ec2.describe_launch_template_versions(
            LaunchTemplateId=group["launchTemplate"]["id"]
        )["LaunchTemplateVersions"]
        data = version["LaunchTemplateData"]
        assert data["MetadataOptions"]["HttpTokens"] == "required"
        assert data["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
        disks = data["BlockDeviceMappings"]
        assert [disk["DeviceName"] for disk in disks] == devices
        assert all(disk["Ebs"]["Encrypted"] for disk in disks)
        assert disks[-1]["Ebs"]["VolumeSize"] == 100


def _stands_in_iam(aws: Aws, memory: EksMemory) -> None:
    iam = aws.client("iam")
    attached = {}
    for role in iam.list_roles()["Roles"]:
        name = role["RoleName"]
        found = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
        attached[name.rpartition("-")[0]] = {policy["PolicyName"] for policy in found}
        for own in iam.list_role_policies(RoleName=name)["PolicyNames"]:
            document = iam.get_role_policy(RoleName=name, PolicyName=own)["PolicyDocument"]
            for statement in document["Statement"]:
                assert statement["Resource"] != "*"
                assert "*" not in str(statement["Action"])
    assert attached == {
        "models-control-plane": {"AmazonEKSClusterPolicy"},
        "models-node": {"AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly"},
        "models-vpc-cni": {"AmazonEKS_CNI_Policy"},
        "models-aws-ebs-csi-driver": {"AmazonEBSCSIDriverPolicy"},
        "models-reader": set(),
    }
    accounts = {(one["namespace"], one["serviceAccount"]) for one in memory.identities.values()}
    assert accounts == {
        ("kube-system", "aws-node"),
        ("kube-system", "ebs-csi-controller-sa"),
        ("models", "sixways"),
    }


def test_auto_mode_in_a_network_of_yours(aws: Aws, memory: EksMemory, stack: Stack) -> None:
    theirs = {
        # Of its own: moto keeps the tags of a log that is gone for the next one of that name.
        "cluster_name": "theirs",
        "version": "1.34",
        "auto_mode": True,
        "vpc_id": "vpc-0123456789abcdef0",
        "private_subnet_ids": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
        "kms_key_arn": KEY,
        "public_access_cidrs": ["203.0.113.0/24"],
    }
    give(stack, theirs)
    stack.up("--skip-preview")
    (made,) = memory.asked("CreateCluster")
    outputs = stack.outputs()
    assert made["computeConfig"] == {
        "enabled": True,
        "nodePools": ["general-purpose", "system"],
        "nodeRoleArn": outputs["node_role_arn"],
    }
    assert made["storageConfig"] == {"blockStorage": {"enabled": True}}
    assert made["kubernetesNetworkConfig"] == {"elasticLoadBalancing": {"enabled": True}}
    assert made["bootstrapSelfManagedAddons"] is False
    assert made["resourcesVpcConfig"]["endpointPublicAccess"] is True
    assert made["resourcesVpcConfig"]["publicAccessCidrs"] == ["203.0.113.0/24"]
    assert made["encryptionConfig"][0]["provider"] == {"keyArn": KEY}
    assert outputs["vpc_id"] == theirs["vpc_id"]
    assert [addon["addonName"] for addon in memory.asked("CreateAddon")] == ["metrics-server"]
    assert not [one for one in aws.left() if one.startswith(("ec2", "kms"))]
    stack.up("--expect-no-changes")

    give(stack, {**theirs, "version": "1.33"})
    older = stack.preview().stdout
    assert shown(older, "update") == {"aws:eks:Cluster models"}
    assert "1.33 is older than the running 1.34; AWS refuses that unless" in older

    give(stack, {**theirs, "public_access_cidrs": []})
    stack.up("--skip-preview")
    (changed,) = memory.asked("UpdateClusterConfig")
    assert changed["resourcesVpcConfig"]["endpointPublicAccess"] is False
    assert changed["resourcesVpcConfig"]["endpointPrivateAccess"] is True
    stack.up("--expect-no-changes")


def test_wrong_inputs_make_nothing(aws: Aws, memory: EksMemory, stack: Stack) -> None:
    wrong = {**GPU, "gpu": True, "instance_types": ["m7i.large", "m7g.large"], "min_size": 9}
    give(stack, arguments(version="1.20", node_groups=[CPU, wrong],
                          public_access_cidrs=["0.0.0.0/0"], availability_zones=["us-east-1a"])
    )  # fmt: skip
    refused = stack.up("--skip-preview", check=False)
    assert refused.returncode
    for field in (
        "version: '1.20'", "node_groups[1].instance_types[0]: 'm7i.large'",
        "node_groups[1].instance_types: 'm7i.large, m7g.large'", "node_groups[1].max_size: '4'",
        "public_access_cidrs[0]: '0.0.0.0/0'", "availability_zones: 'us-east-1a'",
    ):  # fmt: skip
        assert f"- {field} is not accepted" in refused.stdout
    assert aws.left() == []
    assert not memory.calls
