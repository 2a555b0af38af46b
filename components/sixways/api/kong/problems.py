"""What is wrong with the inputs of a `KongGateway`, as far as they are known.

What all gateways share is in `sixways.api.problems`; limits of names and quantities are those of
Kubernetes' API, where a Secret holds 1 MiB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pulumi

from sixways.api.defaults import QUOTA_PERIOD
from sixways.api.kong.args import (
    KongGatewayArgs,
    KongMonitoringArgs,
    KongTlsArgs,
    RedisArgs,
)
from sixways.api.kong.limits import PERIODS
from sixways.api.problems import check_gateway, check_pair, mappings
from sixways.checks import Checks, is_address, is_number
from sixways.container.problems import (
    check_image,
    check_quantity,
    object_name,
)
from sixways_bundle import Problem

LOG_KINDS = ("stdout", "http")
MOST_KEYS = 500
_RELEASE = re.compile(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?")
_SECRETS = ("kubeconfig", "redis.password")
_PARTS: dict[str, Any] = {
    "monitoring": KongMonitoringArgs,
    "redis": RedisArgs,
    "tls": KongTlsArgs,
}


def problems(name: str, args: KongGatewayArgs) -> list[Problem]:
    """Every problem with the inputs; values that are outputs are passed over."""
    checks = Checks()
    check_gateway(checks, args, KongGatewayArgs, log_kinds=LOG_KINDS)
    checks.problems = [
        replace(one, value="(not shown)") if one.field in _SECRETS else one
        for one in checks.problems
    ]
    for field, kind in _PARTS.items():
        given = args.get(field)
        if isinstance(given, Mapping):
            checks.known(given, kind, f"{field}.")
    if not _RELEASE.fullmatch(name):
        checks.add("name", name, "up to 47 of a-z, 0-9 and '-', beginning with a letter",
                   "rename the resource: its objects are called like it")  # fmt: skip
    _check_held(checks, args)
    _check_upstream(checks, args.get("upstream"))
    _check_redis(checks, args.get("redis"))
    _check_tls(checks, args)
    _check_cluster(checks, args)
    return checks.problems


def _check_held(checks: Checks, args: Mapping[str, Any]) -> None:
    """What the vocabulary has and Kong has not is refused, not ignored."""
    for field in ("keys", "plans"):
        if isinstance(args.get(field), pulumi.Output):
            checks.add(field, "an output", "a list that is known before the update; only what "
                       "stands in it may be an output", "give the list itself")  # fmt: skip
    for index, plan in enumerate(mappings(args.get("plans"))):
        if plan.get("quota") is None:
            continue
        here = f"plans[{index}]."
        if args.get("redis") is None:
            checks.add(f"{here}quota", plan["quota"], "nothing without redis: what a pod counts in "
                       "memory is forgotten when it goes",
                       "add redis, or remove quota")  # fmt: skip
        period = plan.get("quota_period", QUOTA_PERIOD)
        if period == "week":
            checks.add(f"{here}quota_period", period, " or ".join(PERIODS),
                       "Kong counts no weeks; choose one of them")  # fmt: skip
    keys = mappings(args.get("keys"))
    if len(keys) > MOST_KEYS:
        checks.add("keys", len(keys), f"up to {MOST_KEYS}, which one Secret holds",
                   "spread them over two gateways")  # fmt: skip
    log = args.get("log")
    if isinstance(log, Mapping) and log.get("retention_days") is not None:
        checks.add("log.retention_days", log["retention_days"], "nothing: who takes the lines "
                   "keeps them", "remove it, and set it there")  # fmt: skip
    for key, value in _items(args.get("tags")):
        if not _LABEL_KEY.fullmatch(key) or (
            isinstance(value, str) and not _LABEL.fullmatch(value)
        ):
            checks.add(f"tags.{key}", str(value), "a label of Kubernetes: up to 63 letters, "
                       "digits, '-', '_' and '.'")  # fmt: skip


def _check_upstream(checks: Checks, upstream: object) -> None:
    if not isinstance(upstream, Mapping):
        return
    key = upstream.get("api_key")
    if isinstance(key, str) and re.search(r"\$\(|\{vault:", key):
        checks.add("upstream.api_key", "(not shown)", "a key without `$(` and `{vault:`, which "
                   "Kong reads as templates", "take another key")  # fmt: skip
    for index, one in enumerate(mappings(upstream.get("instances"))):
        url = one.get("url")
        if not isinstance(url, str) or not url.startswith("https://"):
            continue
        host = urlsplit(url).hostname or ""
        if is_address(host) and upstream.get("tls_name") is None:
            checks.add(f"upstream.instances[{index}].url", url, "https://NAME:PORT, or tls_name: "
                       "Kong compares certificates with a name",
                       "add upstream.tls_name")  # fmt: skip


def _check_redis(checks: Checks, redis: object) -> None:
    if not isinstance(redis, Mapping):
        return
    checks.required(redis, "host", prefix="redis.")
    checks.matches("redis.host", redis.get("host"), _DOMAIN, "a name or an address")
    checks.number("redis.port", redis.get("port"), 1, 65_535, whole=True)
    checks.number("redis.database", redis.get("database"), 0, 1_000_000, whole=True)
    if redis.get("username") is not None and redis.get("password") is None:
        checks.add("redis.username", "given", "nothing without password", "add password")
    password = redis.get("password")
    if isinstance(password, str) and password.startswith("{vault:"):
        checks.add("redis.password", "(not shown)", "a password that does not begin with "
                   "`{vault:`, which Kong reads as a reference")  # fmt: skip


def _check_tls(checks: Checks, args: Mapping[str, Any]) -> None:
    tls = args.get("tls")
    if tls is None:
        if (
            args.get("service_type", "LoadBalancer") == "LoadBalancer"
            and args.get("dev") is not True
        ):
            checks.add("tls", None, "a certificate, since keys must not travel in clear text",
                       "add tls, or service_type ClusterIP behind an ingress with TLS")  # fmt: skip
        return
    if not isinstance(tls, Mapping):
        return
    pair = [tls.get("certificate"), tls.get("certificate_key")]
    if tls.get("secret") is not None:
        object_name(checks, "tls.secret", tls["secret"])
        if pair != [None, None]:
            checks.add("tls.secret", tls["secret"], "nothing beside certificate",
                       "remove one of them")  # fmt: skip
        return
    check_pair(checks, tls)


def _check_cluster(checks: Checks, args: Mapping[str, Any]) -> None:
    check_image(checks, "image", args.get("image"), "take Kong's, or a copy of it")
    replicas = args.get("replicas")
    checks.number("replicas", replicas, 1, 100, whole=True)
    if is_number(replicas) and replicas == 1 and args.get("dev") is not True:
        checks.add("replicas", replicas, "at least 2: one alone is missed when its node goes",
                   "raise it, or dev: true for a trial")  # fmt: skip
    check_quantity(checks, "cpu", args.get("cpu"), "a quantity above 0: 500m, 2, 1.5")
    memory = check_quantity(checks, "memory", args.get("memory"), "a quantity: 512Mi, 1Gi")
    if memory is not None and memory < 512 * 2**20:
        checks.add("memory", args.get("memory"), "at least 512Mi: each worker loads Kong once",
                   "raise it")  # fmt: skip
    checks.one_of("service_type", args.get("service_type"), ("LoadBalancer", "ClusterIP"))
    checks.matches("namespace", args.get("namespace"), _NAMESPACE, "up to 63 of a-z, 0-9 and '-'")
    checks.matches("domain", args.get("domain"), _DOMAIN, "a name: models.example.com")
    checks.networks("source_ranges", args.get("source_ranges"))
    checks.networks("trusted_proxies", args.get("trusted_proxies"))


def _items(value: object) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, Mapping) else []
