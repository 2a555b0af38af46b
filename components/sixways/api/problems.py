"""What is wrong with the inputs that the gateways share, as far as they are known.

Limits of names and keys are the narrowest of the three gateways': a key is what RFC 6750 lets a
caller send as `Bearer`, of a length that API Gateway takes (`CreateApiKey`: 20 to 128).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from sixways.api.args import (
    InstanceArgs,
    KeyArgs,
    LogArgs,
    PlanArgs,
    RouteArgs,
    UpstreamArgs,
)
from sixways.checks import Checks, is_number, is_plain
from sixways.shapes import misfits

KEY = re.compile(r"(?=.{20,128}$)[A-Za-z0-9._~+/-]+=*")
"""What a caller's key may look like."""
UPSTREAM_KEY = re.compile(r"[\x21-\x7e]{16,}")
"""What the instances' key may look like; it is sent in a header."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_URL = re.compile(
    r"https?://([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(:\d{1,5})?/?"
)
_WEB = re.compile(r"https?://[^\s\"'{};$\\]+")
_PATH = re.compile(r"/|(/[A-Za-z0-9._~-]+)+/?")
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
READ = ("GET", "HEAD", "OPTIONS")
PERIODS = ("day", "week", "month")
_LIMITS = ("requests_per_second", "quota", "tokens_per_minute")
_SECRET = re.compile(
    r"(^|[._])(key|previous_key|api_key|certificate_key|private_key)$"
    # Given in another shape than they have, these would show all that is in them.
    r"|^(keys(\[\d+\])?|upstream|tls|host|redis)$"
)


def check_gateway(
    checks: Checks,
    args: Any,
    kind: type,
    *,
    log_kinds: Collection[str],
    least_instances: int = 2,
) -> None:
    """Checks what every gateway takes. A gateway's own fields, and what it cannot hold, it adds.

    Args:
        checks: collects the problems.
        args: the gateway's inputs.
        kind: their TypedDict: `NginxGatewayArgs`. All values are compared with its types.
        log_kinds: the kinds of `log` that this gateway has.
        least_instances: how many instances production must have; 1 where one is a balancer's.
    """
    checks.known(args, kind)
    checks.problems += [
        replace(one, value="(not shown)") if _SECRET.search(one.field) else one
        for one in misfits(args, kind)
    ]
    checks.required(args, "upstream", "plans", "keys")
    _check_upstream(checks, args, least_instances)
    plans = _check_plans(checks, args.get("plans"))
    _check_keys(checks, args.get("keys"), plans)
    _check_routes(checks, args.get("routes"), plans)
    checks.number("max_body_bytes", args.get("max_body_bytes"), 1, 2**40, whole=True)
    _check_log(checks, args.get("log"), log_kinds)


def mappings(value: object) -> list[Mapping[str, Any]]:
    """The entries of a list that is known; one that is not, as an empty mapping."""
    return [item if isinstance(item, Mapping) else {}
            for item in value] if isinstance(value, list) else []  # fmt: skip


def check_pair(checks: Checks, tls: Mapping[str, Any]) -> None:
    """A certificate of one's own, and its key."""
    checks.required(tls, "certificate", "certificate_key", prefix="tls.")
    checks.certificate("tls.certificate", tls.get("certificate"))
    checks.private_key("tls.certificate_key", tls.get("certificate_key"))


def _entries(checks: Checks, value: object, kind: type, name: str) -> Iterator[tuple[str, Any]]:
    """The mappings of a list that is known, each with what stands before its fields' names."""
    for index, entry in enumerate(value if isinstance(value, list) else []):
        if isinstance(entry, Mapping):
            here = f"{name}[{index}]."
            checks.known(entry, kind, here)
            yield here, entry


def _named(checks: Checks, here: str, entry: Mapping[str, Any], seen: set[str]) -> None:
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        return
    checks.matches(f"{here}name", name, _NAME, "up to 64 letters, digits, '.', '_' and '-'")
    if name.lower() in seen:
        checks.add(f"{here}name", name, "each name once, in whatever case", "rename one of them")
    seen.add(name.lower())


