"""What an `EksCluster` makes where an AWS cannot tell: images, defaults, policies, kubeconfig."""

from __future__ import annotations

import json
from typing import Any

import pulumi
import pytest

from sixways.container import EksCluster
from sixways.container.eks import policies
from sixways.container.eks.access import kubeconfig
from sixways.container.eks.nodes import ami_types, default_ami_type, is_gpu, taints_of

# pulumi_aws.ec2 warns of itself when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:aws.ec2/encryptioncontrol:DeprecationWarning")

CLUSTER = "arn:aws:eks:eu-west-1:123456789012:cluster/models"
BUCKET = "arn:aws:s3:::bundles"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/1"
CPU: dict[str, Any] = {"name": "cpu", "instance_types": ["m7i.large"], "max_size": 4}


@pytest.mark.parametrize(
    ("instance_type", "image"),
    [
        ("m7i.large", "AL2023_x86_64_STANDARD"),
        ("m7g.large", "AL2023_ARM_64_STANDARD"),
        ("g6.xlarge", "BOTTLEROCKET_x86_64_NVIDIA"),
        ("g5g.xlarge", "BOTTLEROCKET_ARM_64_NVIDIA"),
        ("inf2.xlarge", "AL2023_x86_64_NEURON"),
    ],
)
def test_the_image_fits_the_instance_type(instance_type: str, image: str) -> None:
    group: Any = {**CPU, "instance_types": [instance_type]}
    assert default_ami_type(group) == image
    assert image in ami_types()
    assert is_gpu(group) == ("NVIDIA" in image)


