"""`LocalEndpoint`: bundles served by one process on this machine."""

from pathlib import Path
from typing import NotRequired, TypedDict

import pulumi

from sixways.naming import PluginResource

_OUTPUTS = (
    "url",
    "health_url",
    "api_key",
    "bundle_digest",
    "dashboard",
    "pid",
    "log_path",
    "status",
    "server_version",
    "folder",
    "key_generated",
)


class ServedModelArgs(TypedDict):
    """One model of an endpoint."""

    name: pulumi.Input[str]
    """The name requests use."""
    path: pulumi.Input[str]
    """The bundle's folder (`Bundle.path`)."""
    digest: pulumi.Input[str]
    """The bundle's digest (`Bundle.digest`); what lies at `path` must have it."""
    variant: NotRequired[pulumi.Input[str]]
    """The variant to serve. Default: the first of the bundle that this machine can run."""


class LocalEndpointArgs(TypedDict):
    """Inputs of a `LocalEndpoint`. Models, port and key change in place, without downtime;
    another host or state folder replaces the endpoint, and a generated key with it."""

    models: pulumi.Input[list[pulumi.Input[ServedModelArgs]]]
    """What to serve, at least one model."""
    host: NotRequired[pulumi.Input[str]]
    """IP address to listen on. Default: 127.0.0.1, which only this machine reaches."""
    port: NotRequired[pulumi.Input[int]]
    """TCP port. Default: 5000."""
    api_key: NotRequired[pulumi.Input[str]]
    """The key that requests carry, at least 16 characters. Default: a random one."""
    state_dir: NotRequired[pulumi.Input[str]]
    """Folder for pid, log and key hashes. Default: `.sixways/run/<stack>` of the project."""


class LocalEndpoint(PluginResource):
    """A model server on this machine: OpenAI and Open Inference V2 behind one URL and key.

    An update starts the new server, hands it the listening socket, and lets the old one answer
    what it has accepted. A dead process shows on refresh and is started by the next update.
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
    pid: pulumi.Output[int]
    """The server's process."""
    log_path: pulumi.Output[str]
    """The server's log."""
    status: pulumi.Output[str]
    """`running`; after a refresh `stopped` where the process is gone, or `outdated` where it
    serves with another key."""

    def __init__(
        self, name: str, args: LocalEndpointArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Starts the server.

        Args:
            name: the resource's name.
            args: see `LocalEndpointArgs`.
            opts: the usual resource options.
        """
        outputs = dict.fromkeys(_OUTPUTS)
        folder = Path(pulumi.get_root_directory()) / ".sixways" / "run" / pulumi.get_stack()
        props = {**outputs, "state_dir": str(folder), **args}
        # An endpoint owns its port, so there is never a second one beside it.
        own = pulumi.ResourceOptions(
            additional_secret_outputs=["api_key"], delete_before_replace=True
        )
        super().__init__(
            "sixways:local:LocalEndpoint", name, props, pulumi.ResourceOptions.merge(own, opts)
        )
