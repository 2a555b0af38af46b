"""`LocalContainer`: bundles served by the server's image in a Docker engine of this machine."""

import json
import re
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict, cast

import pulumi
import pulumi_docker as docker

from sixways.api_key import ApiKey
from sixways.checks import MODEL_NAME, Checks, InputsRefused, is_address, is_plain
from sixways.endpoint import bundle_digest, keys_json
from sixways.local.endpoint import ServedModelArgs
from sixways.plugin.api_key import KEY, sha256
from sixways_bundle import Problem

KEYS_FOLDER = "/etc/sixways/keys"
KEYS_FILE = f"{KEYS_FOLDER}/keys.json"
HOST, PORT, MEMORY_MB, DRAIN_SECONDS = "127.0.0.1", 5000, 4096, 30
_INNER_PORT = 5000
_USER = "10001:10001"
_CONTAINER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,99}")


class LocalContainerArgs(TypedDict):
    """Inputs of a `LocalContainer`. Every change makes another container: the old one answers what
    it has accepted, then the new one starts. Where that pause matters, use `LocalEndpoint`."""

    image: pulumi.Input[str]
    """The server's image: `REPOSITORY@sha256:…`, or what the Docker engine has already
    (`ContainerImage.image_uri`)."""
    models: list[ServedModelArgs]
    """What to serve, at least one model; a list known before the update. The bundles' folders are
    on the engine's machine and are mounted read-only."""
    host: NotRequired[pulumi.Input[str]]
    """IP address of this machine to listen on. Default: 127.0.0.1, which only this machine
    reaches."""
    port: NotRequired[pulumi.Input[int]]
    """TCP port of this machine. Default: 5000."""
    api_key: NotRequired[pulumi.Input[str]]
    """The key that requests carry, at least 16 characters. Default: a random one."""
    memory_mb: NotRequired[pulumi.Input[int]]
    """Memory of the container in MiB, without swap; over it the engine ends it, and starts it
    again. Default: 4096."""
    cpus: NotRequired[pulumi.Input[float]]
    """Processors it may use at a time; the server sizes its threads by it. Default: all."""
    workers: NotRequired[pulumi.Input[int]]
    """Processes that serve; each opens every model for itself. Default: 1."""
    drain_seconds: NotRequired[pulumi.Input[int]]
    """Longest time that what is in flight may take once the container has to go. Default: 30."""
    startup_seconds: NotRequired[pulumi.Input[int]]
    """Longest time until the models are loaded; then the update fails. Default: 300."""


def problems(name: str, args: LocalContainerArgs) -> list[Problem]:
    """Every problem with the inputs; values that are outputs are passed over."""
    checks = Checks()
    checks.known(args, LocalContainerArgs)
    checks.required(args, "image", "models")
    if not _CONTAINER_NAME.fullmatch(name):
        checks.add("name", name, "up to 100 letters, digits, '_', '.' and '-'",
                   "rename the resource: its container is called like it")  # fmt: skip
    _check_models(checks, args.get("models"))
    host, key = args.get("host"), args.get("api_key")
    if isinstance(host, str) and not is_address(host):
        checks.add("host", host, "an IP address of this machine, e.g. 127.0.0.1")
    if isinstance(key, str) and not KEY.fullmatch(key):
        # The key itself is shown to nobody.
        checks.add("api_key", f"{len(key)} characters", "at least 16 printable ASCII characters "
                   "without spaces", "leave it out for a random one")  # fmt: skip
    checks.number("port", args.get("port"), 1, 65_535, whole=True)
    checks.number("memory_mb", args.get("memory_mb"), 128, 16_777_216, whole=True)
    checks.number("cpus", args.get("cpus"), 0.01, 1024)
    checks.number("workers", args.get("workers"), 1, 64, whole=True)
    # No shorter than idle connections linger after SIGTERM, 6 s by default.
    checks.number("drain_seconds", args.get("drain_seconds"), 6, 3600, whole=True)
    checks.number("startup_seconds", args.get("startup_seconds"), 2, 86_400, whole=True)
    return checks.problems


