"""`Host`: a Linux host over ssh, made ready to serve."""

from typing import NotRequired, TypedDict

import pulumi

from sixways.naming import PluginResource
from sixways.server.args import AccessArgs


class FirewallArgs(TypedDict):
    """What may come in to a host. Everything that it begins itself may go out."""

    allow_ssh_from: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Networks that may reach its sshd; one of them must hold the address that the update comes
    from. Default: all."""
    allow_https_from: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Networks that may call it. Default: all."""
    https_port: NotRequired[pulumi.Input[int]]
    """Where it is called. Default: 443."""
    fleet: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """IP addresses of the hosts that serve together; they alone reach each other's inner port.
    Default: none."""
    ports: NotRequired[pulumi.Input[list[pulumi.Input[int]]]]
    """TCP ports that are open to everybody besides: 80 for the way from http to https, and for
    ACME. Default: none."""


class HostArgs(AccessArgs):
    """Inputs of a `Host`, among them how it is reached."""

    owner: pulumi.Input[str]
    """Project and stack, written on the host: another stack is refused there."""
    firewall: NotRequired[pulumi.Input[FirewallArgs]]
    """Closes everything but ssh and https, by nftables. Default: nothing is closed."""
    packages: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Further packages of its distribution. Default: none."""
    acme: NotRequired[pulumi.Input[bool]]
    """Whether it gets certificates by itself, which needs certbot. Default: false."""
    node_exporter: NotRequired[pulumi.Input[bool]]
    """Whether it tells Prometheus of its processors, memory and disks, on port 9100 of all its
    addresses; with `firewall`, for the fleet alone. Default: false."""
    supervisor: NotRequired[pulumi.Input[str]]
    """What keeps the server running: `systemd`, or `supervisord` on a host without it. Default:
    `systemd`."""


class Host(PluginResource):
    """A host with Python, Nginx, a user and folders for the server, and perhaps a firewall.

    The distribution is of Debian's or of RHEL's family; another one is refused. Packages that were
    installed stay when the host is deleted; everything else goes.
    """

    distribution: pulumi.Output[str]
    """`debian`, `ubuntu`, `rocky`, …"""
    family: pulumi.Output[str]
    """`debian` or `rhel`."""
    version: pulumi.Output[str]
    """Of the distribution."""
    architecture: pulumi.Output[str]
    """`x86_64` or `aarch64`."""
    cpus: pulumi.Output[int]
    """Processors."""
    memory_bytes: pulumi.Output[int]
    """Main memory."""
    free_bytes: pulumi.Output[int]
    """Free space where bundles lie, when the host was last looked at."""
    python: pulumi.Output[str]
    """Path of its Python, 3.11 or newer."""
    systemd_version: pulumi.Output[int]
    """0 where systemd does not run it."""
    nginx_version: pulumi.Output[str]
    """Such as `1.22.1`."""
    gpus: pulumi.Output[list[str]]
    """Model of each NVIDIA GPU."""
    user_made: pulumi.Output[bool]
    """Whether the server's user was made for it, and goes with it."""
    installed: pulumi.Output[list[str]]
    """Packages that were installed for it."""
    status: pulumi.Output[str]
    """`ready`, or what is missing; the next update mends it."""

    def __init__(
        self, name: str, args: HostArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Makes the host ready.

        Args:
            name: the resource's name.
            args: see `HostArgs`.
            opts: the usual resource options.
        """
        own = pulumi.ResourceOptions(additional_secret_outputs=["private_key"])
        super().__init__(
            "sixways:server:Host",
            name,
            {**dict.fromkeys(_OUTPUTS), **args},
            pulumi.ResourceOptions.merge(own, opts),
        )


_OUTPUTS = tuple(Host.__annotations__)
