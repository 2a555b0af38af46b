"""What is wrong with the inputs of a `ModelDeployment`, as far as they are known.

Limits of names and quantities are those of Kubernetes' API; the chart's schema holds the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sixways.checks import DIGEST, MODEL_NAME, Checks, is_number, is_plain
from sixways.container.args import (
    AutoscalingArgs,
    DeployedModelArgs,
    IngressArgs,
    ModelDeploymentArgs,
    MonitoringArgs,
    RouteArgs,
)
from sixways.container.quantity import parse_quantity
from sixways.observability.slo import check_slo
from sixways_bundle import Problem

_MOST_PODS = 1000
_LEAST_MEMORY = 64 * 2**20
_LEAST_KEY = 16
# A Service's name, and short enough for what Helm adds to a release's.
_RELEASE = re.compile(r"[a-z]([-a-z0-9]{0,51}[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_OBJECT = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_HOST = re.compile(r"(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_IMAGE = re.compile(
    r"[a-z0-9][\w.-]*(:\d+)?(/[\w.-]+)*(:[\w.-]+)?(@sha256:[0-9a-f]{64})?", re.ASCII
)
_S3 = re.compile(r"s3://[^/]+/(.+/)?[^/]+/(?P<hex>[0-9a-f]{64})/?")
_SOURCES = ("s3_uri", "image", "path")
BY_DIGEST = "REPOSITORY@sha256:DIGEST"


def problems(name: str, args: ModelDeploymentArgs) -> list[Problem]:
    """Every problem with the inputs; values that are outputs are passed over."""
    checks = Checks()
    checks.known(args, ModelDeploymentArgs)
    checks.required(args, "image", "models")
    if not _RELEASE.fullmatch(name):
        checks.add("name", name, "up to 53 of a-z, 0-9 and '-', beginning with a letter",
                   "rename the resource: its Service is called like it")  # fmt: skip
    check_image(checks, "image", args.get("image"), "take ServerImage.image_uri")
    _check_models(checks, args.get("models"))
    _check_pods(checks, args)
    _check_scaling(checks, args)
    _check_service(checks, args)
    _check_front(checks, args)
    _check_keys(checks, args)
    _check_monitoring(checks, args.get("monitoring"))
    return checks.problems


def by_tag(image: object) -> bool:
    """Whether an image is named by a tag alone."""
    return isinstance(image, str) and "@sha256:" not in image


def _check_models(checks: Checks, models: object) -> None:
    if models is None or not isinstance(models, list):
        return
    seen: set[str] = set()
    for index, model in enumerate(models):
        here = f"models[{index}]."
        if not isinstance(model, Mapping):
            continue
        checks.known(model, DeployedModelArgs, here)
        checks.required(model, "name", "digest", prefix=here)
        name, digest = model.get("name"), model.get("digest")
        if isinstance(name, str) and name:
            if not MODEL_NAME.fullmatch(name):
                checks.add(f"{here}name", name, "up to 128 letters, digits, '.', '_' and '-'")
            if name in seen:
                checks.add(f"{here}name", name, "each name once", "rename one of them")
            seen.add(name)
        given = [key for key in _SOURCES if model.get(key) is not None]
        if len(given) != 1:
            field = given[-1] if given else "s3_uri"
            checks.add(f"{here}{field}", ", ".join(given) or None,
                       "exactly one of s3_uri, image, path",
                       "say where the bundle lies")  # fmt: skip
        check_bundle_address(checks, here, model.get("s3_uri"), digest)
        image = model.get("image")
        if by_tag(image):
            checks.add(f"{here}image", image, BY_DIGEST, "name the image by its digest")
        path = model.get("path")
        if isinstance(path, str) and not path.startswith("/"):
            checks.add(f"{here}path", path, "an absolute path in the server's image")


def _check_pods(checks: Checks, args: ModelDeploymentArgs) -> None:
    check_quantity(checks, "cpu", args.get("cpu"), "a quantity above 0: 500m, 2, 1.5")
    memory = check_quantity(checks, "memory", args.get("memory"), "a quantity: 512Mi, 2Gi, 1.5G")
    if memory is not None and 0 < memory < _LEAST_MEMORY:
        checks.add("memory", args.get("memory"), "at least 64Mi",
                   "add a unit: Mi and Gi are 2^20 and 2^30 bytes, none is bytes")  # fmt: skip
    checks.number("gpus", args.get("gpus"), 0, 16, whole=True)
    gpus, resource = args.get("gpus"), args.get("gpu_resource")
    if is_number(gpus) and gpus > 0 and not args.get("node_selector"):
        checks.add("node_selector", None, f"labels of nodes with {resource or 'nvidia.com/gpu'}",
                   "add them: kubectl get nodes --show-labels; or set gpus to 0")  # fmt: skip
    if isinstance(resource, str) and not re.fullmatch(r"[a-z0-9.-]+/[A-Za-z0-9._-]+", resource):
        checks.add("gpu_resource", resource, "DOMAIN/NAME, e.g. nvidia.com/gpu")
    checks.number("workers", args.get("workers"), 1, 64, whole=True)
    checks.number("request_seconds", args.get("request_seconds"), 0, 86_400, whole=True)
    # No shorter than idle connections linger after SIGTERM, 6 s by default.
    checks.number("drain_seconds", args.get("drain_seconds"), 6, 3600, whole=True)
    checks.number("startup_seconds", args.get("startup_seconds"), 2, 86_400, whole=True)
    check_names(checks, "image_pull_secrets", args.get("image_pull_secrets"))
    check_env(checks, args.get("env"))


def _check_scaling(checks: Checks, args: ModelDeploymentArgs) -> None:
    replicas, scaling = args.get("replicas"), args.get("autoscaling")
    checks.number("replicas", replicas, 1, _MOST_PODS, whole=True,
                  fix="to scale to zero, use autoscaling with engine keda")  # fmt: skip
    floor: object = 3 if replicas is None else replicas
    field = "replicas"
    if isinstance(scaling, Mapping):
        field = "autoscaling.min_replicas"
        floor = scaling.get("min_replicas", 3)
        _check_autoscaling(checks, scaling)
        if replicas is not None:
            checks.add("replicas", replicas, "no number beside autoscaling",
                       "remove it; autoscaling.min_replicas is the fewest")  # fmt: skip
    least = args.get("min_available")
    checks.number("min_available", least, 1, _MOST_PODS, whole=True)
    if is_number(least) and is_number(floor) and 0 < floor <= least:
        checks.add("min_available", least, f"less than {field} ({floor:g}): else no node could "
                   "ever be drained", f"lower it, or raise {field}")  # fmt: skip


def _check_autoscaling(checks: Checks, scaling: Mapping[str, Any]) -> None:
    here = "autoscaling."
    checks.known(scaling, AutoscalingArgs, here)
    engine = scaling.get("engine", "hpa")
    checks.one_of(f"{here}engine", engine, ("hpa", "keda"))
    low, high = scaling.get("min_replicas", 3), scaling.get("max_replicas", 10)
    fix = "use engine keda to scale to zero" if engine == "hpa" else ""
    checks.number(f"{here}min_replicas", low, 1 if engine == "hpa" else 0, _MOST_PODS,
                  whole=True, fix=fix)  # fmt: skip
    checks.number(f"{here}max_replicas", high, 1, _MOST_PODS, whole=True)
    if is_number(low) and is_number(high) and low > high:
        checks.add(f"{here}min_replicas", low, f"up to max_replicas ({high:g})",
                   "lower it, or raise max_replicas")  # fmt: skip
    checks.number(f"{here}cpu_utilization", scaling.get("cpu_utilization"), 0, 1000, whole=True)
    for key in ("queue_depth", "requests_in_flight"):
        checks.number(f"{here}{key}", scaling.get(key), 0.001, 1_000_000)
    checks.number(f"{here}scale_down_seconds", scaling.get("scale_down_seconds"), 0, 3600,
                  whole=True)  # fmt: skip
    counted = [scaling.get(key) for key in ("queue_depth", "requests_in_flight")]
    if scaling.get("cpu_utilization") == 0 and counted == [None, None]:
        checks.add(f"{here}cpu_utilization", 0, "something to scale by",
                   "add queue_depth or requests_in_flight, or let CPU count")  # fmt: skip
    url, query = scaling.get("prometheus_url"), scaling.get("activation_query")
    if engine == "keda":
        if not url and (query or counted != [None, None]):
            checks.add(f"{here}prometheus_url", None, "http://HOST:PORT of Prometheus", "add it")
        if low == 0 and not query:
            checks.add(f"{here}activation_query", None, "PromQL that is over 0 as soon as somebody "
                       "asks: where no pod runs, no pod counts requests",
                       "add one on the requests of your ingress, or min_replicas 1")  # fmt: skip
    elif engine == "hpa":
        for key in ("prometheus_url", "activation_query"):
            if scaling.get(key) is not None:
                checks.add(f"{here}{key}", "given", "nothing with engine hpa",
                           "remove it, or use engine keda")  # fmt: skip
    if isinstance(url, str) and url and not re.fullmatch(r"https?://\S+", url):
        checks.add(f"{here}prometheus_url", url, "http://HOST:PORT of Prometheus")


def _check_service(checks: Checks, args: ModelDeploymentArgs) -> None:
    checks.one_of("service_type", args.get("service_type"), ("LoadBalancer", "ClusterIP"))
    checks.number("port", args.get("port"), 1, 65_535, whole=True)
    namespace = args.get("namespace")
    if isinstance(namespace, str) and not _LABEL.fullmatch(namespace):
        checks.add("namespace", namespace, "up to 63 of a-z, 0-9 and '-'")
    checks.networks("source_ranges", args.get("source_ranges"))


def _check_front(checks: Checks, args: ModelDeploymentArgs) -> None:
    ingress, route = args.get("ingress"), args.get("route")
    if isinstance(ingress, Mapping):
        checks.known(ingress, IngressArgs, "ingress.")
        checks.required(ingress, "hosts", "tls_secret", prefix="ingress.")
        _hosts(checks, "ingress.hosts", ingress.get("hosts"))
        for key in ("tls_secret", "class_name"):
            object_name(checks, f"ingress.{key}", ingress.get(key))
    if isinstance(route, Mapping):
        checks.known(route, RouteArgs, "route.")
        checks.required(route, "hosts", prefix="route.")
        _hosts(checks, "route.hosts", route.get("hosts"))
        gateway = route.get("gateway")
        own = [key for key in ("gateway_class", "tls_secret") if route.get(key) is not None]
        if gateway is None and len(own) < 2:
            checks.add("route.gateway", None, "a Gateway with an HTTPS listener, or gateway_class "
                       "and tls_secret for one of its own", "add one of them")  # fmt: skip
        if gateway is not None and own:
            checks.add(f"route.{own[0]}", "given", "nothing beside route.gateway, whose listener "
                       "has them already", "remove one of them")  # fmt: skip
        if isinstance(gateway, str):
            parts = gateway.split("/")
            if len(parts) > 3 or not all(_OBJECT.fullmatch(part) for part in parts):
                checks.add("route.gateway", gateway, "NAME, NAMESPACE/NAME or "
                           "NAMESPACE/NAME/LISTENER")  # fmt: skip
        object_name(checks, "route.tls_secret", route.get("tls_secret"))


def _check_keys(checks: Checks, args: ModelDeploymentArgs) -> None:
    check_key(checks, args.get("api_key"))
    object_name(checks, "keys_secret", args.get("keys_secret"))
    values = args.get("values")
    if values is not None and not isinstance(values, Mapping):
        checks.add("values", type(values).__name__, "a mapping of the chart's values")


def _check_monitoring(checks: Checks, monitoring: object) -> None:
    if not isinstance(monitoring, Mapping):
        return
    checks.known(monitoring, MonitoringArgs, "monitoring.")
    check_slo(checks, monitoring.get("slo"), "monitoring.slo.")


def check_image(checks: Checks, field: str, image: object, fix: str) -> None:
    """The name of an image, by digest or tag."""
    if isinstance(image, str) and image and not _IMAGE.fullmatch(image):
        checks.add(field, image, BY_DIGEST, fix)


def check_bundle_address(checks: Checks, here: str, uri: object, digest: object) -> None:
    """A bundle's digest, and the address in S3 that ends with it."""
    if isinstance(digest, str) and digest and not DIGEST.fullmatch(digest):
        checks.add(f"{here}digest", digest, "sha256:… with 64 hexadecimal digits",
                   "take Bundle.digest")  # fmt: skip
    if isinstance(uri, str):
        found = _S3.fullmatch(uri)
        if found is None:
            checks.add(f"{here}s3_uri", uri, "s3://BUCKET/bundles/NAME/HEX/",
                       "take BundleStore.uris")  # fmt: skip
        elif isinstance(digest, str) and digest != f"sha256:{found['hex']}":
            checks.add(f"{here}s3_uri", uri, f"the address of {digest}",
                       "correct one of the two")  # fmt: skip


