"""Stack `container` with a cluster on EKS, as far as a preview goes.

No pod can run in moto's EKS: `test_eks.py` makes the cluster, `tests/cluster` what runs in it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.aws.server import Aws
from tests.engine.checkout import checkout_stack, tracked_settings, use

pytestmark = [pytest.mark.aws, pytest.mark.cluster]


def test_on_eks_image_and_bundles_go_to_ecr_and_s3_and_the_pods_may_read_them(
    aws: Aws, aws_env: dict[str, str], tmp_path: Path
) -> None:
    config = tracked_settings("container")
    own = config["sixways:container"]
    own.pop("registry")
    own["eks"] = {
        "version": "1.34",
        "nodeGroups": [{"name": "general", "instanceTypes": ["c6i.xlarge"], "maxSize": 6}],
    }
    config["aws:region"] = "us-east-1"
    with checkout_stack(tmp_path / "checkout", aws_env, "container") as stack:
        use(stack, config)
        shown = stack.preview().stdout
        for kind, name in (
            ("aws:eks:Cluster", "cluster"),
            ("aws:eks:NodeGroup", "cluster-general"),
            ("aws:eks:PodIdentityAssociation", "cluster-reader-sixways-sixways"),
            ("aws:ecr:Repository", "server-repository"),
            ("docker-build:index:Image", "server-image"),
            ("sixways:cloud:BundleUpload", "models-minilm"),
            ("sixways:container:ModelDeployment", "sixways"),
        ):
            assert f" {kind} {name} create" in shown, shown
    assert aws.left() == []
