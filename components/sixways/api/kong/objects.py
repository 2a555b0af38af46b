"""What Kubernetes runs Kong by: the specs of its objects, of inputs once they are known.

None of it holds a secret: keys stand in the Secrets that the pods mount.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sixways.api import defaults
from sixways.api.kong.args import IMAGE
from sixways.api.kong.configuration import (
    REDIS_PORT,
    TOKENS_PLUGIN,
    authority_certificates,
    has_tokens,
)
from sixways.container.quantity import parse_quantity

REPLICAS = 2
CPU, MEMORY = "1", "1Gi"
PRIVATE = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
MONITOR = Path(__file__).parent / "monitor"
CONFIGURATION, AUTHORITIES = "kong.json", "authorities.pem"
PROXY, STATUS = 8443, 8100
_PLUGIN = Path(__file__).parent / "plugin"
_CONFIG, _TLS, _LUA, _PREFIX = "/etc/kong/sixways", "/etc/kong/tls", "/opt/sixways", "/kong"
_SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
_USER = 1000
# Longer than proxies and load balancers need to hear that a pod goes.
_LEAVES_SECONDS = 15
_PLUGINS = ("key-auth", "acl", "rate-limiting", "request-size-limiting", "request-transformer",
            "correlation-id", "prometheus", "file-log", "http-log")  # fmt: skip


def plugin_files() -> dict[str, str]:
    """Our plugin's files, by their names."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(_PLUGIN.glob("*.lua"))}


def port(args: Mapping[str, Any]) -> int:
    """The Service's port."""
    return 443 if args.get("tls") else 80


def selector(name: str) -> dict[str, str]:
    """The labels that a gateway's pods are found by."""
    return {"app.kubernetes.io/name": "kong", "app.kubernetes.io/instance": name}


def environment(args: Mapping[str, Any]) -> dict[str, str]:
    """Kong's settings (kong.conf), as environment variables without the prefix `KONG_`."""
    upstream = args["upstream"]
    body = args.get("max_body_bytes") or defaults.MAX_BODY_BYTES
    plugins = [*_PLUGINS, TOKENS_PLUGIN] if has_tokens(args["plans"]) else list(_PLUGINS)
    listen = " http2 ssl" if args.get("tls") else ""
    found = {
        "DATABASE": "off",
        "DECLARATIVE_CONFIG": f"{_CONFIG}/{CONFIGURATION}",
        "PREFIX": _PREFIX,
        "PROXY_LISTEN": f"0.0.0.0:{PROXY}{listen} reuseport backlog=16384",
        # No one changes a pod's configuration but its Secret.
        "ADMIN_LISTEN": "off",
        "ADMIN_GUI_LISTEN": "off",
        "STATUS_LISTEN": f"0.0.0.0:{STATUS}",
        "NGINX_WORKER_PROCESSES": str(
            max(1, math.ceil(parse_quantity(args.get("cpu") or CPU) or 1))
        ),
        "PLUGINS": ",".join(plugins),
        # The plugin's lines have no query; Nginx's own would.
        "PROXY_ACCESS_LOG": "off",
        "STATUS_ACCESS_LOG": "off",
        "PROXY_ERROR_LOG": "/dev/stderr",
        "STATUS_ERROR_LOG": "/dev/stderr",
        "LOG_LEVEL": "warn",
        "ANONYMOUS_REPORTS": "off",
        "HEADERS": "off",
        # Another instance takes a request that one lost, but none waits for a slow one twice.
        "NGINX_PROXY_PROXY_NEXT_UPSTREAM": "error timeout http_502 http_503 non_idempotent",
        "NGINX_PROXY_PROXY_NEXT_UPSTREAM_TIMEOUT": "10s",
        "NGINX_HTTP_CLIENT_MAX_BODY_SIZE": str(body),
        "NGINX_HTTP_CLIENT_BODY_BUFFER_SIZE": "1m",
        "LUA_SSL_TRUSTED_CERTIFICATE": "system",
        "LUA_SSL_VERIFY_DEPTH": "3",
    }
    if has_tokens(args["plans"]):
        found["LUA_PACKAGE_PATH"] = f"{_LUA}/?.lua;;"
    if args.get("tls"):
        found |= {"SSL_CERT": f"{_TLS}/tls.crt", "SSL_CERT_KEY": f"{_TLS}/tls.key",
                  "SSL_CIPHER_SUITE": "intermediate"}  # fmt: skip
    if authority_certificates(upstream):
        # For the health checks; requests have the configuration's own.
        found["LUA_SSL_TRUSTED_CERTIFICATE"] = f"system,{_CONFIG}/{AUTHORITIES}"
    elif urlsplit(upstream["instances"][0]["url"]).scheme == "https":
        found["NGINX_PROXY_PROXY_SSL_TRUSTED_CERTIFICATE"] = _SYSTEM_AUTHORITIES
    if args.get("trusted_proxies"):
        found |= {"TRUSTED_IPS": ",".join(args["trusted_proxies"]), "REAL_IP_RECURSIVE": "on"}
    return found