def _check_models(checks: Checks, models: Any) -> None:
    if models is not None and not isinstance(models, list):
        checks.add("models", type(models).__name__, "a list that is known before the update")
        return
    seen: list[object] = []
    for index, model in enumerate(models or []):
        here = f"models[{index}]"
        if not isinstance(model, Mapping):
            checks.add(here, type(model).__name__, "a mapping with name, path and digest")
            continue
        checks.known(model, ServedModelArgs, f"{here}.")
        checks.required(model, "name", "path", "digest", prefix=f"{here}.")
        name, path = model.get("name"), model.get("path")
        if isinstance(name, str) and name:
            if not MODEL_NAME.fullmatch(name):
                checks.add(f"{here}.name", name, "up to 128 letters, digits, '.', '_' and '-'")
            if name in seen:
                checks.add(f"{here}.name", name, "each name once", "rename one of them")
            seen.append(name)
        if isinstance(path, str) and path and not path.startswith("/"):
            checks.add(f"{here}.path", path, "an absolute path", "take Bundle.path")


def container_inputs(
    name: str,
    args: LocalContainerArgs,
    *,
    image_id: pulumi.Input[str],
    keys_volume: pulumi.Input[str],
    keys: pulumi.Input[str],
) -> dict[str, Any]:
    """Inputs of the container, in the names of `pulumi_docker.Container`.

    Nothing in it can be written but `/tmp`; its process is nobody's on this machine, has no
    capability and gets none. The keys file lies in a volume, since a file can be put into a
    read-only container through a volume alone.

    Args:
        name: the container's name.
        args: the component's inputs.
        image_id: what to run.
        keys_volume: the volume for the keys file.
        keys: its content (`keys_json`).
    """
    folders = [f"/bundles/{index}" for index in range(len(args["models"]))]
    drain = args.get("drain_seconds", DRAIN_SECONDS)
    environment: dict[str, pulumi.Input[Any]] = {
        "SIXWAYS_MODELS": _models_json(args["models"], folders),
        "SIXWAYS_KEYS_FILE": KEYS_FILE,
        "SIXWAYS_PORT": _INNER_PORT,
        "SIXWAYS_WORKERS": args.get("workers", 1),
        "SIXWAYS_DRAIN_SECONDS": drain,
        "SIXWAYS_CONSOLE": "true",
    }
    inputs: dict[str, Any] = {
        "name": name,
        "image": image_id,
        "user": _USER,
        "read_only": True,
        "tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=256m"},  # noqa: S108 - in the container
        "capabilities": {"drops": ["ALL"]},
        "security_opts": ["no-new-privileges"],
        "memory": args.get("memory_mb", MEMORY_MB),
        "memory_swap": args.get("memory_mb", MEMORY_MB),
        "restart": "unless-stopped",
        "stop_signal": "SIGTERM",
        # The drain, and a little for the end of the process itself.
        "stop_timeout": _plus(drain, 10),
        "destroy_grace_seconds": _plus(drain, 10),
        "ports": [
            {
                "internal": _INNER_PORT,
                "external": args.get("port", PORT),
                "ip": args.get("host", HOST),
                "protocol": "tcp",
            }
        ],
        "envs": [_pair(key, value) for key, value in environment.items()],
        "mounts": [
            {"type": "bind", "source": model["path"], "target": folder, "read_only": True}
            for model, folder in zip(args["models"], folders, strict=True)
        ],
        "volumes": [{"volume_name": keys_volume, "container_path": KEYS_FOLDER}],
        "uploads": [{"file": KEYS_FILE, "content": keys, "permissions": "0444"}],
        # The image's own, said again: images in OCI's format have none.
        "healthcheck": {
            "tests": ["CMD", "python", "-m", "sixways_server.probe"],
            "interval": "10s",
            "timeout": "5s",
            "start_period": "120s",
            "retries": 3,
        },
        "labels": [
            {"label": "app.kubernetes.io/part-of", "value": "sixways"},
            {"label": "app.kubernetes.io/instance", "value": name},
        ],
        "log_driver": "json-file",
        "log_opts": {"max-size": "10m", "max-file": "3"},
    }
    if "cpus" in args:
        inputs["cpus"] = _text(args["cpus"])
    return inputs


