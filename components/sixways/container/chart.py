"""The Helm chart `sixways-server`: where it is, and its values for the inputs of a component."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from sixways.container.args import (
    AutoscalingArgs,
    IngressArgs,
    ModelDeploymentArgs,
    MonitoringArgs,
    RouteArgs,
)


def chart_folder() -> Path:
    """The chart's folder: beside this file in an installed wheel, else that of the checkout.

    Raises:
        FileNotFoundError: the chart is in neither place.
    """
    here = Path(__file__).resolve()
    for folder in (here.parent / "chart", here.parents[3] / "charts" / "sixways-server"):
        if (folder / "Chart.yaml").is_file():
            return folder
    raise FileNotFoundError(f"the chart sixways-server lies neither beside {here} nor in charts/")


def chart_values(args: ModelDeploymentArgs, keys_secret: str) -> dict[str, Any]:
    """The chart's values. What the inputs leave out is left out here: the defaults are the
    chart's.

    Args:
        args: the component's inputs, all known.
        keys_secret: name of the Secret with the hashes of the keys.
    """
    values = _tree(
        {
            "image.reference": args["image"],
            "image.pullSecrets": args.get("image_pull_secrets"),
            "models": [_model(model) for model in cast(Any, args["models"])],
            "apiKeys.existingSecret": keys_secret,
            "replicas": args.get("replicas"),
            "server.workers": args.get("workers"),
            "server.requestSeconds": args.get("request_seconds"),
            "server.drainSeconds": args.get("drain_seconds"),
            "server.startupSeconds": args.get("startup_seconds"),
            "server.env": args.get("env"),
            "resources": _resources(args),
            "gpu.count": args.get("gpus"),
            "gpu.resource": args.get("gpu_resource"),
            "nodeSelector": args.get("node_selector"),
            "autoscaling": _autoscaling(args.get("autoscaling")),
            "podDisruptionBudget.minAvailable": args.get("min_available"),
            "service.type": args.get("service_type"),
            "service.port": args.get("port"),
            "service.sourceRanges": args.get("source_ranges"),
            "service.annotations": args.get("service_annotations"),
            "serviceAccount.annotations": args.get("service_account_annotations"),
            "ingress": _ingress(args.get("ingress")),
            "httpRoute": _route(args.get("route")),
            "monitoring": _monitoring(args.get("monitoring")),
            "annotations": {"pulumi.com/timeoutSeconds": str(_ready_seconds(args))},
        }
    )
    return merge(values, args.get("values") or {})


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """One set of values laid over another, as Helm does with several files of them."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(cast(Any, below), value) if both else value
    return merged


def _tree(flat: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`, without what is None."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        if value is None:
            continue
        *above, last = path.split(".")
        place = tree
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
    return tree


def _ready_seconds(args: ModelDeploymentArgs) -> int:
    """How long Pulumi waits for a rollout: every pod may take its time, one after the other.

    A rollout that gets no further ends much earlier, by the Deployment's progress deadline.
    """
    known = cast(Mapping[str, Any], args)
    scaling = known.get("autoscaling")
    pods = known.get("replicas", 3) if scaling is None else scaling.get("max_replicas", 10)
    return int(pods * known.get("startup_seconds", 600) + 300)


def _model(model: Mapping[str, Any]) -> dict[str, Any]:
    return {"s3" if key == "s3_uri" else key: value for key, value in model.items()}


def _resources(args: ModelDeploymentArgs) -> dict[str, Any] | None:
    given = {key: args[key] for key in ("cpu", "memory") if key in args}
    return {"requests": given, "limits": given} if given else None


def _autoscaling(given: Any) -> dict[str, Any] | None:
    if given is None:
        return None
    args = cast(AutoscalingArgs, given)
    return _tree(
        {
            "type": args.get("engine", "hpa"),
            "minReplicas": args.get("min_replicas"),
            "maxReplicas": args.get("max_replicas"),
            "cpuUtilization": args.get("cpu_utilization"),
            "queueDepth": args.get("queue_depth"),
            "requestsInFlight": args.get("requests_in_flight"),
            "scaleDownSeconds": args.get("scale_down_seconds"),
            "keda.prometheusUrl": args.get("prometheus_url"),
            "keda.activationQuery": args.get("activation_query"),
        }
    )


def _ingress(given: Any) -> dict[str, Any] | None:
    if given is None:
        return None
    args = cast(IngressArgs, given)
    return _tree(
        {
            "enabled": True,
            "hosts": args["hosts"],
            "tlsSecret": args["tls_secret"],
            "className": args.get("class_name"),
            "annotations": args.get("annotations"),
        }
    )


def _route(given: Any) -> dict[str, Any] | None:
    if given is None:
        return None
    args = cast(RouteArgs, given)
    parents = None
    if "gateway" in args:
        parts = cast(str, args["gateway"]).split("/")
        keys = ("name",) if len(parts) == 1 else ("namespace", "name", "sectionName")
        parents = [dict(zip(keys, parts, strict=False))]
    return _tree(
        {
            "enabled": True,
            "hostnames": args["hosts"],
            "parentRefs": parents,
            "gateway.className": args.get("gateway_class"),
            "gateway.tlsSecret": args.get("tls_secret"),
        }
    )


def _monitoring(given: Any) -> dict[str, Any] | None:
    if given is None:
        return None
    args = cast(MonitoringArgs, given)
    slo = args.get("slo", {})
    return _tree(
        {
            "serviceMonitor.enabled": args.get("service_monitor"),
            "serviceMonitor.labels": args.get("labels"),
            "rules.enabled": args.get("rules"),
            "rules.labels": args.get("labels"),
            "dashboard.enabled": args.get("dashboard"),
            "slo.latencyMs": slo.get("latency_ms"),
            "slo.latencyQuantile": slo.get("latency_quantile"),
            "slo.errorRate": slo.get("error_rate"),
            "slo.windowMinutes": slo.get("window_minutes"),
            "slo.periodDays": slo.get("period_days"),
        }
    )
