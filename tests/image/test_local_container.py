"""A container of the inputs that `LocalContainer` gives Docker, run by podman.

Each input becomes the option that Docker's command line has for it; an input without one fails the
test, so that none is passed over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from sixways.container.bundle_image import DOCKERFILE
from sixways.endpoint import keys_json
from sixways.image import prepare
from sixways.local.container import LocalContainerArgs, container_inputs
from sixways_bundle.build import Request
from sixways_bundle.build import build as build_bundle
from tests.engine.deployment import MINILM
from tests.image.podman import Run, build, podman
from tests.ports import free_port

pytestmark = pytest.mark.image
TAG = "localhost/sixways-test"
_KEY = "sk-a-key-that-somebody-chose"
_OPTIONS: dict[str, Callable[[Any], list[str]]] = {
    "name": lambda it: [f"--name={it}"],
    "user": lambda it: [f"--user={it}"],
    "read_only": lambda it: [f"--read-only={str(it).lower()}", "--read-only-tmpfs=false"],
    "tmpfs": lambda it: [f"--tmpfs={path}:{options}" for path, options in it.items()],
    "capabilities": lambda it: [f"--cap-drop={one}" for one in it["drops"]],
    "security_opts": lambda it: [f"--security-opt={one}" for one in it],
    "memory": lambda it: [f"--memory={it}m"],
    "memory_swap": lambda it: [f"--memory-swap={it}m"],
    "cpus": lambda it: [f"--cpus={it}"],
    "restart": lambda it: [f"--restart={it}"],
    "stop_signal": lambda it: [f"--stop-signal={it}"],
    "stop_timeout": lambda it: [f"--stop-timeout={it}"],
    "ports": lambda it: [
        f"--publish={one['ip']}:{one['external']}:{one['internal']}/{one['protocol']}" for one in it
    ],
    "envs": lambda it: [f"--env={one}" for one in it],
    "mounts": lambda it: [
        f"--mount=type={one['type']},source={one['source']},target={one['target']}"
        + (",readonly" if one["read_only"] else "")
        for one in it
    ],
    "volumes": lambda it: [f"--volume={one['volume_name']}:{one['container_path']}" for one in it],
    "healthcheck": lambda it: [
        f"--health-cmd={' '.join(it['tests'])}",
        # Without a timer: the test runs it.
        "--health-interval=disable",
        f"--health-timeout={it['timeout']}",
        f"--health-start-period={it['start_period']}",
        f"--health-retries={it['retries']}",
    ],
    "labels": lambda it: [f"--label={one['label']}={one['value']}" for one in it],
    "log_driver": lambda it: [f"--log-driver={it}"],
    # podman keeps one file of that size.
    "log_opts": lambda it: [f"--log-opt=max-size={it['max-size']}"],
    "destroy_grace_seconds": lambda _: [],  # podman stop --time, below
    "image": lambda _: [],  # the argument after the options
    "uploads": lambda _: [],  # podman cp, below
}


@contextlib.contextmanager
def container(inputs: dict[str, Any], folder: Path) -> Iterator[Run]:
    """Creates the container, puts its uploads in, starts it; all of it is removed at the end."""
    options = [option for key, value in inputs.items() for option in _OPTIONS[key](value)]
    name, (volume,), (port,) = inputs["name"], inputs["volumes"], inputs["ports"]
    podman("volume", "create", volume["volume_name"])
    try:
        podman("create", *options, inputs["image"])
        for upload in inputs["uploads"]:
            file = folder / "upload"
            file.write_text(upload["content"])
            file.chmod(int(upload["permissions"], 8))
            podman("cp", str(file), f"{name}:{upload['file']}")
        podman("start", name)
        yield Run(name, f"http://{port['ip']}:{port['external']}")
    finally:
        podman("rm", "--force", "--time", "0", name, check=False)
        podman("volume", "rm", "--force", volume["volume_name"], check=False)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of this checkout."""
    build(prepare(tmp_path_factory.mktemp("image") / "context"), TAG)
    return TAG


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A bundle's folder, as the cache has it: readable by every user. And its digest."""
    request = Request(name=MINILM["name"], source=MINILM["source"], variants=(MINILM["variant"],))
    built = build_bundle(request)
    return built.path, built.manifest.digest


def args_for(bundle: tuple[Path, str], port: int) -> LocalContainerArgs:
    path, digest = bundle
    model = {"name": "minilm", "path": str(path), "digest": digest}
    args = {"image": TAG, "models": [model], "port": port, "memory_mb": 1024, "cpus": 2}
    return cast(LocalContainerArgs, args)


