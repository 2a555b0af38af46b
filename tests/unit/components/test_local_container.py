"""`LocalContainer`: inputs that are refused, and the container it asks Docker for.

Neither a Docker engine nor its plugin is needed: `tests/image` runs a container of these inputs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from typing import Any, cast

import pulumi
import pytest

from sixways.local.container import LocalContainer, LocalContainerArgs, problems

_DIGEST = f"sha256:{'0123456789abcdef' * 4}"
_MODEL = {"name": "minilm", "path": "/cache/minilm", "digest": _DIGEST}
_LEAST: dict[str, Any] = {"image": f"registry.example/sixways@{_DIGEST}", "models": [_MODEL]}
_KEY = "sk-a-key-that-somebody-chose"


def refused(args: dict[str, Any], name: str = "local") -> list[str]:
    found = problems(name, cast(LocalContainerArgs, {**_LEAST, **args}))
    return [problem.field for problem in found]


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"models": [{**_MODEL, "variant": "openvino-int8"}, {**_MODEL, "name": "b"}]},
        {"host": "::1", "port": 80, "api_key": _KEY, "memory_mb": 512, "cpus": 0.5, "workers": 2},
    ],
)
def test_good_input_is_accepted(args: dict[str, Any]) -> None:
    assert refused(args) == []


async def test_what_is_known_only_later_is_passed_over() -> None:
    later = pulumi.Output.from_input("later")
    model = {"name": "m", "path": later, "digest": later}
    assert refused({"image": later, "models": [model], "api_key": later, "port": later}) == []


@pytest.mark.parametrize(
    ("args", "fields"),
    [
        ({"image": ""}, ["image"]),
        ({"models": []}, ["models"]),
        ({"models": "minilm"}, ["models"]),
        ({"models": ["minilm"]}, ["models[0]"]),
        ({"models": [{**_MODEL, "file": "x"}]}, ["models[0].file"]),
        ({"models": [{"name": "a b", "path": "here"}]},
         ["models[0].digest", "models[0].name", "models[0].path"]),
        ({"models": [_MODEL, _MODEL]}, ["models[1].name"]),
        ({"host": "localhost", "port": 0}, ["host", "port"]),
        ({"api_key": "short"}, ["api_key"]),
        ({"memory_mb": 64, "cpus": 0, "workers": 0}, ["memory_mb", "cpus", "workers"]),
        ({"drain_seconds": 5, "startup_seconds": 1}, ["drain_seconds", "startup_seconds"]),
        ({"privileged": True}, ["privileged"]),
    ],
)  # fmt: skip
def test_bad_input_is_named(args: dict[str, Any], fields: list[str]) -> None:
    assert refused(args) == fields


def test_a_key_that_is_too_short_is_not_shown() -> None:
    (problem,) = problems("local", cast(LocalContainerArgs, {**_LEAST, "api_key": "hush"}))
    assert "hush" not in str(problem)


def test_a_name_that_docker_refuses_is_refused() -> None:
    assert refused({}, name="-local") == ["name"]


class _Docker(pulumi.runtime.Mocks):
    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}
        # Pulumi makes one in each thread that registers something, and closes none.
        self.loops: set[asyncio.AbstractEventLoop] = set()

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.loops.add(asyncio.get_event_loop())
        self.made[args.typ] = args.inputs
        more = {"imageId": "sha256:1"} if args.typ.endswith(":RemoteImage") else {}
        if args.typ == "sixways:index:ApiKey":
            more = {"key": _KEY, "sha256": hashlib.sha256(_KEY.encode()).hexdigest()}
        return f"{args.name}-id", {**args.inputs, **more}

    def call(
        self, args: pulumi.runtime.MockCallArgs
    ) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise AssertionError(args.token)


def _run(args: Callable[[], dict[str, Any]]) -> tuple[_Docker, dict[str, Any]]:
    """What a program with that component asks for, and the component's outputs."""
    engine, outputs = _Docker(), {}

    async def program() -> None:
        pulumi.runtime.set_mocks(engine, "shop", "dev")
        made = LocalContainer("local", cast(LocalContainerArgs, {**_LEAST, **args()}))
        for name in LocalContainer.__annotations__:
            outputs[name] = await getattr(made, name).future()
        outputs["key is secret"] = await made.api_key.is_secret()

    asyncio.run(program())
    for loop in engine.loops:
        loop.close()
    return engine, outputs


