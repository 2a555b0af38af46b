"""Stack `cloud` as a user deploys it: the project's own program and settings."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.aws.sagemaker_memory import SageMakerMemory
from tests.aws.server import Aws
from tests.engine.checkout import checkout_stack, tracked_settings, use

pytestmark = pytest.mark.aws
SETTINGS = tracked_settings("cloud")
# The build of the image has its own tests.
IMAGE = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/sixways@sha256:{'1' * 64}"


def settings(**changes: Any) -> dict[str, Any]:
    """The tracked settings, with an image and changes to `sixways:cloud`; None takes one away."""
    own = copy.deepcopy(SETTINGS)
    cloud = {**own["sixways:cloud"], "image": {"imageUri": IMAGE}, **changes}
    own["sixways:cloud"] = {key: value for key, value in cloud.items() if value is not None}
    return own


def test_the_stack_comes_up_changes_its_instances_and_leaves_nothing(
    aws: Aws, memory: SageMakerMemory, aws_env: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "checkout"
    sagemaker = aws.client("sagemaker")
    env = {**aws_env, "AWS_ENDPOINT_URL": memory.url}
    with checkout_stack(folder, env, "cloud") as stack:
        use(stack, settings(budget={"limitUsd": 500, "emails": ["team@example.com"]}))
        stack.up()
        outputs = stack.outputs()
        name = outputs["endpoint_name"]
        assert name == "sixways-cloud-endpoint"
        assert outputs["url"].endswith(f"/endpoints/{name}/invocations")
        (may,) = json.loads(outputs["invoke_policy"])["Statement"]
        assert may["Resource"] == [f"arn:aws:sagemaker:us-east-1:123456789012:endpoint/{name}"]
        before = sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
        (model,) = sagemaker.list_models()["Models"]
        container = sagemaker.describe_model(ModelName=model["ModelName"])["PrimaryContainer"]
        (served,) = json.loads(container["Environment"]["SIXWAYS_MODELS"])
        assert served["digest"] == outputs["bundle_digest"]
        listed = aws.client("s3").list_objects_v2(
            Bucket=re.match(r"s3://([^/]+)/", _uri(container))[1]  # type: ignore[index]
        )
        assert {item["Key"].rpartition("/")[2] for item in listed["Contents"]} >= {"bundle.json"}
        stack.up("--expect-no-changes")

        other = settings(budget={"limitUsd": 500, "emails": ["team@example.com"]})
        other["sixways:cloud"]["sagemaker"]["variants"][0]["instanceType"] = "ml.c6i.2xlarge"
        use(stack, other)
        stack.up("--skip-preview")
        after = sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
        assert after != before
        configs = [
            c["EndpointConfigName"] for c in sagemaker.list_endpoint_configs()["EndpointConfigs"]
        ]
        assert configs == [after]
        stack.destroy()
    assert aws.left() == []


def _uri(container: dict[str, Any]) -> str:
    return str(container["ModelDataSource"]["S3DataSource"]["S3Uri"])


def test_every_wrong_setting_is_named_at_once_and_nothing_is_created(
    aws: Aws, aws_env: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "checkout"
    wrong = settings(
        slo={"latencyMs": -1},
        monitoring={"emails": ["nobody"]},
        budget={"limitUsd": 0},
        store={"noncurrentDays": 0},
        kubernetes={},
    )
    wrong["aws:region"] = "mars-north-1"
    with checkout_stack(folder, aws_env, "cloud") as stack:
        use(stack, wrong)
        text = stack.up(check=False).stdout
        assert "sixways:cloud.kubernetes" in text
        del wrong["sixways:cloud"]["kubernetes"]
        wrong["sixways:cloud"]["sagemaker"] = {
            "mode": "async",
            "deployment": {"strategy": "canary", "size": 60},
            "variants": [{"model": "other", "instanceType": "ml.c6i.xlarge", "instanceCount": 1}],
        }
        use(stack, wrong)
        done = stack.up(check=False)
        assert done.returncode != 0
        for field in ("slo.latencyMs", "monitoring.emails[0]", "budget.limitUsd",
                      "store.noncurrentDays", "sagemaker.asynchronous",
                      "sagemaker.deployment.size", "sagemaker.variants[0].model",
                      "sagemaker.variants[0].instanceCount"):  # fmt: skip
            assert f"sixways:cloud.{field}" in done.stdout, done.stdout
        assert "aws:region: 'mars-north-1' is not accepted" in done.stdout
        assert [r["type"] for r in stack.resources()] in ([], ["pulumi:pulumi:Stack"])
    assert aws.left() == []
