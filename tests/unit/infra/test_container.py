"""The settings of way `container` become its components' inputs, or are refused by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pulumi
import pytest

from sixways.checks import InputsRefused

ROOT = Path(__file__).parents[3]
DIGEST = "sha256:" + "0" * 64
SERVER = f"ghcr.io/shop/server@{DIGEST}"
BUNDLE = f"ghcr.io/shop/minilm@{DIGEST}"
EKS = {
    "version": "1.34",
    "node_groups": [{"name": "cpu", "instance_types": ["c6i.xlarge"], "max_size": 4}],
}


@pytest.fixture(autouse=True)
def region() -> None:
    """Where the cluster would be."""
    pulumi.runtime.set_all_config({"aws:region": "eu-west-1"})


def parts(own: dict[str, Any], **settings: Any) -> Any:
    from settings import ModelSettings, Settings
    from ways.container_settings import Parts

    models = (ModelSettings("minilm", "package:x", "openvino-int8"),)
    return Parts(Settings("container", models, own=own, **settings))


def refused(own: dict[str, Any], **settings: Any) -> list[str]:
    try:
        parts(own, **settings).refuse()
    except InputsRefused as error:
        return [problem.field.removeprefix("sixways:container.") for problem in error.problems]
    return []


@pytest.mark.parametrize(
    "own",
    [
        {"registry": {"address": "ghcr.io/shop"}},
        {"image": {"image_uri": SERVER}, "bundles": {"minilm": BUNDLE}},
        {"image": {"image_uri": SERVER}, "registry": {"address": "localhost:5000"}},
        {"eks": EKS},
        {"eks": EKS, "store": {"noncurrent_days": 7}, "tags": {"team": "shop"}, "dev": True},
        {"eks": EKS, "registry": {"address": "ghcr.io/shop"}},
        {"eks": EKS, "bundles": {"minilm": BUNDLE}},
    ],
)
async def test_good_settings_are_accepted(own: dict[str, Any]) -> None:
    assert refused(own) == []


@pytest.mark.parametrize(
    ("own", "fields"),
    [
        ({}, ["bundles.minilm", "registry"]),
        ({"helm": {}}, ["helm"]),
        ({"image": "x"}, ["image"]),
        ({"registry": {}}, ["registry.address"]),
        ({"registry": {"address": "ghcr.io/shop", "username": "me"}}, ["sixways:registryPassword"]),
        ({"registry": {"address": "ghcr.io/shop"}, "store": {}}, ["store"]),
        ({"registry": {"address": "ghcr.io/shop"}, "tags": {}, "dev": True}, ["tags", "dev"]),
        ({"eks": EKS, "registry": {"address": "ghcr.io/shop"}, "store": {}}, ["store"]),
        ({"eks": EKS, "deployment": {"kubeconfig": "x"}}, ["deployment.kubeconfig"]),
        ({"eks": {**EKS, "version": "1.2", "bundle_readers": []}},
         ["eks.bundleReaders", "eks.version"]),
        ({"eks": EKS, "image": {"keep_images": 1}, "store": {"noncurrent_days": 0}},
         ["image.keepImages", "store.noncurrentDays"]),
        ({"registry": {"address": "ghcr.io/shop"}, "image": {"repository": "x"}},
         ["image.repository"]),
        ({"image": {"image_uri": SERVER}, "bundles": {"minilm": "ghcr.io/shop/minilm:1"}},
         ["bundles.minilm"]),
        ({"image": {"image_uri": SERVER}, "bundles": {"minilm": BUNDLE, "other": BUNDLE}},
         ["bundles.other"]),
    ],
)  # fmt: skip
async def test_bad_settings_are_named_as_they_are_written(
    own: dict[str, Any], fields: list[str]
) -> None:
    assert refused(own) == fields


async def test_a_password_without_a_registry_is_refused() -> None:
    own = {"image": {"image_uri": SERVER}, "bundles": {"minilm": BUNDLE}}
    password = pulumi.Output.secret("hush")
    assert refused(own, registry_password=password) == ["sixways:registryPassword"]


async def test_on_aws_the_pods_may_read_the_bundles_and_nothing_else() -> None:
    from ways.container_settings import Stored

    arn, key = pulumi.Output.from_input("arn"), pulumi.Output.from_input("key")
    made = parts({"name": "models", "eks": EKS, "deployment": {"namespace": "ai"}, "dev": True})
    eks = made.eks(Stored(arn, key))
    assert eks["bundle_readers"] == [
        {"namespace": "ai", "service_account": "models", "bucket_arn": arn, "kms_key_arn": key}
    ]
    assert eks["dev"] is True
    assert made.image() == {"dev": True}
    assert "bundle_readers" not in made.eks(None)


async def test_the_deployment_gets_what_the_stack_made() -> None:
    image, digest, kubeconfig = (pulumi.Output.from_input(word) for word in ("i", "d", "k"))
    key = pulumi.Output.secret("sk-a-key-that-somebody-chose")
    made = parts({"eks": EKS, "deployment": {"replicas": 4}}, api_key=key)
    args = made.deployment(image, {"minilm": digest}, {"minilm": {"s3_uri": "s3"}}, kubeconfig)
    assert args == {
        "api_key": key,
        "kubeconfig": kubeconfig,
        "replicas": 4,
        "image": image,
        "models": [
            {"name": "minilm", "digest": digest, "s3_uri": "s3", "variant": "openvino-int8"}
        ],
    }
