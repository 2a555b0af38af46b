"""Inputs of a `NginxGateway`, and what is wrong with them."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict
from urllib.parse import urlsplit

import pulumi

from sixways.api.args import GatewayArgs
from sixways.api.problems import check_gateway, check_pair, mappings
from sixways.checks import Checks, is_address, is_number
from sixways.server.args import AccessArgs, check_access
from sixways_bundle import Problem

_KINDS = ("file",)
_LEAST_RATE = 1 / 60
_REFUSED = {
    "quota": "Nginx counts no requests of a day or month",
    "tokens_per_minute": "Nginx does not read answers",
}


class TlsArgs(TypedDict):
    """The certificate that callers see: one of your own, or a self-signed one."""

    certificate: NotRequired[pulumi.Input[str]]
    """Certificate chain, PEM; with `certificate_key`."""
    certificate_key: NotRequired[pulumi.Input[str]]
    """Its private key, PEM, a secret."""
    self_signed: NotRequired[pulumi.Input[bool]]
    """Makes one for the address that is listened on and `names`; callers must be told to trust it
    (output `certificate`). Default: false."""
    names: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Further names and addresses of the self-signed one. Default: `localhost`."""


class NginxGatewayArgs(GatewayArgs):
    """Inputs of a `NginxGateway`. All but the place changes without downtime."""

    tls: NotRequired[pulumi.Input[TlsArgs]]
    """Default: none, which a loopback address alone may have."""
    listen: NotRequired[pulumi.Input[str]]
    """IP address to listen on. Default: 127.0.0.1, which only this machine reaches; on a `host`
    0.0.0.0, all of its addresses."""
    port: NotRequired[pulumi.Input[int]]
    """TCP port. Default: 8443, on a `host` 443; without `tls` 8080."""
    trusted_proxies: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Networks whose `X-Forwarded-For` names the caller's address. Default: none."""
    metrics_port: NotRequired[pulumi.Input[int]]
    """Port of 127.0.0.1 where Nginx's own counters are, at `/status`. Default: none."""
    host: NotRequired[pulumi.Input[AccessArgs]]
    """The host to run on, as systemd unit `sixways-gateway.service`. Default: this machine, as a
    process of whoever runs the update. Another place is another gateway."""
    state_dir: NotRequired[pulumi.Input[str]]
    """Folder for configuration, log and pid on this machine. Default: `.sixways/run/<stack>` of
    the project."""


def problems(name: str, args: NginxGatewayArgs) -> list[Problem]:
    """Every problem with the inputs; values that are outputs are passed over."""
    found = known_problems(args)
    if isinstance(args.get("keys"), pulumi.Output):
        accepted = "a list that is known before the update; what stands in it may be an output"
        found.append(Problem("keys", "an output", accepted, "give the list itself"))
    return found


def known_problems(args: Mapping[str, Any]) -> list[Problem]:
    """Every problem with the inputs that are known, where it does not matter which are not."""
    checks = Checks()
    check_gateway(checks, args, NginxGatewayArgs, log_kinds=_KINDS)
    _check_held(checks, args)
    _check_place(checks, args)
    return checks.problems


def _check_held(checks: Checks, args: Mapping[str, Any]) -> None:
    """What other gateways have and Nginx has not is refused, not ignored."""
    for index, plan in enumerate(mappings(args.get("plans"))):
        for field, why in _REFUSED.items():
            if plan.get(field) is not None:
                checks.add(f"plans[{index}].{field}", plan[field], f"nothing: {why}",
                           "use requests_per_second, or ApiGateway (quota) or KongGateway (both)",
                           )  # fmt: skip
        rate = plan.get("requests_per_second")
        if is_number(rate) and 0.001 <= rate < _LEAST_RATE:
            checks.add(f"plans[{index}].requests_per_second", rate, "at least one a minute, 0.0167",
                       "raise it")  # fmt: skip
    seen: set[str] = set()
    for index, key in enumerate(mappings(args.get("keys"))):
        for field in ("key", "previous_key"):
            value = key.get(field)
            if isinstance(value, str) and value.lower() in seen and value not in seen:
                checks.add(f"keys[{index}].{field}", "(not shown)",
                           "keys that differ by more than their case",
                           "leave it out for a random one")  # fmt: skip
            if isinstance(value, str):
                seen |= {value, value.lower()}
    if args.get("tags"):
        checks.add("tags", "given", "nothing: Nginx carries no labels", "remove it")
    log = args.get("log")
    if isinstance(log, Mapping) and log.get("target") and log.get("retention_days") is not None:
        checks.add("log.retention_days", log["retention_days"], "nothing beside target, whose "
                   "rotation is yours", "remove one of the two")  # fmt: skip
    _check_names(checks, args)


def _check_names(checks: Checks, args: Mapping[str, Any]) -> None:
    """Nginx compares certificates with one name for all instances."""
    upstream = args.get("upstream")
    if not isinstance(upstream, Mapping) or upstream.get("tls_name") is not None:
        return
    urls = [entry.get("url") for entry in mappings(upstream.get("instances"))]
    hosts = {urlsplit(url).hostname for url in urls
             if isinstance(url, str) and url.startswith("https:")}  # fmt: skip
    if len(hosts) > 1 or any(is_address(str(host)) for host in hosts):
        checks.add("upstream.tls_name", None, "the one DNS name that the certificates of all "
                   "instances are for", "add it; Nginx compares all of them with one, and with no "
                   "address")  # fmt: skip


def _check_place(checks: Checks, args: Mapping[str, Any]) -> None:
    for field in ("port", "metrics_port"):
        checks.number(field, args.get(field), 1, 65_535, whole=True)
    port = args.get("port")
    if port is not None and port == args.get("metrics_port"):
        checks.add("metrics_port", port, "another port than the gateway's", "change one of the two")
    listen, host = args.get("listen", None if args.get("host") else "127.0.0.1"), args.get("host")
    address = _address(listen) if isinstance(listen, str) else None
    if isinstance(listen, str) and address is None:
        checks.add("listen", listen, "an IP address, e.g. 127.0.0.1 or 0.0.0.0")
    checks.networks("trusted_proxies", args.get("trusted_proxies"))
    _check_tls(checks, args.get("tls"))
    open_to_all = host is not None if listen is None else address and not address.is_loopback
    if args.get("tls") is None and open_to_all and args.get("dev") is not True:
        checks.add("tls", None, "a certificate, since keys must not travel in clear text",
                   "add tls, or listen on 127.0.0.1")  # fmt: skip
    if isinstance(host, Mapping):
        checks.known(host, AccessArgs, "host.")
        check_access(checks, dict(host), "host.")
        if args.get("state_dir") is not None:
            checks.add("state_dir", args["state_dir"], "nothing beside host", "remove it")
    folder = args.get("state_dir")
    if isinstance(folder, str) and not re.fullmatch(r"[\w./~+-]+", folder):
        checks.add("state_dir", folder, "a folder without spaces and quotes in its name")


def _check_tls(checks: Checks, tls: object) -> None:
    if not isinstance(tls, Mapping):
        return
    checks.known(tls, TlsArgs, "tls.")
    pair = [tls.get("certificate"), tls.get("certificate_key")]
    if tls.get("self_signed") is True:
        if pair != [None, None]:
            checks.add(
                "tls.self_signed", "true", "nothing beside certificate", "remove one of them"
            )
        return
    check_pair(checks, tls)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