def _check_upstream(checks: Checks, args: Mapping[str, Any], least: int) -> None:
    upstream = args.get("upstream")
    if not isinstance(upstream, Mapping) or not upstream:
        return
    checks.known(upstream, UpstreamArgs, "upstream.")
    checks.required(upstream, "instances", prefix="upstream.")
    path = upstream.get("health_path")
    if path in (None, ""):
        checks.add("upstream.health_path", None, "a path that answers 200 while an instance may "
                   "get requests", "add it: /readyz of Sixways' server")  # fmt: skip
    checks.matches("upstream.health_path", path, _PATH, "a path without a query: /readyz")
    instances = upstream.get("instances")
    seen: set[str] = set()
    schemes: set[str] = set()
    for here, instance in _entries(checks, instances, InstanceArgs, "upstream.instances"):
        checks.required(instance, "url", prefix=here)
        checks.number(f"{here}weight", instance.get("weight"), 1, 100, whole=True)
        _check_instance(checks, here, instance, seen, schemes)
    if len(schemes) > 1:
        checks.add("upstream.instances", "http and https", "one of the two for all instances",
                   "give all of them TLS, or none")  # fmt: skip
    if isinstance(instances, list) and 0 < len(instances) < least and args.get("dev") is not True:
        checks.add("upstream.instances", len(instances), f"at least {least}: one alone is missed "
                   "when it ends", "add another instance, or dev: true for a trial")  # fmt: skip
    key = upstream.get("api_key")
    if isinstance(key, str) and not UPSTREAM_KEY.fullmatch(key):
        checks.add("upstream.api_key", "(not shown)",
                   "at least 16 printable ASCII characters without spaces",
                   "take api_key of the endpoint")  # fmt: skip
    tls_name = upstream.get("tls_name")
    checks.matches("upstream.tls_name", tls_name, _DOMAIN, "a name: models.example.com")
    if tls_name is not None and schemes == {"http"}:
        checks.add("upstream.tls_name", str(tls_name), "nothing with http", "remove it")
    checks.number("upstream.request_seconds", upstream.get("request_seconds"), 1, 86_400)


def _check_instance(
    checks: Checks, here: str, instance: Mapping[str, Any], seen: set[str], schemes: set[str]
) -> None:
    url, authority = instance.get("url"), instance.get("ca_certificate")
    if isinstance(url, str) and url:
        shown = re.sub(r"//[^/]*@", "//(not shown)@", url)
        checks.matches(f"{here}url", shown, _URL, "http://HOST:PORT or https://HOST:PORT",
                       "leave out path, query, user and password")  # fmt: skip
        plain = url.rstrip("/")
        if plain in seen:
            checks.add(f"{here}url", shown, "each instance once", "use weight for a larger share")
        seen.add(plain)
        if _URL.fullmatch(url):
            schemes.add(url.partition(":")[0])
    if isinstance(authority, str):
        checks.certificate(f"{here}ca_certificate", authority)
        if isinstance(url, str) and url.startswith("http:"):
            checks.add(f"{here}ca_certificate", "given", "nothing with http", "remove it")


def _check_plans(checks: Checks, plans: object) -> set[str] | None:
    """The plans' names; None where they are not all known."""
    seen: set[str] = set()
    names: set[str] = set()
    for here, plan in _entries(checks, plans, PlanArgs, "plans"):
        checks.required(plan, "name", prefix=here)
        _named(checks, here, plan, seen)
        if isinstance(plan.get("name"), str):
            names.add(plan["name"])
        given = [name for name in _LIMITS if plan.get(name) is not None]
        if not given:
            checks.add(f"{here}{_LIMITS[0]}", None, "at least one limit: " + ", ".join(_LIMITS),
                       "add one; a plan without limit protects nobody")  # fmt: skip
        checks.number(f"{here}requests_per_second", plan.get("requests_per_second"), 0.001, 1e6)
        checks.number(f"{here}quota", plan.get("quota"), 1, 2**31 - 1, whole=True)
        checks.number(f"{here}tokens_per_minute", plan.get("tokens_per_minute"), 1, 2**31 - 1,
                      whole=True)  # fmt: skip
        checks.one_of(f"{here}quota_period", plan.get("quota_period"), PERIODS)
        if plan.get("quota_period") is not None and plan.get("quota") is None:
            checks.add(f"{here}quota_period", plan["quota_period"], "nothing without quota",
                       "add quota, or remove it")  # fmt: skip
        _check_burst(checks, here, plan)
    whole = isinstance(plans, list) and all(
        isinstance(plan, Mapping) and is_plain(plan.get("name")) for plan in plans
    )
    return names if whole else None


