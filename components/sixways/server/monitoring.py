"""`Monitoring`: Prometheus on a host of your own, which watches servers."""

from typing import NotRequired, TypedDict

import pulumi

from sixways.naming import PluginResource
from sixways.observability.slo import SloArgs
from sixways.server.args import AccessArgs


class MonitoringTargetArgs(TypedDict):
    """One host that is watched."""

    name: pulumi.Input[str]
    """Its label `host`."""
    address: pulumi.Input[str]
    """IP address or name. Its `/metrics` must be open to the monitoring host (`metrics_from`)."""
    port: NotRequired[pulumi.Input[int]]
    """Of its https. Default: 443."""


class MonitoringArgs(AccessArgs):
    """Inputs of `Monitoring`, among them how its host is reached."""

    owner: pulumi.Input[str]
    """Project and stack, written on the host: another stack is refused there."""
    name: pulumi.Input[str]
    """Names job and objective: label `job` of what is scraped, `slo` of alerts."""
    targets: pulumi.Input[list[pulumi.Input[MonitoringTargetArgs]]]
    """The hosts that are watched, at least one."""
    ca: NotRequired[pulumi.Input[str]]
    """Certificates (PEM) by which theirs are trusted; a self-signed one itself. Default: the
    system's."""
    server_name: NotRequired[pulumi.Input[str]]
    """The name in their certificates, where that is not their address. Default: the address."""
    slo: NotRequired[pulumi.Input[SloArgs]]
    """The objective that alerts watch over. Default: see `SloArgs`."""
    prometheus_port: NotRequired[pulumi.Input[int]]
    """Where it listens, on loopback alone. Default: 9090. (`port` is that of sshd.)"""
    scrape_seconds: NotRequired[pulumi.Input[int]]
    """Pause between two looks, 1 to 300. Default: 15."""
    retention_days: NotRequired[pulumi.Input[int]]
    """Days that samples are kept; at least the longest window of an alert. Default: 15."""
    storage_gb: NotRequired[pulumi.Input[int]]
    """GB that samples may take; the oldest go first. Default: 5."""
    node_exporter: NotRequired[pulumi.Input[bool]]
    """Whether the hosts' node-exporters (port 9100) are scraped too. Default: false."""
    dcgm_exporter: NotRequired[pulumi.Input[bool]]
    """Whether NVIDIA's dcgm-exporters (port 9400) are scraped too. Default: false; the server tells
    of its GPUs itself."""
    alertmanagers: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """`ADDRESS:PORT` of Alertmanagers that are told of alerts. Default: none, alerts are on
    Prometheus' page."""
    runbook_url: NotRequired[pulumi.Input[str]]
    """The page of the runbook, to which alerts add `#runbook-KEY`. Default: this project's page
    `docs/monitoring.md`."""
    grafana: NotRequired[pulumi.Input[bool]]
    """Whether Grafana shows the dashboard there. It is installed where the host's repositories have
    it; a host without it is refused. Default: false."""
    grafana_password: NotRequired[pulumi.Input[str]]
    """Password of Grafana's user `admin`, 12 characters or more; a secret. Needed with `grafana`;
    a Grafana that is there already keeps its own, and so does one that has begun: another password
    is set there with `grafana cli admin reset-admin-password`."""


class Monitoring(PluginResource):
    """Prometheus as a unit of its own (`sixways-prometheus`) on one host, with rules and alerts for
    one objective.

    A Prometheus that runs there already is left alone. When it is deleted, unit, files and data go;
    packages stay.
    """

    url: pulumi.Output[str]
    """Its address on that host; `ssh -L 9090:127.0.0.1:9090 HOST` brings it to your browser."""
    grafana_url: pulumi.Output[str]
    """Grafana's address on that host; empty without it."""
    scrape: pulumi.Output[str]
    """The jobs as a file, for a Prometheus that you have."""
    rules: pulumi.Output[str]
    """Rules and alerts as a file for it."""
    dashboard: pulumi.Output[str]
    """The dashboard as a file for Grafana."""
    status: pulumi.Output[str]
    """`watches`, or what a refresh found different."""

    def __init__(
        self, name: str, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Installs it.

        Args:
            name: the resource's name.
            args: see `MonitoringArgs`.
            opts: the usual resource options.
        """
        own = pulumi.ResourceOptions(additional_secret_outputs=["private_key", "grafana_password"])
        outputs = ("url", "grafana_url", "scrape", "rules", "dashboard", "status")
        super().__init__(
            "sixways:server:Monitoring",
            name,
            {**dict.fromkeys(outputs), **args},
            pulumi.ResourceOptions.merge(own, opts),
        )