def test_it_serves_with_the_key_and_can_write_nothing(
    image: str, bundle: tuple[Path, str], tmp_path: Path
) -> None:
    port = free_port()
    name = f"sixways-test-{port}"
    digest = hashlib.sha256(_KEY.encode()).hexdigest()
    inputs = container_inputs(
        name,
        args_for(bundle, port),
        image_id=image,
        keys_volume=f"{name}-keys",
        keys=keys_json(digest),
    )
    with container(inputs, tmp_path) as run, httpx.Client(base_url=run.url, timeout=30) as http:
        run.wait("/readyz")
        assert podman("healthcheck", "run", name).stdout.strip() in ("", "healthy")
        body = {"model": "minilm", "input": "The harbour was quiet."}
        assert http.post("/v1/embeddings", json=body).status_code == 401
        http.headers["authorization"] = f"Bearer {_KEY}"
        answer = http.post("/v1/embeddings", json=body)
        assert answer.status_code == 200
        assert len(answer.json()["data"][0]["embedding"]) == 384

        assert inside(name, "id", "-u").stdout.strip() == "10001"
        # Not the keys: podman gives a new volume to the container's user, Docker leaves it root's.
        for path in ("/x", "/opt/sixways/x", "/bundles/0/x"):
            assert inside(name, "touch", path).returncode != 0, path
        assert inside(name, "touch", "/tmp/x").returncode == 0  # noqa: S108
        status = inside(name, "cat", "/proc/1/status").stdout
        lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert {lines[key] for key in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert lines["NoNewPrivs"] == "1"
        (shown,) = json.loads(podman("inspect", name).stdout)
        assert shown["HostConfig"]["Memory"] == 1024 * 2**20
        assert shown["HostConfig"]["MemorySwap"] == 1024 * 2**20
        assert shown["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
        bound = {k: v for k, v in shown["HostConfig"]["PortBindings"].items() if v}
        assert bound == {"5000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
        assert _KEY not in json.dumps(shown)
        podman("stop", "--time", str(inputs["destroy_grace_seconds"]), name, seconds=90)
        assert run.state("ExitCode") == "0"


def inside(name: str, *command: str) -> Any:
    return podman("exec", name, *command, check=False)


def test_a_changed_byte_in_the_bundle_stops_it_and_names_the_file(
    image: str, bundle: tuple[Path, str], tmp_path: Path
) -> None:
    path, digest = bundle
    broken = tmp_path / "model"
    shutil.copytree(path, broken)
    (weights,) = broken.rglob("*.bin")
    weights.chmod(0o644)
    with weights.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    port = free_port()
    name = f"sixways-test-{port}"
    inputs = container_inputs(
        name, args_for((broken, digest), port), image_id=image, keys_volume=f"{name}-keys",
        keys=keys_json("0" * 64),
    )  # fmt: skip
    inputs["restart"] = "no"  # else it would be started again and again
    with container(inputs, tmp_path) as run:
        assert run.ended() == 1
        assert f"{weights.relative_to(broken)} differs from the manifest" in run.log()


def test_a_bundle_in_an_image_of_its_own_is_served_from_a_read_only_volume(
    image: str, bundle: tuple[Path, str], tmp_path: Path
) -> None:
    """As a pod has it: two images, and neither holds the other's files."""
    path, digest = bundle
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(DOCKERFILE)
    tag = "localhost/sixways-test-bundle"
    podman("build", "--format", "docker", "--file", str(dockerfile), "--tag", tag, str(path))
    port = free_port()
    name = f"sixways-test-{port}"
    inputs = container_inputs(
        name, args_for(bundle, port), image_id=image, keys_volume=f"{name}-keys",
        keys=keys_json(hashlib.sha256(_KEY.encode()).hexdigest()),
    )  # fmt: skip
    inputs["mounts"] = [
        {"type": "image", "source": tag, "target": "/bundles/0", "read_only": False}
    ]
    with container(inputs, tmp_path) as run:
        run.wait("/readyz")
        assert inside(name, "touch", "/bundles/0/x").returncode != 0
        answer = httpx.get(
            f"{run.url}/v1/models", headers={"authorization": f"Bearer {_KEY}"}, timeout=10
        )
        assert answer.status_code == 200
        assert digest in answer.text
    podman("rmi", tag)