def _models_json(models: list[ServedModelArgs], folders: list[str]) -> pulumi.Input[str]:
    served = [{**model, "path": folder} for model, folder in zip(models, folders, strict=True)]
    return json.dumps(served) if is_plain(served) else pulumi.Output.json_dumps(served)


def _plus(number: pulumi.Input[int], more: int) -> pulumi.Input[int]:
    if isinstance(number, int):
        return number + more
    return pulumi.Output.all(number).apply(lambda known: int(known[0]) + more)


def _text(value: pulumi.Input[Any]) -> pulumi.Input[str]:
    return value.apply(str) if isinstance(value, pulumi.Output) else str(value)


def _pair(key: str, value: pulumi.Input[Any]) -> pulumi.Input[str]:
    if isinstance(value, pulumi.Output):
        return value.apply(lambda known: f"{key}={known}")
    return f"{key}={value}"


class LocalContainer(pulumi.ComponentResource):
    """The server's image in a Docker engine: read-only, without root and without capabilities.

    The update returns when the container is healthy. The engine starts it again when it ends, and
    when the machine starts.
    """

    url: pulumi.Output[str]
    """Base URL, without a trailing slash."""
    health_url: pulumi.Output[str]
    """Answers 200 while the server lives; needs no key."""
    api_key: pulumi.Output[str]
    """The key, a secret."""
    bundle_digest: pulumi.Output[str]
    """The bundle's digest; with several models that of all names and digests."""
    dashboard: pulumi.Output[str]
    """A page that shows what is served and how fast."""
    container_id: pulumi.Output[str]
    """The container, for `docker logs`."""

    def __init__(
        self, name: str, args: LocalContainerArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Runs the container.

        Args:
            name: the resource's name; the container's is PROJECT-STACK-NAME.
            args: see `LocalContainerArgs`.
            opts: the usual resource options; a Docker provider among them is used.

        Raises:
            InputsRefused: inputs that cannot be used; carries every problem.
        """
        found = problems(name, args)
        if found:
            raise InputsRefused(f"LocalContainer {name}", found)
        super().__init__("sixways:local:LocalContainer", name, None, opts)
        children = pulumi.ResourceOptions(parent=self)
        digest = self._key(name, args)
        image = docker.RemoteImage(
            f"{name}-image", name=args["image"], keep_locally=True, opts=children
        )
        called = f"{pulumi.get_project()}-{pulumi.get_stack()}-{name}"
        keys = docker.Volume(f"{name}-keys", name=f"{called}-keys", opts=children)
        container = docker.Container(
            f"{name}-container",
            **container_inputs(
                called,
                args,
                image_id=image.image_id,
                keys_volume=keys.name,
                keys=digest.apply(keys_json),
            ),
            wait=True,
            wait_timeout=args.get("startup_seconds", 300),
            # It owns its port and its name.
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
        )
        where = pulumi.Output.all(args.get("host", HOST), args.get("port", PORT), container.id)
        self.url = where.apply(lambda it: f"http://{_bracketed(it[0])}:{int(it[1])}")
        self.health_url = pulumi.Output.concat(self.url, "/healthz")
        self.dashboard = pulumi.Output.concat(self.url, "/")
        served: pulumi.Output[Any] = pulumi.Output.from_input(cast(Any, args["models"]))
        self.bundle_digest = served.apply(bundle_digest)
        self.container_id = container.id
        outputs = (output for output in LocalContainer.__annotations__ if output[0] != "_")
        self.register_outputs({output: getattr(self, output) for output in outputs})

    def _key(self, name: str, args: LocalContainerArgs) -> pulumi.Output[str]:
        """Sets the key; returns its hash."""
        if "api_key" in args:
            self.api_key = pulumi.Output.secret(args["api_key"])
            return self.api_key.apply(sha256)
        made = ApiKey(f"{name}-key", opts=pulumi.ResourceOptions(parent=self))
        self.api_key = made.key
        return made.sha256


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
