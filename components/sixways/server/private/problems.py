"""Checks of a `PrivateServer`'s inputs: all at once, and before any host is talked to."""

import re
from collections.abc import Mapping
from typing import Any

import pulumi

from sixways.checks import DIGEST, MODEL_NAME, Checks, is_address, is_number, is_plain
from sixways.observability.slo import check_slo
from sixways.plugin.api_key import KEY
from sixways.plugin.monitoring import AT, PASSWORD
from sixways.plugin.site_checks import ACME_DOMAIN
from sixways.server.args import check_access
from sixways.server.layout import FLEET_PORT, PORTS
from sixways.server.private.args import (
    PrivateServerArgs,
    ServerAcmeArgs,
    ServerFirewallArgs,
    ServerHostArgs,
    ServerLimitsArgs,
    ServerModelArgs,
    ServerMonitoringArgs,
    ServerPackagesArgs,
    ServerSettingsArgs,
    ServerTlsArgs,
)
from sixways.shapes import misfits
from sixways_bundle import Problem

_PLAIN = ("firewall", "hosts", "limits", "monitoring", "packages", "server", "tls")
"""They, or what stands in them, decide which resources there are."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,62}")
_HOST_NAME = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+!]*")
_EXTRA = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_PACKAGE = re.compile(r"[a-z0-9][A-Za-z0-9.+_-]*[A-Za-z0-9+]")  # apt removes what ends in "-"
_HTTPS = re.compile(r"https://\S+")
_DOMAIN = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
)
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_MEMORY = re.compile(r"[1-9]\d*[KMGT]?|[1-9]\d?%|100%")
_QUOTA = re.compile(r"[1-9]\d*%")
_WAYS_TO_TLS = "certificate with certificate_key, acme, or self_signed"


def problems(name: str, args: PrivateServerArgs) -> list[Problem]:
    """Everything that is wrong with the inputs; outputs are passed over.

    Args:
        name: the component's name.
        args: its inputs.
    """
    checks = Checks()
    checks.known(args, PrivateServerArgs)
    if wrong := [*misfits(args, PrivateServerArgs)]:
        return [*checks.problems, *wrong]  # more would be guesses
    checks.required(args, "hosts", "models", "tls")
    checks.matches("name", name, _NAME, "up to 63 letters, digits and dashes, a letter first")
    for field in _PLAIN:
        if isinstance(args.get(field), pulumi.Output):
            checks.add(field, "an output", "a plain value, in which there may be outputs",
                       "take the outputs apart")  # fmt: skip
    _check_hosts(checks, args.get("hosts"))
    _check_models(checks, args.get("models"))
    _check_tls(checks, args)
    _check_packages(checks, args.get("packages"))
    _check_keys(checks, args)
    _check_server(checks, args)
    _check_front(checks, args)
    _check_monitoring(checks, args)
    return checks.problems


def _check_hosts(checks: Checks, hosts: Any) -> None:
    names: set[str] = set()
    addresses: set[str] = set()
    for index, host in enumerate(hosts if isinstance(hosts, list) else ()):
        where = f"hosts[{index}]."
        if not isinstance(host, Mapping):
            checks.add(where[:-1], "an output", "a mapping: each host is a resource of its own")
            continue
        checks.known(host, ServerHostArgs, where)
        checks.required(host, "name", prefix=where)
        name, address = host.get("name"), host.get("address")
        checks.matches(f"{where}name", name, _HOST_NAME,
                       "up to 32 lower-case letters, digits and dashes")  # fmt: skip
        if isinstance(name, pulumi.Output):
            checks.add(f"{where}name", "an output", "a plain name: resources are called by it")
        check_access(checks, host, where)
        for value, seen, field in ((name, names, "name"), (address, addresses, "address")):
            if isinstance(value, str) and value:
                if value in seen:
                    checks.add(f"{where}{field}", value, f"each {field} once",
                               "name each host once")  # fmt: skip
                seen.add(value)


def _check_models(checks: Checks, models: Any) -> None:
    seen: set[str] = set()
    for index, model in enumerate(models if isinstance(models, list) else ()):
        where = f"models[{index}]."
        if not isinstance(model, Mapping):
            continue
        checks.known(model, ServerModelArgs, where)
        checks.required(model, "name", "path", "digest", prefix=where)
        name = model.get("name")
        checks.matches(f"{where}name", name, MODEL_NAME, "letters, digits, '.', '_' and '-'")
        if isinstance(name, str) and name:
            if name in seen:
                checks.add(f"{where}name", name, "each name once", "rename one of the models")
            seen.add(name)
        checks.matches(f"{where}digest", model.get("digest"), DIGEST,
                       "sha256: and 64 hex digits", "take it from Bundle.digest")  # fmt: skip


def _check_tls(checks: Checks, args: PrivateServerArgs) -> None:
    tls: Any = args.get("tls")
    if not isinstance(tls, Mapping) or not tls:
        return
    checks.known(tls, ServerTlsArgs, "tls.")
    own = [field for field in ("certificate", "certificate_key") if tls.get(field) is not None]
    given = [*own[:1], *(field for field in ("acme", "self_signed") if tls.get(field))]
    if len(given) != 1:
        checks.add("tls", ", ".join(given), f"exactly one of {_WAYS_TO_TLS}",
                   "remove the others" if given else "add one of them")  # fmt: skip
    if len(own) == 1:
        missing = "certificate" if own == ["certificate_key"] else "certificate_key"
        checks.add(f"tls.{missing}", None, f"a value beside {own[0]}", f"add {missing}")
    checks.certificate("tls.certificate", tls.get("certificate"))
    checks.private_key("tls.certificate_key", tls.get("certificate_key"))
    acme = tls.get("acme")
    if not isinstance(acme, Mapping):
        return
    checks.known(acme, ServerAcmeArgs, "tls.acme.")
    checks.required(acme, "email", prefix="tls.acme.")
    checks.matches("tls.acme.email", acme.get("email"), _EMAIL, "an e-mail address")
    checks.matches("tls.acme.directory_url", acme.get("directory_url"), _HTTPS,
                   "an https:// address")  # fmt: skip
    if is_plain(acme.get("agree_tos")) and acme.get("agree_tos") is not True:
        checks.add("tls.acme.agree_tos", acme.get("agree_tos"),
                   "true: the authority's terms must be accepted",
                   "read them, and set it to true")  # fmt: skip
    domains, accepted = acme.get("domains"), "a domain name that leads to the hosts, no wildcard"
    if domains:
        _each(checks, "tls.acme.domains", domains, ACME_DOMAIN, accepted)
    elif args.get("domain"):
        checks.matches("domain", args.get("domain"), ACME_DOMAIN, accepted)
    else:
        checks.add("tls.acme.domains", None, "the names of the certificate", "add it, or domain")


def _check_packages(checks: Checks, packages: Any) -> None:
    if not isinstance(packages, Mapping):
        return
    checks.known(packages, ServerPackagesArgs, "packages.")
    checks.matches("packages.version", packages.get("version"), _VERSION, "a version of sixways")
    extras = packages.get("extras")
    if isinstance(extras, list):
        _each(checks, "packages.extras", extras, _EXTRA, "an extra of sixways, e.g. server")
    index = packages.get("index_url")
    if isinstance(index, str) and not _HTTPS.fullmatch(index):
        checks.add("packages.index_url", "(not shown)", "an https:// address of an index")
    if index is not None and packages.get("wheelhouse") is not None:
        checks.add("packages.wheelhouse", str(packages["wheelhouse"]), "nothing beside index_url",
                   "remove one of them")  # fmt: skip


def _check_keys(checks: Checks, args: PrivateServerArgs) -> None:
    for field in ("api_key", "previous_api_key"):
        key = args.get(field)
        if isinstance(key, str) and not KEY.fullmatch(key):
            checks.add(field, "(not shown)",
                       "at least 16 printable ASCII characters without spaces",
                       "leave it out to get a random one" if field == "api_key" else "remove it"
            )  # fmt: skip


def _check_server(checks: Checks, args: PrivateServerArgs) -> None:
    server: Any = args.get("server")
    if isinstance(server, Mapping):
        checks.known(server, ServerSettingsArgs, "server.")
        for field, least, most, whole in (
            ("workers", 1, 64, True),
            ("threads", 1, 1024, True),
            ("request_seconds", 1, 86400, False),
            ("drain_seconds", 0, 3600, False),
            ("max_inputs", 1, 1e6, True),
            ("queue_limit", 1, 1e6, True),
            ("queue_seconds", 0.001, 3600, False),
            ("cache_gb", 0.001, 1e5, False),
        ):
            checks.number(f"server.{field}", server.get(field), least, most, whole=whole)
        inputs, most = server.get("max_inputs", 2048), server.get("queue_limit", 2048)
        if is_number(inputs) and is_number(most) and inputs > most:
            checks.add("server.max_inputs", str(inputs), f"at most queue_limit {most}",
                       "lower it, or raise queue_limit")  # fmt: skip
    limits: Any = args.get("limits")
    if isinstance(limits, Mapping):
        checks.known(limits, ServerLimitsArgs, "limits.")
        rate = limits.get("requests_per_minute")
        checks.number("limits.requests_per_minute", rate, 1, 1e6, whole=True)
        checks.number("limits.burst", limits.get("burst"), 0, 1e6, whole=True)
        checks.number("limits.max_body_bytes", limits.get("max_body_bytes"), 1024, 1e9, whole=True)
        if limits.get("burst") is not None and rate is None:
            checks.add("limits.burst", limits["burst"], "nothing without requests_per_minute",
                       "add it, or remove burst")  # fmt: skip
    checks.matches("memory_max", args.get("memory_max"), _MEMORY, "a size such as 6G or 80%")
    checks.matches("cpu_quota", args.get("cpu_quota"), _QUOTA, "percent of a processor: 350%")
    checks.number("keep", args.get("keep"), 0, 20, whole=True)
    checks.number("ready_seconds", args.get("ready_seconds"), 1, 3600, whole=True)
    checks.one_of("supervisor", args.get("supervisor"), ("systemd", "supervisord"))
    if args.get("supervisor") == "supervisord":
        for field in ("memory_max", "cpu_quota"):
            if args.get(field) is not None:
                checks.add(field, str(args.get(field)), "nothing with supervisord, which knows no "
                           "such limit", "leave it out, or limit the host")  # fmt: skip
    packages: Any = args.get("system_packages")
    if isinstance(packages, list):
        _each(checks, "system_packages", packages, _PACKAGE, "a package of the distribution")


def _check_front(checks: Checks, args: PrivateServerArgs) -> None:
    domain = args.get("domain")
    if isinstance(domain, str) and not is_address(domain):
        checks.matches("domain", domain, _DOMAIN, "a domain name, e.g. api.example.com")
    names: Any = args.get("server_names")
    for index, name in enumerate(names if isinstance(names, list) else ()):
        if isinstance(name, str) and name != "_" and not is_address(name):
            plain = name.removeprefix("*.")
            if not _DOMAIN.fullmatch(plain):
                checks.add(f"server_names[{index}]", name, "a domain name")
    checks.number("https_port", args.get("https_port"), 1, 65535, whole=True)
    hosts: Any = args.get("hosts")
    of_ssh = {host.get("port", 22) for host in hosts if isinstance(host, Mapping)} if isinstance(
        hosts, list) else set()  # fmt: skip
    if args.get("https_port") in (80, FLEET_PORT, *PORTS.values(), *of_ssh):
        checks.add("https_port", str(args.get("https_port")),
                   "a port that nothing of the host uses: not ssh's,"
                   f" 80, {', '.join(map(str, sorted((FLEET_PORT, *PORTS.values()))))}",
                   "443 is the default")  # fmt: skip
    checks.networks("metrics_from", args.get("metrics_from"))
    checks.networks("trusted_proxies", args.get("trusted_proxies"))
    firewall: Any = args.get("firewall")
    if isinstance(firewall, Mapping):
        checks.known(firewall, ServerFirewallArgs, "firewall.")
        for field in ("allow_ssh_from", "allow_https_from"):
            checks.networks(f"firewall.{field}", firewall.get(field))
        ports: Any = firewall.get("ports")
        for index, port in enumerate(ports if isinstance(ports, list) else ()):
            checks.number(f"firewall.ports[{index}]", port, 1, 65535, whole=True)


def _check_monitoring(checks: Checks, args: PrivateServerArgs) -> None:
    check_slo(checks, args.get("slo"))
    monitoring: Any = args.get("monitoring")
    if not isinstance(monitoring, Mapping):
        return
    checks.known(monitoring, ServerMonitoringArgs, "monitoring.")
    checks.required(monitoring, "host", prefix="monitoring.")
    where: Any = monitoring.get("host")
    hosts: Any = args.get("hosts")
    addresses: dict[str, Any] = {str(host.get("name")): host.get("address") for host in hosts or ()
                 if isinstance(host, Mapping)}  # fmt: skip
    if isinstance(where, pulumi.Output):
        checks.add("monitoring.host", "an output", "the plain name of a host")
    elif where and where not in addresses:
        checks.add("monitoring.host", where, ", ".join(addresses), "name one of hosts")
    elif where and isinstance(addresses[where], str) and not is_address(addresses[where]):
        checks.add("monitoring.host", where, "a host that is reached by an IP address",
                   "the others let it read their metrics by its address")  # fmt: skip
    password = monitoring.get("grafana_password")
    if monitoring.get("grafana") is True and password is None:
        checks.add("monitoring.grafana_password", None, "12 characters or more", "add it")
    elif isinstance(password, str) and not PASSWORD.fullmatch(password):
        checks.add("monitoring.grafana_password", "(not shown)",
                   "12 printable characters or more, without spaces and quotes")  # fmt: skip
    managers = monitoring.get("alertmanagers")
    if isinstance(managers, list):
        _each(checks, "monitoring.alertmanagers", managers, AT, "ADDRESS:PORT")


def _each(checks: Checks, field: str, values: Any, form: re.Pattern[str], is_: str) -> None:
    for index, value in enumerate(values if isinstance(values, list) else ()):
        checks.matches(f"{field}[{index}]", value, form, is_)
