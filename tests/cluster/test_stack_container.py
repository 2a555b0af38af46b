"""Stack `container` as a user deploys it: the project's own program and settings.

The builds push to a registry on this machine, as `DOCKER_BUILD_STANDIN_REGISTRY` tells the
docker-build plugin that stands in for Pulumi's; `tests/image` runs what they make.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.kubernetes import get, installed, kubectl, watching
from tests.conftest import require
from tests.engine.checkout import checkout_stack, tracked_settings, use

pytestmark = pytest.mark.cluster
SHOP = "registry.example.com/shop"
_DOCKERFILE = """
FROM python:3.12-slim-bookworm
ARG GREETING=hello
COPY serve requirements.txt /
RUN echo "${GREETING}" > /greeting.txt
"""


def reference(name: str, digit: str) -> str:
    """An image that somebody pushed."""
    return f"{SHOP}/{name}@sha256:{digit * 64}"


def settings(name: str, *, image: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The tracked settings with changes to `sixways:container`; None takes one away.

    Pods ask for little: three do not fit every test's cluster otherwise.
    """
    config = copy.deepcopy(tracked_settings("container"))
    own = config["sixways:container"]
    deployment = {**own["deployment"], "cpu": "100m", "memory": "128Mi",
                  **changes.pop("deployment", {})}  # fmt: skip
    own = {**own, "name": name, "image": image, "deployment": deployment, **changes}
    config["sixways:container"] = {key: value for key, value in own.items() if value is not None}
    return config


def pushed_by_others(name: str, digit: str = "1", **changes: Any) -> dict[str, Any]:
    """Settings that build no image."""
    return settings(
        name,
        **{
            "image": {"imageUri": reference("server", digit)},
            "registry": None,
            "bundles": {"minilm": reference("minilm", "2")},
            **changes,
        },
    )


def left(namespace: str) -> str:
    return kubectl("get", "namespace", namespace, "--ignore-not-found", "-o", "name")


def test_it_comes_up_rolls_out_an_image_takes_another_name_and_leaves_nothing(
    name: str, pulumi_env: dict[str, str], tmp_path: Path
) -> None:
    other = f"{name}-b"
    with checkout_stack(tmp_path / "checkout", pulumi_env, "container") as stack:
        use(stack, pushed_by_others(name))
        stack.up()
        outputs = stack.outputs()
        deployment = get("deployment", name, "-n", name)
        assert deployment["status"]["readyReplicas"] == 3
        assert outputs["namespace"] == name
        assert outputs["url"].endswith(":5000")
        assert outputs["health_url"] == f"{outputs['url']}/healthz"
        assert outputs["image_uri"] == reference("server", "1")
        pod = deployment["spec"]["template"]["spec"]
        (server,) = pod["containers"]
        (served,) = json.loads(
            next(one["value"] for one in server["env"] if one["name"] == "SIXWAYS_MODELS")
        )
        assert served["digest"] == outputs["bundle_digest"]
        assert served["variant"] == "openvino-int8"
        images = [volume["image"] for volume in pod["volumes"] if "image" in volume]
        assert [one["reference"] for one in images] == [reference("minilm", "2")]
        stack.up("--expect-no-changes")

        use(stack, pushed_by_others(name, "3"))
        with watching("deployment", name, name) as seen:
            stack.up("--skip-preview")
        (server,) = get("deployment", name, "-n", name)["spec"]["template"]["spec"]["containers"]
        assert server["image"] == reference("server", "3")
        assert len(seen.states) > 3, "the watch has seen the rollout"
        assert min(one["status"].get("availableReplicas", 0) for one in seen.states) == 3

        use(stack, pushed_by_others(other, "3"))
        preview = stack.preview().stdout
        assert f"{name}-namespace" in preview
        assert f"{other}-namespace" in preview
        stack.up("--skip-preview")
        assert get("deployment", other, "-n", other)["status"]["readyReplicas"] == 3
        assert left(name) == ""
    assert left(other) == ""


