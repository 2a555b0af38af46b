"""Inputs of a `PrivateServer`."""

from typing import NotRequired, TypedDict

import pulumi

from sixways.observability.slo import SloArgs
from sixways.server.args import AccessArgs


class ServerHostArgs(AccessArgs):
    """One host: its name, and how it is reached over ssh."""

    name: pulumi.Input[str]
    """What it is called in the stack: up to 32 lower-case letters, digits and dashes. A plain
    value. Another name is another host: what was installed under the old one is removed, but for
    what the new one has taken over on the same machine."""


class ServerModelArgs(TypedDict):
    """One model to serve."""

    name: pulumi.Input[str]
    """The name requests use."""
    path: pulumi.Input[str]
    """The bundle's folder on the machine that runs the update (`Bundle.path`)."""
    digest: pulumi.Input[str]
    """The bundle's digest (`Bundle.digest`). Every byte is verified against it on the host, when it
    has arrived and whenever the server starts."""
    variant: NotRequired[pulumi.Input[str]]
    """The variant to serve. Default: the first of the bundle that the host can run."""


class ServerPackagesArgs(TypedDict):
    """Which sixways the hosts run, and where its wheels come from."""

    version: NotRequired[pulumi.Input[str]]
    """Version of sixways. Default: the version of this package."""
    extras: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Its extras beside `server`: `gpu` for what a GPU does in the metrics, `otel` for traces,
    `torch` or `litert` for bundles that want these engines. Default: none."""
    index_url: NotRequired[pulumi.Input[str]]
    """Package index that the hosts reach; a secret, since it may hold a password. Default: that of
    the hosts' pip, PyPI unless their `/etc/pip.conf` says otherwise; none with `wheelhouse`."""
    wheelhouse: NotRequired[pulumi.Input[str]]
    """A folder of wheels on the machine that runs the update, for hosts that reach no index: it is
    sent to them, and nothing else is asked. Default: none."""


class ServerAcmeArgs(TypedDict):
    """A certificate that each host gets by itself, and renews, from an ACME authority."""

    email: pulumi.Input[str]
    """Where the authority writes when a certificate is not renewed."""
    agree_tos: pulumi.Input[bool]
    """Must be true: you have read and accept the authority's terms."""
    domains: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Names of the certificate; the authority must reach the hosts by each, on port 80. Default:
    `domain`."""
    directory_url: NotRequired[pulumi.Input[str]]
    """The authority's directory. Default: Let's Encrypt's."""


class ServerTlsArgs(TypedDict):
    """The certificate that callers see: exactly one of the three ways."""

    certificate: NotRequired[pulumi.Input[str]]
    """Certificate chain (PEM), the server's own first; with `certificate_key`."""
    certificate_key: NotRequired[pulumi.Input[str]]
    """Its private key (PEM, without a passphrase); a secret."""
    acme: NotRequired[ServerAcmeArgs]
    """From an ACME authority, renewed on the host."""
    self_signed: NotRequired[pulumi.Input[bool]]
    """One of its own making, for tests and closed networks: callers must be given `certificate`,
    the component's output."""


class ServerSettingsArgs(TypedDict):
    """How each host's server runs."""

    workers: NotRequired[pulumi.Input[int]]
    """Processes that serve, under Gunicorn if more than one; each opens every model for itself.
    Default: 1."""
    threads: NotRequired[pulumi.Input[int]]
    """Processor threads that a model may use in one worker. Default: what the processors and
    `cpu_quota` grant, divided among the workers."""
    request_seconds: NotRequired[pulumi.Input[float]]
    """Longest time of a request; then 504. Default: 600."""
    drain_seconds: NotRequired[pulumi.Input[float]]
    """Longest time that requests may take to end when the server must stop. Default: 30."""
    max_inputs: NotRequired[pulumi.Input[int]]
    """Texts that one request of embeddings may hold. Default: 2048."""
    queue_limit: NotRequired[pulumi.Input[int]]
    """Inputs of an encoder that may wait or be computed; over it 429. Default: 2048."""
    queue_seconds: NotRequired[pulumi.Input[float]]
    """How long an input of an encoder may have to wait; over it 429. Default: `queue_limit` alone
    counts."""
    cache_gb: NotRequired[pulumi.Input[float]]
    """Memory for keys and values of a language model in one worker, in 10^9 bytes. Default: a
    quarter of what is free, at most 4, divided among the workers."""
    console: NotRequired[pulumi.Input[bool]]
    """Whether `/` shows the console page. Default: true."""
    graphql: NotRequired[pulumi.Input[bool]]
    """Whether `/graphql` is served; needs the extra `graphql`. Default: false."""


class ServerLimitsArgs(TypedDict):
    """What one caller may do."""

    requests_per_minute: NotRequired[pulumi.Input[int]]
    """Requests of one key that one host takes; over it 429. Default: no limit."""
    burst: NotRequired[pulumi.Input[int]]
    """Requests of one key that may come at once beyond the rate. Default: 20."""
    max_body_bytes: NotRequired[pulumi.Input[int]]
    """A larger body is refused with 413. Default: 8 MiB."""