def test_pods_stay_away_from_gpus_unless_told_otherwise() -> None:
    group: Any = {**CPU, "instance_types": ["g6.xlarge"]}
    (taint,) = taints_of(group)
    assert taint == {"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}
    group["taints"] = []
    assert taints_of(group) == []
    group["taints"] = [{"key": "a"}]
    assert taints_of(group) == [{"key": "a", "effect": "NO_SCHEDULE"}]


def test_a_reader_reads_below_its_prefix_alone() -> None:
    document = json.loads(policies.reader_policy(BUCKET, "bundles", KEY))
    listing, reading, decrypting = document["Statement"]
    assert (listing["Action"], listing["Resource"]) == ("s3:ListBucket", BUCKET)
    assert listing["Condition"] == {"StringLike": {"s3:prefix": ["bundles/", "bundles/*"]}}
    assert (reading["Action"], reading["Resource"]) == ("s3:GetObject", f"{BUCKET}/bundles/*")
    assert (decrypting["Action"], decrypting["Resource"]) == ("kms:Decrypt", KEY)
    assert len(json.loads(policies.reader_policy(BUCKET, "bundles/", None))["Statement"]) == 2


def test_a_role_of_pods_is_for_one_service_account_of_one_cluster() -> None:
    (statement,) = json.loads(policies.pod_trust(CLUSTER, "models", "web"))["Statement"]
    assert statement["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert statement["Condition"]["StringEquals"] == {
        "aws:RequestTag/eks-cluster-arn": CLUSTER,
        "aws:RequestTag/kubernetes-namespace": "models",
        "aws:RequestTag/kubernetes-service-account": "web",
    }


def test_one_log_alone_may_use_the_key() -> None:
    place = {"partition": "aws-cn", "region": "cn-north-1", "account": "1", "domain": "aws.cn"}
    account, log = json.loads(policies.key_policy(place, "/aws/eks/models/cluster"))["Statement"]
    assert account["Principal"] == {"AWS": "arn:aws-cn:iam::1:root"}
    assert log["Principal"] == {"Service": "logs.cn-north-1.aws.cn"}
    assert log["Condition"]["ArnEquals"] == {
        "kms:EncryptionContext:aws:logs:arn": (
            "arn:aws-cn:logs:cn-north-1:1:log-group:/aws/eks/models/cluster"
        )
    }
    assert not any("*" in action for each in (account, log) for action in each["Action"])


def test_a_kubeconfig_holds_no_credentials() -> None:
    config = json.loads(kubeconfig("models", "https://eks", "Q0E=", "eu-west-1"))
    (user,) = config["users"]
    assert user["user"]["exec"]["command"] == "aws"
    assert user["user"]["exec"]["args"] == [
        "--region", "eu-west-1", "eks", "get-token", "--cluster-name", "models", "--output", "json",
    ]  # fmt: skip
    assert config["contexts"][0]["context"] == {"cluster": "models", "user": "models"}
    assert config["current-context"] == "models"


class _Aws(pulumi.runtime.Mocks):
    """An AWS that makes everything, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.made: dict[tuple[str, str], dict[str, Any]] = {}

    def new_resource(
        self, args: pulumi.runtime.MockResourceArgs
    ) -> tuple[str | None, dict[str, Any]]:
        self.made[args.typ, args.name] = args.inputs
        made = {"arn": f"arn:aws:x:eu-west-1:1:{args.name}", **args.inputs}
        if args.typ == "aws:eks/cluster:Cluster":
            made["endpoint"] = "https://eks"
            made["certificateAuthority"] = {"data": "Q0E="}
            made["identities"] = [{"oidcs": [{"issuer": "https://oidc"}]}]
            made["vpcConfig"] = {**made["vpcConfig"], "clusterSecurityGroupId": "sg-1"}
        return f"{args.name}-id", made

    def call(
        self, args: pulumi.runtime.MockCallArgs
    ) -> tuple[dict[Any, Any], list[tuple[str, str]]]:
        if args.token.endswith("getAvailabilityZones"):
            assert "use1-az3" in args.args["excludeZoneIds"]
            return {"names": ["eu-west-1a", "eu-west-1b", "eu-west-1c"]}, []
        where = {
            "accountId": "1",
            "region": "eu-west-1",
            "partition": "aws",
            "dnsSuffix": "aws.com",
        }
        return where, []

    def of(self, kind: str) -> list[str]:
        """The names of what was made of a type."""
        return sorted(name for typ, name in self.made if typ == kind)


def make(project: str = "shop", **changes: Any) -> _Aws:
    """What a cluster with good inputs and those changes is made of."""
    cloud = _Aws()
    pulumi.runtime.set_mocks(cloud, project, "test")
    args: Any = {"version": "1.33", "node_groups": [CPU], **changes}

    async def program() -> None:
        EksCluster("models", args)

    pulumi.runtime.test(program)()  # type: ignore[no-untyped-call]
    return cloud


def test_dev_has_one_gateway_and_one_node() -> None:
    cloud = make(dev=True)
    assert cloud.of("aws:ec2/natGateway:NatGateway") == ["models-nat-0"]
    group = cloud.made["aws:eks/nodeGroup:NodeGroup", "models-cpu"]
    assert group["scalingConfig"] == {"minSize": 1, "desiredSize": 1, "maxSize": 4}
    assert cloud.made["aws:kms/key:Key", "models-key"]["deletionWindowInDays"] == 7
    assert make().of("aws:ec2/natGateway:NatGateway") == ["models-nat-0", "models-nat-1"]


def test_versions_and_settings_reach_the_add_ons() -> None:
    cloud = make(addon_versions={"vpc-cni": "v1.20.1-eksbuild.3"})
    addons = {
        name: cloud.made["aws:eks/addon:Addon", name] for name in cloud.of("aws:eks/addon:Addon")
    }
    assert addons["models-vpc-cni"]["addonVersion"] == "v1.20.1-eksbuild.3"
    assert "addonVersion" not in addons["models-coredns"]
    # Without it the chart's NetworkPolicy is accepted and not enforced.
    assert json.loads(addons["models-vpc-cni"]["configurationValues"]) == {
        "enableNetworkPolicy": "true"
    }


def test_a_project_may_have_a_dot_in_its_name() -> None:
    cluster = make(project="shop.v2").made["aws:eks/cluster:Cluster", "models"]
    assert cluster["name"] == "shop-v2-test-models"


def test_values_that_are_known_later_reach_what_they_are_for() -> None:
    later = pulumi.Output.from_input
    reader = {"namespace": "a" * 63, "service_account": "b" * 63, "bucket_arn": later(BUCKET)}
    entry = {"name": "team", "principal_arn": later("arn:team"), "policy": "AmazonEKSViewPolicy"}
    group = {**CPU, "labels": later({"disk": "fast"}), "desired_size": later(3)}
    cloud = make(node_groups=[group], access_entries=[entry], bundle_readers=[reader])
    made = cloud.made["aws:eks/nodeGroup:NodeGroup", "models-cpu"]
    assert (made["labels"], made["scalingConfig"]["desiredSize"]) == ({"disk": "fast"}, 3)
    access = cloud.made["aws:eks/accessEntry:AccessEntry", "models-access-team"]
    assert access["principalArn"] == "arn:team"
    key = f"models-reader-{'a' * 63}-{'b' * 63}"
    policy = json.loads(cloud.made["aws:iam/rolePolicy:RolePolicy", key]["policy"])
    assert policy["Statement"][1]["Resource"] == f"{BUCKET}/bundles/*"
    # A role's name has 64 characters at most, of which the provider takes 26.
    assert cloud.made["aws:iam/role:Role", key]["namePrefix"] == "models-reader-"


def test_the_log_and_the_cluster_have_the_same_name() -> None:
    cloud = make()
    cluster = cloud.made["aws:eks/cluster:Cluster", "models"]
    assert cluster["name"] == "shop-test-models"
    log = cloud.made["aws:cloudwatch/logGroup:LogGroup", "models-log"]
    assert log["name"] == "/aws/eks/shop-test-models/cluster"