def test_every_wrong_setting_is_named_at_once_and_nothing_is_created(
    name: str, pulumi_env: dict[str, str], tmp_path: Path
) -> None:
    wrong = settings(
        "Shop",
        image={"platforms": ["windows"], "username": "me"},
        registry={"address": "https://registry.example.com/", "user": "me"},
        bundles={"minilm": f"{SHOP}/minilm:latest", "other": reference("other", "1")},
        store={},
        deployment={"replicas": 2, "minAvailable": 2, "gpus": 1, "image": "x", "env": {"A-B": "c"},
                    "ingress": {"hosts": ["Shop"]}, "values": {"rollout": {"maxSurge": 1}}},
    )  # fmt: skip
    with checkout_stack(tmp_path / "checkout", pulumi_env, "container") as stack:
        use(stack, {**wrong, "sixways:container": {**wrong["sixways:container"], "helm": {}}})
        assert "sixways:container.helm" in stack.up(check=False).stdout
        use(stack, wrong)
        done = stack.up("--skip-preview", check=False)
        assert done.returncode != 0
        for field in ("name", "registry.address", "registry.user", "image.platforms[0]",
                      "image.username", "bundles.minilm", "bundles.other", "store",
                      "deployment.image", "deployment.minAvailable", "deployment.nodeSelector",
                      "deployment.env", "deployment.ingress.hosts[0]",
                      "deployment.ingress.tlsSecret"):  # fmt: skip
            assert f"- sixways:container.{field}: " in done.stdout, f"{field}: {done.stdout}"
        assert "Traceback" not in done.stdout
        assert [r["type"] for r in stack.resources()] in ([], ["pulumi:pulumi:Stack"])
    assert left("shop") == ""


@pytest.fixture
def registry() -> str:
    """host:port of the registry that takes the pushes."""
    known = os.environ.get("DOCKER_BUILD_STANDIN_REGISTRY")
    require("image", None if known else "DOCKER_BUILD_STANDIN_REGISTRY names no registry")
    return str(known)


def pushed(registry: str, repository: str, digest: str) -> dict[str, Any] | None:
    """The manifest that the registry has under a digest."""
    request = urllib.request.Request(
        f"http://{registry}/v2/{repository}/manifests/{digest}",
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json, "
                           "application/vnd.oci.image.manifest.v1+json"},
    )  # fmt: skip
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request) as answer:
        manifest: dict[str, Any] = json.load(answer)
        return manifest
    return None


def test_image_and_bundle_are_pushed_by_digest_and_a_new_server_pulls_no_model(
    name: str, pulumi_env: dict[str, str], tmp_path: Path, registry: str
) -> None:
    folder = tmp_path / "checkout"
    with checkout_stack(folder, pulumi_env, "container") as stack:
        (folder / "infra" / "small.Dockerfile").write_text(_DOCKERFILE)
        build = {"dockerfile": "small.Dockerfile", "buildArgs": {"GREETING": "hello"}}
        where = {"address": SHOP, "username": "me"}
        use(stack, settings(name, image=build, registry=where))
        stack.run("config", "set", "--stack", "container", "--secret", "sixways:registryPassword",
                  "hush-hush")  # fmt: skip
        secret = _config(stack.project)["sixways:registryPassword"]
        stack.up("--skip-preview")
        outputs = stack.outputs()
        repository, _, digest = outputs["image_uri"].partition("@")
        assert repository == f"{SHOP}/sixways-server"
        assert pushed(registry, "shop/sixways-server", digest)

        pod = get("deployment", name, "-n", name)["spec"]["template"]["spec"]
        (server,) = pod["containers"]
        assert server["image"] == outputs["image_uri"]
        (bundle,) = [v["image"]["reference"] for v in pod["volumes"] if "image" in v]
        repository, _, of_bundle = bundle.partition("@")
        assert repository == f"{SHOP}/sixways-bundles"
        manifest = pushed(registry, "shop/sixways-bundles", of_bundle)
        assert manifest
        assert len(manifest["layers"]) == 1, "the bundle's files, and nothing below them"
        _is_secret(stack.resources(), "hush-hush")
        stack.up("--expect-no-changes", "--skip-preview")

        build["buildArgs"] = {"GREETING": "moin"}
        use(stack, {**settings(name, image=build, registry=where),
                    "sixways:registryPassword": secret})  # fmt: skip
        stack.up("--skip-preview")
        pod = get("deployment", name, "-n", name)["spec"]["template"]["spec"]
        assert pod["containers"][0]["image"] == stack.outputs()["image_uri"] != outputs["image_uri"]
        assert bundle in [v["image"]["reference"] for v in pod["volumes"] if "image" in v]
        assert {label.split()[0] for label in installed(name)} >= {"Deployment", "Service"}
    assert left(name) == ""
    assert pushed(registry, "shop/sixways-bundles", of_bundle) is None


def _config(project: Path) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load((project / "Pulumi.container.yaml").read_text())
    return dict(found["config"])


def _is_secret(resources: list[dict[str, Any]], word: str) -> None:
    builds = [r for r in resources if r["type"] == "docker-build:index:Image"]
    assert len(builds) == 2
    assert all("ciphertext" in r["inputs"]["registries"] for r in builds)
    assert word not in json.dumps(resources)
