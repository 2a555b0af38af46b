"""The settings of way `cloud`: read by type, in camelCase, and every mistake named where it is."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

ROOT = Path(__file__).parents[3]
TRACKED: dict[str, Any] = yaml.safe_load((ROOT / "infra/stacks/cloud.yaml").read_text())["config"]
VARIANT = {"model": "minilm", "instanceType": "ml.c6i.xlarge"}
EC2 = {
    "instanceType": "c7i.xlarge",
    "certificateArn": f"arn:aws:acm:us-east-1:123456789012:certificate/{'1' * 36}",
    "allowedCidrs": ["203.0.113.0/24"],
}


@pytest.fixture(autouse=True)
def loop() -> Iterator[None]:
    """Outputs need one."""
    with asyncio.Runner() as runner:
        runner.get_loop()
        yield


def parts(**changes: Any) -> Any:
    """The tracked settings, with changes to `sixways:cloud`."""
    from settings import load_settings
    from ways.cloud_settings import Parts

    config = copy.deepcopy(TRACKED)
    config["sixways:cloud"] |= changes
    text = {k: v if isinstance(v, str) else json.dumps(v) for k, v in config.items()}
    pulumi.runtime.set_all_config(text)
    return Parts(load_settings())


def told(**changes: Any) -> list[str]:
    """What is told of those settings."""
    from sixways.checks import InputsRefused

    try:
        parts(**changes).refuse()
    except InputsRefused as refused:
        return [str(problem) for problem in refused.problems]
    return []


def fields(**changes: Any) -> set[str]:
    """The settings that something is told of, below `sixways:cloud.`."""
    return {line.split(": ")[0].removeprefix("sixways:cloud.") for line in told(**changes)}


def sagemaker(**changes: Any) -> dict[str, Any]:
    return {"variants": [VARIANT], **changes}


def variant(**changes: Any) -> dict[str, Any]:
    return {"variants": [{**VARIANT, **changes}]}


def test_the_tracked_settings_are_accepted() -> None:
    assert told() == []


def test_a_model_behind_instances_that_go_away_is_accepted_and_watched() -> None:
    own = sagemaker(mode="scale-to-zero", scaleToZero={"maxInstances": 2})
    own["variants"] = [VARIANT, {**VARIANT, "name": "other"}]
    assert told(sagemaker=own) == []
    watched = parts(sagemaker=own).watch(endpoint_name="a")
    assert watched["variants"] == [{"name": "shared", "instance_type": "ml.c6i.xlarge"}]


def test_what_pulumi_config_set_writes_as_text_or_number_is_what_the_input_takes() -> None:
    own = parts(
        slo={"latencyMs": "300", "errorRate": "0.01"},
        tags={"costCentre": 42},
        dev="true",
        sagemaker=variant(instanceCount="2", environment={"SIXWAYS_WORKERS": 2}),
    )
    assert own.refuse() is None
    assert own.watch()["slo"] == {"latency_ms": 300, "error_rate": 0.01}
    assert own.own("store") == {"tags": {"costCentre": "42"}, "dev": True}
    (read,) = own.own("sagemaker")["variants"]
    assert read["instance_count"] == 2
    assert read["environment"] == {"SIXWAYS_WORKERS": "2"}


def test_names_that_are_the_users_own_stay_as_they_are() -> None:
    image = {"buildArgs": {"PIP_INDEX_URL": "https://pypi.example.com/simple"}}
    assert parts(image=image).own("image")["build_args"] == image["buildArgs"]
    copies = {"Main": {"memoryMb": 2048}}
    own = sagemaker(scaleToZero={"maxInstances": 1, "copies": copies})
    assert parts(sagemaker=own).own("sagemaker")["scale_to_zero"]["copies"] == {
        "Main": {"memory_mb": 2048}
    }


def test_a_setting_without_a_value_counts_as_left_out() -> None:
    assert told(monitoring=None, image=None, sagemaker=sagemaker(mode=None)) == []
    (line,) = told(sagemaker=None)
    assert "sixways:cloud: is missing; accepted: either sagemaker or ec2" in line


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sagemaker": {"variants": VARIANT}}, {"sagemaker.variants"}),
        ({"sagemaker": {"variants": "minilm"}}, {"sagemaker.variants"}),
        ({"sagemaker": {"variants": ["x", None]}},
         {"sagemaker.variants[0]", "sagemaker.variants[1]"}),
        ({"sagemaker": variant(model=["x"], shadow="no", name={}, scaling=[1])},
         {f"sagemaker.variants[0].{f}" for f in ("model", "shadow", "name", "scaling")}),
        ({"sagemaker": sagemaker(mode=["async"])}, {"sagemaker.mode"}),
        ({"sagemaker": sagemaker(scaleToZero={"copies": ["main"]})},
         {"sagemaker.scaleToZero.copies"}),
        ({"sagemaker": sagemaker(mode="async", asynchronous="s3://a/")},
         {"sagemaker.asynchronous"}),
        ({"slo": [1]}, {"slo"}),
        ({"slo": {"latencyMs": "fast"}}, {"slo.latencyMs"}),
        ({"dev": "yes"}, {"dev"}),
        ({"tags": ["a"]}, {"tags"}),
        ({"tags": {"a": 1.5, "b": True}}, {"tags.a", "tags.b"}),
        ({"monitoring": {"emails": "a@b.c", "thresholds": [1], "hourlyPriceUsd": "x"}},
         {"monitoring.emails", "monitoring.thresholds", "monitoring.hourlyPriceUsd"}),
        ({"budget": {"limitUsd": 1, "emails": [1.5, None]}},
         {"budget.emails[0]", "budget.emails[1]"}),
        ({"store": {"dev": "yes", "kmsKeyArn": []}}, {"store.dev", "store.kmsKeyArn"}),
        ({"image": {"extras": "gpu", "platforms": "linux/amd64"}},
         {"image.extras", "image.platforms"}),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_named_where_it_stands(
    changes: dict[str, Any], expected: set[str]
) -> None:
    assert fields(**changes) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"allowedCidrs": "0.0.0.0/0"},
        {"allowedCidrs": [["x"]]},
        {"privateSubnetIds": [{}, []]},
        {"availabilityZones": "a"},
        {"internal": "yes"},
    ],
)
def test_of_ec2_too(changes: dict[str, Any]) -> None:
    assert {f.partition("[")[0] for f in fields(sagemaker=None, image=None, ec2=EC2 | changes)} == {
        f"ec2.{name}" for name in changes
    }


@pytest.mark.parametrize(
    ("changes", "field", "fix"),
    [
        ({"store": {"bundles": []}}, "store.bundles", "sixways:models"),
        ({"sagemaker": sagemaker(imageUri="x")}, "sagemaker.imageUri",
         "sixways:cloud.image.imageUri"),
        ({"sagemaker": variant(bundle={})}, "sagemaker.variants[0].bundle", "as model"),
        ({"monitoring": {"endpointName": "x"}}, "monitoring.endpointName", "own endpoint"),
        ({"sagemaker": None, "image": None, "ec2": {**EC2, "apiKey": "secret"}}, "ec2.apiKey",
         "--secret sixways:apiKey"),
    ],
)  # fmt: skip
def test_what_the_stack_gives_a_component_is_not_taken_and_not_ignored(
    changes: dict[str, Any], field: str, fix: str
) -> None:
    (line,) = told(**changes)
    assert line.startswith(f"sixways:cloud.{field}: ")
    assert fix in line
    assert "secret'" not in line


def test_a_mistyped_name_is_told_with_those_that_exist_as_settings_have_them() -> None:
    lines = told(slo={"latencyms": 300}, kubernetes={}, sagemaker=variant(instancetype="x"))
    text = "\n".join(lines)
    assert "slo.latencyms: 'latencyms' is not accepted; accepted: errorRate, latencyMs," in text
    assert "sixways:cloud.kubernetes: 'kubernetes' is not accepted; accepted: budget, dev" in text
    assert "sagemaker.variants[0].instancetype" in text
    assert "model," in text
    assert "_" not in text


def test_what_a_component_tells_is_in_the_words_of_the_settings() -> None:
    lines = told(sagemaker={"variants": [{}], "mode": "async", "asynchronous": {}})
    assert [line.split(": ")[0] for line in lines] == [
        "sixways:cloud.sagemaker.variants[0].instanceType",
        "sixways:cloud.sagemaker.asynchronous.inputUri",
        "sixways:cloud.sagemaker.asynchronous.outputUri",
    ]
    assert "Fix: add instanceType" in lines[0]


def test_both_endpoints_at_once_and_none_are_refused() -> None:
    assert fields(ec2=EC2) == {"sixways:cloud"}
    assert told(sagemaker=None, image=None, ec2=EC2) == []