class ServerFirewallArgs(TypedDict):
    """Rules of nftables in a table of their own; what they do not name is closed."""

    allow_ssh_from: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Networks that may use ssh; the connection that the update comes by is always among them.
    Default: everybody."""
    allow_https_from: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Networks that may call. Default: everybody."""
    ports: NotRequired[pulumi.Input[list[pulumi.Input[int]]]]
    """Further TCP ports that stay open to everybody. Default: none."""


class ServerMonitoringArgs(TypedDict):
    """Prometheus on one of the hosts, which watches all of them."""

    host: pulumi.Input[str]
    """The name of that host. A plain value."""
    alertmanagers: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """`ADDRESS:PORT` of Alertmanagers that are told of alerts. Default: none, alerts are on
    Prometheus' page."""
    grafana: NotRequired[pulumi.Input[bool]]
    """Whether Grafana runs there too, where its package is to be had; with `grafana_password`.
    Default: false."""
    grafana_password: NotRequired[pulumi.Input[str]]
    """Password of Grafana's user `admin`, 12 characters or more; a secret. Grafana takes it when it
    starts for the first time: another one is set with `grafana cli admin reset-admin-password`."""
    dcgm_exporter: NotRequired[pulumi.Input[bool]]
    """Whether NVIDIA's dcgm-exporters of the hosts are scraped too. Default: false."""
    retention_days: NotRequired[pulumi.Input[int]]
    """Days that samples are kept. Default: 15."""
    storage_gb: NotRequired[pulumi.Input[int]]
    """GB that samples may take; the oldest go first. Default: 5."""


class PrivateServerArgs(TypedDict):
    """Inputs of a `PrivateServer`."""

    hosts: list[ServerHostArgs]
    """The hosts, at least one; two or more for a server that outlives one of them."""
    models: pulumi.Input[list[pulumi.Input[ServerModelArgs]]]
    """What to serve, at least one model. A change is a release, on one host after another."""
    tls: ServerTlsArgs
    """The certificate: `certificate` with `certificate_key`, `acme`, or `self_signed`."""
    domain: NotRequired[pulumi.Input[str]]
    """Name by which callers reach the hosts; you make it in your DNS, with all their addresses.
    Default: the first host's address."""
    server_names: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Names that Nginx answers to. Default: all."""
    packages: NotRequired[ServerPackagesArgs]
    """Which sixways, and where from. Default: this version, from PyPI."""
    api_key: NotRequired[pulumi.Input[str]]
    """The key that requests carry, at least 16 characters; a secret. Default: a random one."""
    previous_api_key: NotRequired[pulumi.Input[str]]
    """A key that is accepted too, while callers move from it to `api_key`. Default: none."""
    server: NotRequired[ServerSettingsArgs]
    """How each host's server runs. Default: the server's own defaults."""
    limits: NotRequired[ServerLimitsArgs]
    """What one caller may do. Default: bodies up to 8 MiB, no limit of requests."""
    memory_max: NotRequired[pulumi.Input[str]]
    """Most memory of the server's unit, as systemd writes it: `6G`, `80%`. During a release two
    run. Default: no limit."""
    cpu_quota: NotRequired[pulumi.Input[str]]
    """Most processor time of the server's unit: `350%` is three and a half processors. Default: no
    limit."""
    keep: NotRequired[pulumi.Input[int]]
    """Former releases whose bundles and environments stay on the hosts for the way back, 0 to 20.
    Default: 2."""
    ready_seconds: NotRequired[pulumi.Input[int]]
    """How long a new server may take until it is ready; then the old one stays. Default: 300."""
    supervisor: NotRequired[pulumi.Input[str]]
    """`systemd`, or `supervisord` for hosts without it. Default: `systemd`."""
    firewall: NotRequired[ServerFirewallArgs]
    """Rules of nftables that leave open ssh, https and what the hosts need of each other. Default:
    none are made."""
    https_port: NotRequired[pulumi.Input[int]]
    """TCP port that callers use. Default: 443."""
    redirect_http: NotRequired[pulumi.Input[bool]]
    """Whether port 80 leads to https. Default: true."""
    metrics_from: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Networks that may read `/metrics`, beside the host of `monitoring`. Default: the host
    itself."""
    trusted_proxies: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Networks of load balancers in front, whose `X-Forwarded-For` is believed. Default: none."""
    system_packages: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Further packages of the distribution that the hosts shall have. Default: none."""
    monitoring: NotRequired[ServerMonitoringArgs]
    """Prometheus, and Grafana, on one of the hosts. Default: none."""
    slo: NotRequired[SloArgs]
    """What is promised; `monitoring` alerts when it is broken. Default: see `SloArgs`."""