def deployment(
    name: str,
    args: Mapping[str, Any],
    labels: Mapping[str, str],
    *,
    checksum: str,
    config: str,
    tls: str,
    plugin: str,
) -> dict[str, Any]:
    """The Deployment's spec.

    Args:
        name: the gateway's.
        args: `KongGatewayArgs` without secrets and outputs.
        labels: of the pods.
        checksum: of the declarative configuration; another one starts other pods.
        config: the Secret with the configuration.
        tls: the Secret with the certificate; empty for none.
        plugin: the ConfigMap with our plugin; empty for none.
    """
    mounts: list[dict[str, Any]] = [
        {"name": "config", "mountPath": _CONFIG, "readOnly": True},
        {"name": "prefix", "mountPath": _PREFIX},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's own
    ]
    volumes: list[dict[str, Any]] = [
        {"name": "config", "secret": {"secretName": config, "defaultMode": 0o440}},
        {"name": "prefix", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
    ]
    if tls:
        mounts.append({"name": "tls", "mountPath": _TLS, "readOnly": True})
        volumes.append({"name": "tls", "secret": {"secretName": tls, "defaultMode": 0o440}})
    if plugin:
        mounts.append({"name": "plugin", "mountPath": f"{_LUA}/kong/plugins/{TOKENS_PLUGIN}",
                       "readOnly": True})  # fmt: skip
        volumes.append({"name": "plugin", "configMap": {"name": plugin, "defaultMode": 0o444}})
    size = {"cpu": args.get("cpu") or CPU, "memory": args.get("memory") or MEMORY}
    seconds = args["upstream"].get("request_seconds") or defaults.REQUEST_SECONDS
    container = {
        "name": "kong",
        "image": args.get("image") or IMAGE,
        "env": [{"name": f"KONG_{key}", "value": value}
                for key, value in sorted(environment(args).items())],
        "ports": [{"name": "proxy", "containerPort": PROXY},
                  {"name": "status", "containerPort": STATUS}],
        "startupProbe": _probe("/status", period=2, failures=60),
        # Ready is who has loaded the configuration.
        "readinessProbe": _probe("/status/ready", period=5, failures=2),
        "livenessProbe": _probe("/status", period=10, failures=6),
        "lifecycle": {"preStop": {"sleep": {"seconds": _LEAVES_SECONDS}}},
        "resources": {"requests": size, "limits": size},
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": mounts,
    }  # fmt: skip
    return {
        "replicas": args.get("replicas") or REPLICAS,
        "selector": {"matchLabels": selector(name)},
        "revisionHistoryLimit": 3,
        "minReadySeconds": 5,
        "progressDeadlineSeconds": 600,
        # No pod goes before another is ready.
        "strategy": {"type": "RollingUpdate",
                     "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": {"labels": dict(labels), "annotations": {"sixways/config": checksum}},
            "spec": {
                "serviceAccountName": name,
                "automountServiceAccountToken": False,
                # The image stops by SIGQUIT, on which Nginx ends what is in flight.
                "terminationGracePeriodSeconds": _LEAVES_SECONDS + math.ceil(seconds),
                "securityContext": {"runAsNonRoot": True, "runAsUser": _USER, "runAsGroup": _USER,
                                    "fsGroup": _USER, "seccompProfile": {"type": "RuntimeDefault"}},
                "topologySpreadConstraints": [_spread(name, "topology.kubernetes.io/zone"),
                                              _spread(name, "kubernetes.io/hostname")],
                "containers": [container],
                "volumes": volumes,
            },
        },
    }  # fmt: skip


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "status"}, "periodSeconds": period,
            "timeoutSeconds": 3, "failureThreshold": failures}  # fmt: skip


def _spread(name: str, key: str) -> dict[str, Any]:
    return {
        "topologyKey": key,
        "maxSkew": 1,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(name)},
        # Each version for itself: pods of the old one, about to go, do not count.
        "matchLabelKeys": ["pod-template-hash"],
    }


def service(name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """The Service that callers reach."""
    kind = args.get("service_type") or "LoadBalancer"
    found: dict[str, Any] = {
        "type": kind,
        "selector": selector(name),
        "ports": [{"name": "https" if args.get("tls") else "http", "port": port(args),
                   "targetPort": "proxy", "protocol": "TCP"}],
    }  # fmt: skip
    ranges = args.get("source_ranges") or ([] if args.get("tls") else PRIVATE)
    if kind == "LoadBalancer" and ranges:
        found["loadBalancerSourceRanges"] = list(ranges)
    return found


def status_service(name: str) -> dict[str, Any]:
    """The Service that Prometheus finds the pods by; inside the cluster alone."""
    return {
        "clusterIP": "None",
        "selector": selector(name),
        "ports": [{"name": "status", "port": STATUS, "targetPort": "status", "protocol": "TCP"}],
    }


def traffic(name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """Requests from everybody, metrics inside the cluster, and out to what Kong calls."""
    ports = {_port_of(one["url"]) for one in args["upstream"]["instances"]}
    log = args.get("log") or {}
    if log.get("kind") == "http":
        ports.add(_port_of(log["target"]))
    if args.get("redis"):
        ports.add(args["redis"].get("port") or REDIS_PORT)
    names = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    return {
        "podSelector": {"matchLabels": selector(name)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"ports": [{"port": "proxy", "protocol": "TCP"}]},
            {"from": [{"namespaceSelector": {}}],
             "ports": [{"port": "status", "protocol": "TCP"}]},
        ],
        "egress": [
            {"ports": names},
            {"ports": [{"port": one, "protocol": "TCP"} for one in sorted(ports)]},
        ],
    }  # fmt: skip


def _port_of(url: str) -> int:
    found = urlsplit(url)
    return found.port or (443 if found.scheme == "https" else 80)