def check_env(checks: Checks, env: object) -> None:
    """Environment variables beside those that the component sets."""
    for name, value in _plain_items(env):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            checks.add("env", name, "names of letters, digits and '_'")
        elif name.startswith("SIXWAYS_"):
            checks.add(f"env.{name}", value, "variables that are not the server's own settings",
                       "use the component's inputs")  # fmt: skip


def check_key(checks: Checks, key: object) -> None:
    """A key long enough not to be guessed; it is shown to nobody."""
    if isinstance(key, str) and (len(key) < _LEAST_KEY or not key.isascii() or " " in key):
        checks.add("api_key", f"{len(key)} characters",
                   f"at least {_LEAST_KEY} printable ASCII characters without blanks",
                   "leave it out for a random one")  # fmt: skip


def check_quantity(checks: Checks, field: str, value: object, accepted: str) -> float | None:
    """A quantity above 0, as Kubernetes writes it, and its number."""
    if value is None or not is_plain(value):
        return None
    number = parse_quantity(value) if isinstance(value, str) else None
    if number is None or number <= 0:
        checks.add(field, value, accepted, "write it as text, as Kubernetes does")
        return None
    return float(number)


def _plain_list(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _plain_items(value: object) -> list[tuple[str, object]]:
    return list(value.items()) if isinstance(value, Mapping) else []


def object_name(checks: Checks, field: str, value: object) -> None:
    """The name of an object in the cluster."""
    if isinstance(value, str) and not _OBJECT.fullmatch(value):
        checks.add(field, value, "the name of an object: a-z, 0-9, '-' and '.'")


def check_names(checks: Checks, field: str, value: object) -> None:
    """A list of such names."""
    for index, name in enumerate(_plain_list(value)):
        object_name(checks, f"{field}[{index}]", name)


def _hosts(checks: Checks, field: str, value: object) -> None:
    for index, host in enumerate(_plain_list(value)):
        if len(host) > 253 or not _HOST.fullmatch(host):
            checks.add(f"{field}[{index}]", host, "a host name in small letters: "
                       "models.example.com, *.example.com")  # fmt: skip
