"""`Site`: Nginx in front of a host's server."""

from typing import NotRequired, TypedDict

import pulumi

from sixways.naming import PluginResource
from sixways.server.args import AccessArgs


class AcmeArgs(TypedDict):
    """A certificate that the host asks an ACME server for, and renews by itself."""

    email: pulumi.Input[str]
    """Whom the server writes to."""
    domains: pulumi.Input[list[pulumi.Input[str]]]
    """Names of the certificate; each leads to the host, whose port 80 the server asks. Of several
    hosts each gets its own; Let's Encrypt gives five for the same names in a week."""
    agree_tos: pulumi.Input[bool]
    """True: you agree to the terms of the ACME server."""
    directory_url: NotRequired[pulumi.Input[str]]
    """The ACME server; the host must trust who signed its certificate. Default: Let's Encrypt."""


class SiteArgs(AccessArgs):
    """Inputs of a `Site`; `certificate` with `certificate_key`, or `acme`."""

    nginx_version: pulumi.Input[str]
    """The host's Nginx, 1.18 or later: `nginxVersion` of the host's facts."""
    server_names: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Names and addresses that callers use; `_` for all. The first is the URL's. Default: all."""
    certificate: NotRequired[pulumi.Input[str]]
    """The certificate chain (PEM), the server's own first."""
    certificate_key: NotRequired[pulumi.Input[str]]
    """Its key (PEM) without a passphrase, a secret."""
    acme: NotRequired[pulumi.Input[AcmeArgs]]
    """Asks an ACME server for the certificate. The host needs certbot: `acme` of `Host`."""
    peers: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Addresses of all hosts of the server, this one too, as the hosts reach each other. Default:
    it is the only one."""
    fleet_certificate: NotRequired[pulumi.Input[str]]
    """The one certificate (PEM) that the hosts show each other, for `sixways-fleet`; needed with
    `peers`."""
    fleet_key: NotRequired[pulumi.Input[str]]
    """Its key (PEM), a secret."""
    max_body_bytes: NotRequired[pulumi.Input[int]]
    """A larger body is refused with 413. Default: 8 MiB, as the server's."""
    request_seconds: NotRequired[pulumi.Input[float]]
    """Longest time of a request; the server's own. Default: 600."""
    keepalive_seconds: NotRequired[pulumi.Input[int]]
    """How long an idle connection of a caller stays. Default: 75."""
    requests_per_minute: NotRequired[pulumi.Input[int]]
    """Of one key at this host; beyond it and `burst`: 429 with Retry-After. Default: no limit."""
    burst: NotRequired[pulumi.Input[int]]
    """Requests of one key that may come at once beyond the rate. Default: 20."""
    metrics_from: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Networks that may read `/metrics`. Default: the host itself."""
    trusted_proxies: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Networks whose `X-Forwarded-For` is believed. Default: none."""
    https_port: NotRequired[pulumi.Input[int]]
    """Where callers reach it. Default: 443. (`port` is that of sshd.)"""
    redirect_http: NotRequired[pulumi.Input[bool]]
    """Whether port 80 leads to https. Default: true."""


class Site(PluginResource):
    """TLS, HTTP/2, limits per key and the way to the slot that serves, in Nginx's `conf.d`.

    A configuration that Nginx refuses is put back as it was. Requests under way are answered when
    the site changes. Other sites of the host's Nginx stay as they are.
    """

    url: pulumi.Output[str]
    """Where callers reach it."""
    not_after: pulumi.Output[str]
    """When the certificate ends, in UTC (RFC 3339); of an ACME certificate as of the last update or
    refresh."""
    status: pulumi.Output[str]
    """`serving`, or what a refresh found: `stopped`, or which files are not as they were made."""

    def __init__(
        self, name: str, args: SiteArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Writes the site.

        Args:
            name: the resource's name.
            args: see `SiteArgs`.
            opts: the usual resource options.
        """
        own = pulumi.ResourceOptions(
            additional_secret_outputs=["private_key", "certificate_key", "fleet_key"]
        )
        outputs = {"url": None, "not_after": None, "status": None}
        super().__init__(
            "sixways:server:Site",
            name,
            {**outputs, **args},
            pulumi.ResourceOptions.merge(own, opts),
        )