def test_the_container_has_nothing_that_it_does_not_need() -> None:
    engine, outputs = _run(lambda: {"cpus": 2, "port": 5001})
    asked = dict(engine.made["docker:index/container:Container"])
    environment = dict(pair.split("=", 1) for pair in asked.pop("envs"))
    (upload,) = asked.pop("uploads")
    assert asked == {
        "name": "shop-dev-local",
        "image": "sha256:1",
        "user": "10001:10001",
        "readOnly": True,
        "tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=256m"},  # noqa: S108
        "capabilities": {"drops": ["ALL"]},
        "securityOpts": ["no-new-privileges"],
        "memory": 4096,
        "memorySwap": 4096,
        "cpus": "2",
        "restart": "unless-stopped",
        "stopSignal": "SIGTERM",
        "stopTimeout": 40,
        "destroyGraceSeconds": 40,
        "wait": True,
        "waitTimeout": 300,
        "ports": [{"internal": 5000, "external": 5001, "ip": "127.0.0.1", "protocol": "tcp"}],
        "mounts": [{"type": "bind", "source": "/cache/minilm", "target": "/bundles/0",
                    "readOnly": True}],
        "volumes": [{"volumeName": "shop-dev-local-keys", "containerPath": "/etc/sixways/keys"}],
        "healthcheck": {"tests": ["CMD", "python", "-m", "sixways_server.probe"],
                        "interval": "10s", "timeout": "5s", "startPeriod": "120s", "retries": 3},
        "labels": [{"label": "app.kubernetes.io/part-of", "value": "sixways"},
                   {"label": "app.kubernetes.io/instance", "value": "shop-dev-local"}],
        "logDriver": "json-file",
        "logOpts": {"max-size": "10m", "max-file": "3"},
    }  # fmt: skip
    assert json.loads(environment["SIXWAYS_MODELS"]) == [
        {"name": "minilm", "path": "/bundles/0", "digest": _DIGEST}
    ]
    assert environment["SIXWAYS_KEYS_FILE"] == upload["file"]
    digest = hashlib.sha256(_KEY.encode()).hexdigest()
    assert json.loads(upload["content"]) == {"keys": [{"name": "default", "sha256": digest}]}
    assert upload["permissions"] == "0444"
    assert _KEY not in json.dumps(asked) + json.dumps(environment)
    assert engine.made["docker:index/remoteImage:RemoteImage"] == {
        "name": _LEAST["image"],
        "keepLocally": True,
    }
    outputs.pop("key is secret")  # the plugin says so of a key that it made
    assert outputs == {
        "url": "http://127.0.0.1:5001",
        "health_url": "http://127.0.0.1:5001/healthz",
        "api_key": _KEY,
        "bundle_digest": _DIGEST,
        "dashboard": "http://127.0.0.1:5001/",
        "container_id": "local-container-id",
    }


def test_inputs_that_are_outputs_reach_the_container() -> None:
    own = "sk-another-key-of-somebody"

    def args() -> dict[str, Any]:
        later = {key: pulumi.Output.from_input(value) for key, value in _MODEL.items()}
        return {
            "models": [{**later, "name": "minilm"}],
            "api_key": pulumi.Output.secret(own),
            "host": "::1",
            "drain_seconds": pulumi.Output.from_input(60),
            "cpus": pulumi.Output.from_input(1.5),
        }

    engine, outputs = _run(args)
    asked = engine.made["docker:index/container:Container"]
    assert asked["mounts"][0]["source"] == "/cache/minilm"
    assert asked["stopTimeout"] == 70
    assert asked["cpus"] == "1.5"
    assert "SIXWAYS_DRAIN_SECONDS=60" in asked["envs"]
    assert outputs["key is secret"]
    assert (outputs["api_key"], outputs["url"]) == (own, "http://[::1]:5000")
    assert "sixways:index:ApiKey" not in engine.made