def _check_burst(checks: Checks, here: str, plan: Mapping[str, Any]) -> None:
    burst, rate = plan.get("burst"), plan.get("requests_per_second")
    checks.number(f"{here}burst", burst, 1, 1e6, whole=True)
    if burst is not None and rate is None:
        checks.add(f"{here}burst", str(burst), "nothing without requests_per_second",
                   "add it, or remove burst")  # fmt: skip
    elif is_number(burst) and is_number(rate) and 1 <= burst < rate <= 1e6:
        checks.add(
            f"{here}burst",
            burst,
            f"at least requests_per_second, {math.ceil(rate)}",
            "raise it, or lower the rate: a smaller burst never lets the rate through",
        )


def _check_keys(checks: Checks, keys: object, plans: set[str] | None) -> None:
    seen: set[str] = set()
    values: set[str] = set()
    for here, key in _entries(checks, keys, KeyArgs, "keys"):
        checks.required(key, "name", "plan", prefix=here)
        _named(checks, here, key, seen)
        _check_plan(checks, f"{here}plan", key.get("plan"), plans)
        for field in ("key", "previous_key"):
            value = key.get(field)
            if not isinstance(value, str):
                continue
            if not KEY.fullmatch(value):
                checks.add(f"{here}{field}", "(not shown)", "20 to 128 letters, digits and "
                           "'-._~+/', as they travel in a header",
                           "leave it out for a random one")  # fmt: skip
            elif value in values:
                checks.add(f"{here}{field}", "(not shown)", "each key once: it says who calls",
                           "give every caller its own")  # fmt: skip
            values.add(value)


def _check_plan(checks: Checks, field: str, plan: object, plans: set[str] | None) -> None:
    if isinstance(plan, str) and plan and plans is not None and plan not in plans:
        checks.add(field, plan, "the name of a plan: " + (", ".join(sorted(plans)) or "none"),
                   "correct it, or add the plan")  # fmt: skip


def _check_routes(checks: Checks, routes: object, plans: set[str] | None) -> None:
    if isinstance(routes, list) and not routes:
        checks.add("routes", "[]", "at least one route", "leave it out for the server's own")
    seen: set[str] = set()
    for here, route in _entries(checks, routes, RouteArgs, "routes"):
        checks.required(route, "path", prefix=here)
        path = route.get("path")
        if isinstance(path, str) and path:
            stem = path.removesuffix("*") if path.endswith("/*") else path
            dotted = any(part in (".", "..") for part in stem.split("/"))
            if not _PATH.fullmatch(stem) or dotted:
                checks.add(f"{here}path", path, "a path, or its beginning with /* at the end",
                           "/v1/embeddings, or /v1/*")  # fmt: skip
            if path in seen:
                checks.add(f"{here}path", path, "each path once", "put the two together")
            seen.add(path)
        methods = route.get("methods")
        if methods == []:
            checks.add(f"{here}methods", "[]", "at least one of " + ", ".join(METHODS))
        for index, method in enumerate(methods if isinstance(methods, list) else []):
            checks.one_of(f"{here}methods[{index}]", method, METHODS)
            if route.get("open") is True and method in METHODS and method not in READ:
                checks.add(f"{here}methods[{index}]", method, "GET, HEAD or OPTIONS with open: the "
                           "instances see their own key, and no plan bounds it",
                           "remove one of the two")  # fmt: skip
        allowed = route.get("plans")
        if allowed == []:
            checks.add(f"{here}plans", "[]", "at least one plan", "leave it out for all")
        for index, plan in enumerate(allowed if isinstance(allowed, list) else []):
            _check_plan(checks, f"{here}plans[{index}]", plan, plans)
        if allowed and route.get("open") is True:
            checks.add(f"{here}plans", "given", "nothing with open, which needs no key",
                       "remove one of the two")  # fmt: skip


def _check_log(checks: Checks, log: object, kinds: Collection[str]) -> None:
    if not isinstance(log, Mapping):
        return
    checks.known(log, LogArgs, "log.")
    checks.required(log, "kind", prefix="log.")
    kind, target = log.get("kind"), log.get("target")
    checks.one_of("log.kind", kind, kinds, "another gateway may have it" if is_plain(kind) else "")
    checks.number("log.retention_days", log.get("retention_days"), 1, 3653, whole=True)
    if isinstance(target, str) and kind == "file" and not re.fullmatch(r"/[\w./-]+", target):
        checks.add("log.target", target, "the absolute path of a file")
    if isinstance(target, str) and kind == "http" and not _WEB.fullmatch(target):
        checks.add("log.target", target, "http://HOST/PATH or https://HOST/PATH")
    if kind == "http" and target is None:
        checks.add("log.target", None, "the URL that takes the lines", "add it")
    if kind == "stdout" and target is not None:
        checks.add("log.target", "given", "nothing with stdout", "remove it")
