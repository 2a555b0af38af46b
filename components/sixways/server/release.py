"""`Release`: what serves on one host, in one of two slots."""

from typing import Any, NotRequired, TypedDict

import pulumi

from sixways.naming import PluginResource
from sixways.server.args import AccessArgs

_OUTPUTS = ("release_id", "slot", "bundle_digest", "status", "kept", "venv", "fingerprint")
_SECRETS = ["private_key", "keys", "index_url"]


class ReleaseModelArgs(TypedDict):
    """A model to serve."""

    name: pulumi.Input[str]
    """The name requests use."""
    path: pulumi.Input[str]
    """The bundle's folder on the machine that runs the update (`Bundle.path`). It need not be
    there while the host has the bundle."""
    digest: pulumi.Input[str]
    """The bundle's digest (`Bundle.digest`)."""
    variant: NotRequired[pulumi.Input[str]]
    """The variant to serve. Default: the fastest that the host has an engine for."""


class ReleaseKeyArgs(TypedDict):
    """A key that may call."""

    name: pulumi.Input[str]
    """The name that logs show."""
    sha256: pulumi.Input[str]
    """The key's SHA-256 in hex (`ApiKey.sha256`); the key itself never reaches a host."""


class ReleaseServerArgs(TypedDict):
    """Settings of the server; see `sixways_server.config.ServerConfig`."""

    workers: NotRequired[pulumi.Input[int]]
    """Processes that serve; each opens every model. Default: 1."""
    threads: NotRequired[pulumi.Input[int]]
    """Processor threads a model may use in one worker. Default: what the processors grant."""
    max_body_bytes: NotRequired[pulumi.Input[int]]
    """A larger request is refused with 413. Default: 8388608."""
    max_inputs: NotRequired[pulumi.Input[int]]
    """Texts that one embeddings request may hold. Default: 2048."""
    queue_limit: NotRequired[pulumi.Input[int]]
    """Inputs of an encoder that may wait in one worker; over it 429. Default: 2048."""
    queue_seconds: NotRequired[pulumi.Input[float]]
    """How long an input may have to wait, judged by the recent throughput; over it 429."""
    cache_gb: NotRequired[pulumi.Input[float]]
    """Memory for keys and values of a language model in one worker, in 10^9 bytes."""
    request_seconds: NotRequired[pulumi.Input[float]]
    """Longest time of a request; then 504. 0: no limit. Default: 600."""
    drain_seconds: NotRequired[pulumi.Input[float]]
    """Longest time the old server may take to answer what it has accepted. Default: 30."""
    linger_seconds: NotRequired[pulumi.Input[float]]
    """How long an idle connection stays open once the server ends. Default: 6."""
    console: NotRequired[pulumi.Input[bool]]
    """Whether `/` shows the console page. Default: true."""
    graphql: NotRequired[pulumi.Input[bool]]
    """Whether `/graphql` is served; needs the extra `graphql`. Default: false."""


class ReleaseArgs(AccessArgs):
    """Inputs of a `Release`. Another address is another host, another supervisor begins anew; all
    else changes in place."""

    models: pulumi.Input[list[pulumi.Input[ReleaseModelArgs]]]
    """What to serve; at least one model."""
    keys: pulumi.Input[list[pulumi.Input[ReleaseKeyArgs]]]
    """Who may call; a secret. Changing them restarts nothing."""
    version: NotRequired[pulumi.Input[str]]
    """The version of sixways that serves. Default: the one that runs the update."""
    extras: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Further extras of sixways on the host, e.g. `gpu`, `otel`, `torch`."""
    index_url: NotRequired[pulumi.Input[str]]
    """The package index that the host uses; a secret, since it may hold a password. Default: that
    of the host's pip."""
    wheelhouse: NotRequired[pulumi.Input[str]]
    """A folder with all wheels, on the machine that runs the update: they are sent, and the host
    needs no index."""
    server: NotRequired[pulumi.Input[ReleaseServerArgs]]
    """Settings of the server."""
    memory_max: NotRequired[pulumi.Input[str]]
    """Memory that the server may take, as systemd's MemoryMax: `6G`, `80%`. Both slots have it, and
    for some seconds of a release both are in use. Default: no limit."""
    cpu_quota: NotRequired[pulumi.Input[str]]
    """Processors that it may take, as systemd's CPUQuota: `350%`. Default: no limit."""
    keep: NotRequired[pulumi.Input[int]]
    """Releases that stay on the host for the way back, beside the one that serves. Default: 2."""
    ready_seconds: NotRequired[pulumi.Input[float]]
    """How long the new server may take until it is ready. Default: 300."""
    python: NotRequired[pulumi.Input[str]]
    """An interpreter of Python 3.11 or newer on the host. Default: `/usr/bin/python3`."""
    systemd_version: NotRequired[pulumi.Input[int]]
    """The host's systemd; from 254 the pauses between restarts grow. Default: 252."""
    gpu: NotRequired[pulumi.Input[bool]]
    """Whether the server may open NVIDIA's devices. Default: false."""
    supervisor: NotRequired[pulumi.Input[str]]
    """`systemd`, or `supervisord` for a host without it: that one knows no limits and no sandbox.
    Default: `systemd`."""


class Release(PluginResource):
    """What serves on one host. Its update is a release: the new server is ready in the free slot
    before it gets the requests, and they go back if it fails."""

    release_id: pulumi.Output[str]
    """Names all that serves and how."""
    slot: pulumi.Output[str]
    """Where it serves: `blue` or `green`."""
    bundle_digest: pulumi.Output[str]
    """The digest of what is served."""
    status: pulumi.Output[str]
    """`serving`; after a refresh also what is wrong, which the next update mends."""
    kept: pulumi.Output[list[str]]
    """The releases that are kept for the way back, the newest first."""

    def __init__(
        self, name: str, args: ReleaseArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Makes the release.

        Args:
            name: the resource's name.
            args: see `ReleaseArgs`.
            opts: the usual resource options.
        """
        own = pulumi.ResourceOptions(additional_secret_outputs=_SECRETS)
        inputs: dict[str, Any] = {**dict.fromkeys(_OUTPUTS), **args}
        for secret in _SECRETS:
            if inputs.get(secret) is not None:
                inputs[secret] = pulumi.Output.secret(inputs[secret])
        super().__init__(
            "sixways:server:Release", name, inputs, pulumi.ResourceOptions.merge(own, opts)
        )
