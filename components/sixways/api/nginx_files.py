"""Writes what an Nginx gateway reads: its configuration, the keys, certificates.

All paths in it are relative to the folder that it is started with (`nginx -p`), so the same files
can be tried before they count. Values are checked first (`nginx_args.problems`): none can end the
setting that it stands in.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sixways.api import defaults
from sixways.server.files import template

MAIN, KEYS = "nginx.conf", "keys.conf"
CERTIFICATE, CERTIFICATE_KEY, AUTHORITIES = "tls.crt", "tls.key", "upstream-ca.crt"
LOG_FOLDER = "logs"
_ZONE = "sixways_plan_"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the files must know of the machine that they are for.

    Attributes:
        version: of its Nginx: (1, 22, 1).
        user: who the workers are where the master is root; None: whoever starts it.
        authorities: its file of public certificate authorities.
        files: how many files a process may open.
    """

    version: tuple[int, ...]
    user: str | None
    authorities: str
    files: int = 8192


def render(args: Mapping[str, Any], machine: Machine) -> dict[str, str]:
    """The files by name.

    Args:
        args: the gateway's inputs as `NginxGatewayArgs`, all of them known, with `listen` and
            `port`; `upstream_key` apart from `upstream`.
        machine: where they will lie.
    """
    upstream = args["upstream"]
    instances = [_instance(one) for one in upstream["instances"]]
    own = [one["ca_certificate"].strip() for one in upstream["instances"]
           if one.get("ca_certificate")]  # fmt: skip
    tls = bool(args.get("certificate"))
    secure = upstream["instances"][0]["url"].startswith("https:")
    hosts = {one["host"] for one in instances}
    seconds = upstream.get("request_seconds") or defaults.REQUEST_SECONDS
    plans = [_plan(index, plan) for index, plan in enumerate(args["plans"])]
    values = {
        "machine": machine,
        "instances": instances,
        "secure": secure,
        "upstream_name": upstream.get("tls_name") or min(hosts),
        "authorities": AUTHORITIES if own else machine.authorities,
        "upstream_key": args.get("upstream_key"),
        "plans": plans,
        "routes": [_route(route, plans) for route in defaults.routes(args)],
        "bare": _bare([route["path"] for route in defaults.routes(args)]),
        "max_body_bytes": args.get("max_body_bytes") or defaults.MAX_BODY_BYTES,
        "read_seconds": math.ceil(seconds) + 5,
        "listen": _bracketed(args["listen"]),
        "port": args["port"],
        "tls": tls,
        "http2_directive": machine.version >= (1, 25, 1),
        "trusted_proxies": args.get("trusted_proxies") or [],
        "metrics_port": args.get("metrics_port"),
        "log_file": (args.get("log") or {}).get("target"),
    }
    files = {
        MAIN: template("sixways.api", "files", "nginx-gateway.conf").render(values),
        KEYS: _keys(args["keys"], args.get("upstream_key")),
    }
    if tls:
        files |= {CERTIFICATE: args["certificate"], CERTIFICATE_KEY: args["certificate_key"]}
    if own:
        files[AUTHORITIES] = "\n".join(dict.fromkeys(own)) + "\n"
    return files


def log_days(args: Mapping[str, Any]) -> int:
    """Days that the gateway's own access log is kept."""
    return int((args.get("log") or {}).get("retention_days") or defaults.LOG_DAYS)


def _instance(one: Mapping[str, Any]) -> dict[str, Any]:
    parts = urlsplit(one["url"])
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = _bracketed(str(parts.hostname))
    return {"address": f"{host}:{port}", "host": host, "weight": one.get("weight") or 1}


def _plan(index: int, plan: Mapping[str, Any]) -> dict[str, Any]:
    rate = plan["requests_per_second"]
    whole = rate >= 1 and float(rate).is_integer()
    return {
        "name": plan["name"],
        "zone": f"{_ZONE}{index}",
        "rate": f"{int(rate)}r/s" if whole else f"{max(1, round(rate * 60))}r/m",
        # Nginx counts those beyond the one that the rate itself lets in.
        "beyond": int(defaults.burst(plan)) - 1,  # type: ignore[arg-type]
        "retry": max(1, math.ceil(1 / rate)),
        "words": f"{rate:g} requests a second" if rate >= 1 else f"{rate * 60:g} requests a minute",
    }


def _route(route: Mapping[str, Any], plans: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    path, methods = route["path"], defaults.methods(route)
    allowed = route.get("plans")
    return {
        "match": f"^~ {path[:-1]}" if path.endswith("/*") else f"= {path}",
        "open": bool(route.get("open")),
        "methods": "|".join(methods),
        "allow": ", ".join(methods),
        "plans": "|".join(re.escape(name) for name in allowed) if allowed else None,
        "zones": []
        if route.get("open")
        else [plan for plan in plans if not allowed or plan["name"] in allowed],
    }


def _bare(paths: Sequence[str]) -> list[str]:
    """`/v1` where `/v1/*` is a route: Nginx would redirect it, and no route names it."""
    bare = {path[:-2] for path in paths if path.endswith("/*")} - {""}
    return sorted(bare - set(paths))


def _keys(keys: Sequence[Mapping[str, Any]], upstream_key: str | None) -> str:
    """The keys, in clear: Nginx can hash none.

    `map` compares without regard to case, so what it finds is compared once more, as it is. `geo`
    alone takes a `$` in a value as it is.
    """
    lines = ["# Whoever can read this can call. Nobody but the gateway may.", ""]
    lines += ["map $sixways_presented $sixways_known {", '    default "";']
    for key in keys:
        for value in (key["key"], key.get("previous_key")):
            if value:  # the backslashes: a value may begin with what map has a meaning for
                lines.append(f'    "\\\\{value}" "{key["name"]} {value}";')
    lines += ["}", "map $sixways_caller $sixways_plan {", '    default "";']
    lines += [f'    "\\\\{key["name"]}" "{key["plan"]}";' for key in keys]
    lines.append("}")
    if upstream_key:
        lines += ["geo $sixways_upstream_key {", f"    default {json.dumps(upstream_key)};", "}"]
    return "\n".join(lines) + "\n"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
