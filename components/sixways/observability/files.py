"""The files by which a Prometheus and a Grafana that you have watch servers of yours."""

from __future__ import annotations

from collections.abc import Sequence

from sixways.observability.grafana import dashboard
from sixways.observability.prometheus import (
    RUNBOOK,
    Target,
    Terms,
    rule_groups,
    rules_file,
    scrape_configs,
    scrape_file,
)
from sixways.observability.slo import Slo

SCRAPE, RULES, DASHBOARD = "scrape.yml", "rules.yml", "dashboard.json"


def monitoring_files(
    slo: Slo,
    *,
    name: str,
    targets: Sequence[Target],
    ca_file: str | None = None,
    server_name: str | None = None,
    node_exporter_port: int | None = None,
    dcgm_exporter_port: int | None = None,
    runbook: str = RUNBOOK,
) -> dict[str, str]:
    """`scrape.yml`, `rules.yml` and `dashboard.json` by name.

    Args:
        slo: the objective.
        name: the job, and the objective's name.
        targets: the hosts.
        ca_file: certificates (PEM) that the hosts' are trusted by; None: the system's.
        server_name: the name in the hosts' certificates, where they are scraped by another.
        node_exporter_port: of Prometheus' node-exporter on each host; None: there is none.
        dcgm_exporter_port: of NVIDIA's dcgm-exporter; None: there is none.
        runbook: the page to whose sections alerts lead.
    """
    jobs = scrape_configs(
        name,
        targets,
        ca_file=ca_file,
        server_name=server_name,
        node_exporter_port=node_exporter_port,
        dcgm_exporter_port=dcgm_exporter_port,
    )
    selector = f'job="{name}"'
    terms = Terms.of(slo, name=name, selector=selector, runbook=runbook)
    return {
        SCRAPE: scrape_file(jobs),
        RULES: rules_file(rule_groups(terms)),
        DASHBOARD: dashboard(
            slo, name=name, selector=selector, title=f"Sixways: {name}", runbook=runbook
        ),
    }
