"""The chart's objects, as rendered; what a cluster says of them is in tests/cluster."""

from __future__ import annotations

import io
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.routing import Route
from typer.testing import CliRunner

import sixways
from sixways.cli import app
from sixways.observability import chart
from sixways.observability.grafana import dashboard
from sixways.observability.prometheus import BOUNDS, Terms, rule_groups
from sixways.observability.slo import Slo
from sixways_server.app import create_app
from sixways_server.auth import OPEN_PATHS, KeyStore
from sixways_server.config import ServerConfig
from sixways_server.container import main as start
from sixways_server.metrics import Metrics
from sixways_server.registry import Registry
from tests.unit.chart.rendered import CHART, CRDS, DIGEST, HEX, IMAGE, render

pytestmark = pytest.mark.cluster

_ALWAYS = ["Deployment", "NetworkPolicy", "PodDisruptionBudget", "Secret", "Service",
           "ServiceAccount"]  # fmt: skip
_EVERYTHING: dict[str, Any] = {
    "autoscaling": {"type": "keda", "queueDepth": 4, "keda": {"prometheusUrl": "http://p:9090"}},
    "httpRoute": {"enabled": True, "hostnames": ["a.example.com"],
                  "gateway": {"className": "envoy", "tlsSecret": "tls"}},
    "ingress": {"enabled": True, "hosts": ["b.example.com"], "tlsSecret": "tls"},
    "monitoring": {"serviceMonitor": {"enabled": True}, "rules": {"enabled": True},
                   "dashboard": {"enabled": True}},
}  # fmt: skip


def environment(server: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["value"] for item in server["env"]}


def test_helm_finds_no_fault() -> None:
    done = subprocess.run(
        ["helm", "lint", "--strict", str(CHART)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 chart(s) failed" in done.stdout


def test_the_chart_has_the_packages_version() -> None:
    found = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert found["version"] == found["appVersion"] == sixways.__version__


def test_the_least_gives_what_every_release_has(tmp_path: Path) -> None:
    assert render(tmp_path, {}).kinds == _ALWAYS


def test_three_pods_are_replaced_without_one_missing(tmp_path: Path) -> None:
    spec = render(tmp_path, {}).one("Deployment")["spec"]
    assert spec["replicas"] == 3
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_the_probes_ask_routes_that_need_no_key(tmp_path: Path) -> None:
    server = render(tmp_path, {}).server
    asked = {kind: server[kind]["httpGet"]["path"]
             for kind in ("startupProbe", "readinessProbe", "livenessProbe")}  # fmt: skip
    assert asked == {"startupProbe": "/readyz", "readinessProbe": "/readyz",
                     "livenessProbe": "/healthz"}  # fmt: skip
    assert set(asked.values()) <= OPEN_PATHS
    assert {server[kind]["httpGet"]["port"] for kind in asked} == {"http"}


def test_a_slow_start_is_given_the_time_it_may_take(tmp_path: Path) -> None:
    shown = render(tmp_path, {"server": {"startupSeconds": 1801}})
    probe = shown.server["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 1801
    assert shown.one("Deployment")["spec"]["progressDeadlineSeconds"] > 1801


def test_a_pod_has_time_for_the_pause_and_the_servers_drain(tmp_path: Path) -> None:
    shown = render(tmp_path, {"server": {"drainSeconds": 120, "lingerSeconds": 9}})
    told = environment(shown.server)
    pause = shown.server["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert (told["SIXWAYS_DRAIN_SECONDS"], told["SIXWAYS_LINGER_SECONDS"]) == ("120", "9")
    assert pause >= 5
    assert shown.pod["terminationGracePeriodSeconds"] > pause + 120 + 9


def test_the_images_entry_point_understands_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chart names no command: the container runs the image's own."""
    models = [
        {"name": "minilm", "digest": DIGEST, "s3": f"s3://b/bundles/minilm/{HEX}/"},
        {"name": "chat", "digest": DIGEST, "variant": "openvino-int8", "path": "/models/chat"},
    ]
    shown = render(tmp_path, {"models": models, "server": {"workers": 2, "graphql": True}})
    assert not {"command", "args"} & shown.server.keys()
    dockerfile = (CHART.parents[1] / "model_server" / "Dockerfile").read_text()
    assert 'CMD ["python", "-m", "sixways_server.container"]' in dockerfile
    ran: list[ServerConfig] = []

    def run(config: ServerConfig) -> int:
        ran.append(config)
        return 0

    monkeypatch.setattr("sixways_server.serve.run", run)
    keys = tmp_path / "keys.json"
    keys.write_text('{"keys": []}')
    told = environment(shown.server)
    assert {model["digest"] for model in json.loads(told["SIXWAYS_MODELS"])} == {DIGEST}
    served = {"minilm": "embeddings", "chat": "chat"}
    dummies = [
        {**model, "path": f"dummy:{served[model['name']]}"}
        for model in json.loads(told["SIXWAYS_MODELS"])
    ]
    told |= {"SIXWAYS_MODELS": json.dumps(dummies), "SIXWAYS_KEYS_FILE": str(keys)}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert start() == 0
    (config,) = ran
    assert (config.host, config.port) == ("0.0.0.0", shown.server["ports"][0]["containerPort"])  # noqa: S104
    assert (config.workers, config.graphql, config.console) == (2, True, True)
    assert (config.drain_seconds, config.linger_seconds) == (30.0, 6.0)
    assert [model.variant for model in config.models] == [None, "openvino-int8"]


def test_the_keys_file_is_one_the_server_reads(tmp_path: Path) -> None:
    shown = render(tmp_path, {})
    path = tmp_path / "keys.json"
    path.write_text(shown.one("Secret")["stringData"]["keys.json"])
    assert [key.sha256 for key in KeyStore(path)._keys] == [HEX]
    told = environment(shown.server)["SIXWAYS_KEYS_FILE"]
    mounts = {mount["name"]: mount["mountPath"] for mount in shown.server["volumeMounts"]}
    assert told == f"{mounts['keys']}/keys.json"


def test_a_secret_that_exists_is_used_and_none_is_made(tmp_path: Path) -> None:
    shown = render(tmp_path, {"apiKeys": {"existingSecret": "ours"}})
    assert "Secret" not in shown.kinds
    (keys,) = (volume for volume in shown.pod["volumes"] if volume["name"] == "keys")
    assert keys["secret"]["secretName"] == "ours"


def test_a_bundle_from_s3_is_fetched_and_verified_before_the_server_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"s3://b/bundles/minilm/{HEX}/"
    shown = render(tmp_path, {"models": [{"name": "minilm", "digest": DIGEST, "s3": uri}]})
    (fetch,) = shown.pod["initContainers"]
    assert fetch["image"] == IMAGE
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr("sixways_bundle.s3.client", lambda *_: io.BytesIO())
    monkeypatch.setattr("sixways_bundle.store.fetch", lambda *given, **_: asked.append(given))
    program, *arguments = fetch["command"]
    assert program == "sixways"
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert asked == [(uri, DIGEST, Path("/bundles/s3/minilm"))]
    mounts = {mount["name"]: mount for mount in shown.server["volumeMounts"]}
    assert mounts["fetched"] == {"name": "fetched", "mountPath": "/bundles/s3", "readOnly": True}
    assert (
        json.loads(environment(shown.server)["SIXWAYS_MODELS"])[0]["path"] == "/bundles/s3/minilm"
    )
    ports = {port["port"] for rule in shown.one("NetworkPolicy")["spec"]["egress"]
             for port in rule["ports"]}  # fmt: skip
    assert ports == {53, 80, 443}


def test_a_bundle_in_an_image_is_mounted_where_the_server_looks(tmp_path: Path) -> None:
    shown = render(
        tmp_path,
        {"models": [{"name": "minilm", "digest": DIGEST, "image": f"r.example/b@{DIGEST}"}]},
    )
    assert "initContainers" not in shown.pod
    (volume,) = (volume for volume in shown.pod["volumes"] if "image" in volume)
    assert volume["image"]["reference"] == f"r.example/b@{DIGEST}"
    (mount,) = (m for m in shown.server["volumeMounts"] if m["name"] == volume["name"])
    (model,) = json.loads(environment(shown.server)["SIXWAYS_MODELS"])
    assert mount["mountPath"] == model["path"]


def test_a_bundle_in_the_servers_image_lets_the_pod_reach_nothing(tmp_path: Path) -> None:
    policy = render(tmp_path, {}).one("NetworkPolicy")["spec"]
    assert policy["egress"] == []
    assert policy["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}]}]


def test_only_named_callers_reach_the_server(tmp_path: Path) -> None:
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}
    policy = render(tmp_path, {"networkPolicy": {"from": [peer]}}).one("NetworkPolicy")["spec"]
    assert policy["ingress"][0]["from"] == [peer]


def test_a_load_balancer_takes_requests_from_private_networks_alone(tmp_path: Path) -> None:
    service = render(tmp_path, {}).one("Service")["spec"]
    assert (service["type"], service["ports"][0]["port"]) == ("LoadBalancer", 5000)
    assert "0.0.0.0/0" not in service["loadBalancerSourceRanges"]
    assert len(service["loadBalancerSourceRanges"]) == 3


@pytest.mark.parametrize("front", ["ingress", "httpRoute"])
def test_behind_an_ingress_or_a_route_there_is_no_load_balancer(tmp_path: Path, front: str) -> None:
    service = render(tmp_path, {front: _EVERYTHING[front]}).one("Service")["spec"]
    assert service["type"] == "ClusterIP"
    assert "loadBalancerSourceRanges" not in service


def test_an_autoscaler_owns_the_number_of_pods(tmp_path: Path) -> None:
    shown = render(tmp_path, {"autoscaling": {"type": "hpa", "minReplicas": 2}})
    assert "replicas" not in shown.one("Deployment")["spec"]
    spec = shown.one("HorizontalPodAutoscaler")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 10)
    assert spec["scaleTargetRef"]["name"] == shown.one("Deployment")["metadata"]["name"]


def test_the_autoscaler_looks_at_cpu_and_at_the_servers_own_metrics(tmp_path: Path) -> None:
    scaling = {"type": "hpa", "queueDepth": 4, "requestsInFlight": 8.5}
    metrics = render(tmp_path, {"autoscaling": scaling}).one("HorizontalPodAutoscaler")["spec"][
        "metrics"
    ]
    assert metrics[0]["resource"]["target"]["averageUtilization"] == 70
    own = {m["pods"]["metric"]["name"]: m["pods"]["target"]["averageValue"] for m in metrics[1:]}
    assert own == {"sixways_num_requests_waiting": "4", "sixways_num_requests_running": "8.5"}
    page = (CHART.parents[1] / "docs" / "metrics.md").read_text()
    assert all(f"`{name}`" in page for name in own)


def test_a_metric_of_zero_does_not_count(tmp_path: Path) -> None:
    scaling = {"type": "hpa", "cpuUtilization": 0, "queueDepth": 4}
    spec = render(tmp_path, {"autoscaling": scaling}).one("HorizontalPodAutoscaler")["spec"]
    assert [metric["type"] for metric in spec["metrics"]] == ["Pods"]


def test_with_keda_nothing_runs_until_somebody_asks(tmp_path: Path) -> None:
    keda = {"prometheusUrl": "http://p:9090", "activationQuery": "sum(asked)"}
    scaling = {"type": "keda", "minReplicas": 0, "queueDepth": 4, "keda": keda}
    shown = render(tmp_path, {"autoscaling": scaling}, crds=CRDS)
    spec = shown.one("ScaledObject")["spec"]
    assert spec["minReplicaCount"] == 0
    queries = {trigger["name"]: trigger["metadata"]["query"] for trigger in spec["triggers"]
               if trigger["type"] == "prometheus"}  # fmt: skip
    assert queries["activation"] == "sum(asked)"
    assert 'sixways_num_requests_waiting{namespace="shop", service="demo"}' in queries["queue"]
    assert "HorizontalPodAutoscaler" not in shown.kinds


def test_what_the_cluster_does_not_know_is_left_out(tmp_path: Path) -> None:
    shown = render(tmp_path, _EVERYTHING)
    assert shown.error == ""
    assert shown.kinds == sorted([*_ALWAYS, "ConfigMap", "Ingress"])
    deployment = shown.one("Deployment")
    assert deployment["spec"]["replicas"] == 3, "nothing scales: it needs a number"
    assert deployment["metadata"]["annotations"] == {
        "sixways/left-out": "ScaledObject,HTTPRoute,ServiceMonitor,PrometheusRule"
    }


def test_what_the_cluster_knows_is_there(tmp_path: Path) -> None:
    shown = render(tmp_path, _EVERYTHING, crds=CRDS)
    assert shown.kinds == sorted(
        [*_ALWAYS, "ConfigMap", "Gateway", "HTTPRoute", "Ingress", "PrometheusRule", "ScaledObject",
         "ServiceMonitor"]
    )  # fmt: skip
    assert "annotations" not in shown.one("Deployment")["metadata"]


def test_both_fronts_end_tls(tmp_path: Path) -> None:
    shown = render(tmp_path, _EVERYTHING, crds=CRDS)
    assert shown.one("Ingress")["spec"]["tls"] == [
        {"secretName": "tls", "hosts": ["b.example.com"]}
    ]
    (listener,) = shown.one("Gateway")["spec"]["listeners"]
    assert (listener["protocol"], listener["tls"]["mode"]) == ("HTTPS", "Terminate")
    assert shown.one("HTTPRoute")["spec"]["parentRefs"] == [{"name": "demo"}]


def test_both_fronts_let_every_route_of_the_server_through_but_for_metrics(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text('{"keys": []}')
    app = create_app(
        Registry([]), KeyStore(keys), Metrics(), max_body_bytes=1, max_inputs=1, with_graphql=True
    )
    routes = {route.path for route in app.routes if isinstance(route, Route)}
    shown = render(tmp_path, {**_EVERYTHING, "server": {"graphql": True}}, crds=CRDS)
    ingress = shown.one("Ingress")["spec"]["rules"][0]["http"]["paths"]
    rules = shown.one("HTTPRoute")["spec"]["rules"]
    assert max(len(rule["matches"]) for rule in rules) <= 8
    matches = [match["path"] for rule in rules for match in rule["matches"]]
    for allowed in (
        {(entry["path"], entry["pathType"] == "Prefix") for entry in ingress},
        {(path["value"], path["type"] == "PathPrefix") for path in matches},
    ):
        through = {route for route in routes for path, below in allowed
                   if route == path or (below and route.startswith(f"{path}/"))}  # fmt: skip
        assert routes - through == {"/metrics"}
        assert {path for path, _ in allowed} <= {*routes, "/v1"}, "and nothing that is no route"


def test_a_gateway_that_exists_is_used(tmp_path: Path) -> None:
    parent = {"name": "public", "namespace": "infra", "sectionName": "https"}
    route = {"enabled": True, "hostnames": ["a.example.com"], "parentRefs": [parent]}
    shown = render(tmp_path, {"httpRoute": route}, crds=CRDS)
    assert "Gateway" not in shown.kinds
    assert shown.one("HTTPRoute")["spec"]["parentRefs"] == [parent]


def test_the_charts_rules_and_dashboard_are_those_of_the_package() -> None:
    for name, text in chart.files().items():
        fix = f"python -m sixways.observability.chart {CHART}"
        assert (CHART / name).read_text() == text, f"`{fix}` writes it"
    helpers = (CHART / "templates" / "_helpers.tpl").read_text()
    bounds = next(line for line in helpers.splitlines() if "$bounds := list" in line)
    assert [float(bound) for bound in re.findall(r'"([0-9.]+)"', bounds)] == list(BOUNDS)


@pytest.mark.parametrize(
    "slo",
    [
        Slo(),
        Slo(latency_ms=300, latency_quantile=0.99, error_rate=0.02, window_minutes=10),
        Slo(latency_ms=1.5, latency_quantile=0.8, error_rate=0.2, window_minutes=60, period_days=7),
        Slo(latency_ms=81_000, error_rate=0.00001, window_minutes=7, period_days=90),
    ],
)
def test_helm_fills_in_an_objective_as_python_does(tmp_path: Path, slo: Slo) -> None:
    values = {
        "latencyMs": slo.latency_ms, "latencyQuantile": slo.latency_quantile,
        "errorRate": slo.error_rate, "windowMinutes": slo.window_minutes,
        "periodDays": slo.period_days,
    }  # fmt: skip
    shown = render(
        tmp_path, {"monitoring": {**_EVERYTHING["monitoring"], "slo": values}}, crds=CRDS
    )
    of = 'namespace="shop", service="demo"'
    groups = rule_groups(Terms.of(slo, name="shop/demo", selector=of), machines=False)
    assert shown.one("PrometheusRule")["spec"] == {"groups": groups}
    (text,) = shown.one("ConfigMap")["data"].values()
    title = "Sixways: demo in shop"
    board = dashboard(slo, name="shop/demo", selector=of, title=title)
    assert json.loads(text) == json.loads(board)


def test_an_objective_beyond_the_servers_histogram_has_no_rules(tmp_path: Path) -> None:
    monitoring = {**_EVERYTHING["monitoring"], "slo": {"latencyMs": 90_000}}
    assert "accepted: up to 81920 with rules" in render(tmp_path, {"monitoring": monitoring}).error


def test_a_budget_lets_one_pod_go_however_many_there_are(tmp_path: Path) -> None:
    assert render(tmp_path, {}).one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    budget = render(tmp_path, {"podDisruptionBudget": {"minAvailable": 2}})
    assert "maxUnavailable" not in budget.one("PodDisruptionBudget")["spec"]
    assert budget.one("PodDisruptionBudget")["spec"]["minAvailable"] == 2


def test_pods_spread_over_zones_and_nodes(tmp_path: Path) -> None:
    pod = render(tmp_path, {"antiAffinity": "required"}).pod
    (spread,) = pod["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["maxSkew"]) == ("topology.kubernetes.io/zone", 1)
    (apart,) = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart["topologyKey"] == "kubernetes.io/hostname"
    assert "affinity" not in render(tmp_path, {"antiAffinity": "none"}).pod


def test_no_container_may_do_more_than_it_must(tmp_path: Path) -> None:
    model = {"name": "minilm", "digest": DIGEST, "s3": f"s3://b/bundles/minilm/{HEX}/"}
    pod = render(tmp_path, {"models": [model]}).pod
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod["containers"], *pod["initContainers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "tmp" in {mount["name"] for mount in container["volumeMounts"]}


def test_gpus_are_asked_for_and_their_nodes_taint_is_tolerated(tmp_path: Path) -> None:
    shown = render(tmp_path, {"gpu": {"count": 2}, "nodeSelector": {"gpu": "l4"}})
    resources = shown.server["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == 2
    assert resources["limits"]["memory"] == "2Gi"
    assert shown.pod["nodeSelector"] == {"gpu": "l4"}
    assert shown.pod["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replicas": "three"}, "/replicas': got string, want integer"),
        ({"replica": 3}, "additional properties 'replica' not allowed"),
        ({"service": {"prt": 80}}, "additional properties 'prt' not allowed"),
        ({"resources": {"limits": {"memory": "2GB"}}}, "/resources/limits/memory"),
        ({"image": {"reference": IMAGE, "pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
        ({"models": [{"name": "m", "digest": "sha256:1", "path": "/m"}]}, "/models/0/digest"),
        ({"models": [{"name": "m", "digest": DIGEST}]}, "/models/0"),
        ({"apiKeys": {"hashes": [{"name": "x", "sha256": "the key itself"}]}}, "/apiKeys/hashes/0"),
    ],
)
def test_values_of_the_wrong_type_are_refused_by_the_schema(
    tmp_path: Path, values: dict[str, Any], said: str
) -> None:
    error = render(tmp_path, values).error
    assert "values don't meet the specifications of the schema" in error
    assert said in error


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"podDisruptionBudget": {"minAvailable": 3}}, "podDisruptionBudget.minAvailable: 3"),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "podDisruptionBudget: no pod may ever go"),
        ({"autoscaling": {"type": "hpa", "minReplicas": 11}}, "autoscaling.minReplicas: 11"),
        ({"autoscaling": {"type": "hpa", "minReplicas": 0}}, "use keda"),
        ({"autoscaling": {"type": "hpa", "cpuUtilization": 0}}, "nothing to scale by"),
        ({"autoscaling": {"type": "keda", "minReplicas": 0}}, "autoscaling.keda.activationQuery"),
        ({"autoscaling": {"type": "keda", "queueDepth": 1}}, "autoscaling.keda.prometheusUrl"),
        ({"gpu": {"count": 1}}, "nodeSelector: empty"),
        ({"rollout": {"maxSurge": 0}}, "rollout.maxSurge: 0"),
        ({"ingress": {"enabled": True, "hosts": ["a.example.com"]}}, "ingress.tlsSecret: empty"),
        ({"httpRoute": {"enabled": True}}, "httpRoute.hostnames: empty"),
        ({"apiKeys": {}}, "apiKeys: none"),
        ({"server": {"drainSeconds": 3}}, "server.lingerSeconds: 6"),
        (
            {"models": [{"name": "m", "digest": DIGEST, "path": "/m"}] * 2},
            "models[1].name: m; accepted: each name once",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    tmp_path: Path, values: dict[str, Any], said: str
) -> None:
    error = render(tmp_path, values).error
    assert "the values cannot be used" in error
    assert said in error


def test_everything_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    error = render(tmp_path, {}, least=False).error
    for field in ("image.reference", "models", "apiKeys"):
        assert f"\n  - {field}: " in error


def test_a_cluster_too_old_for_bundles_in_images_is_told(tmp_path: Path) -> None:
    model = {"name": "minilm", "digest": DIGEST, "image": f"r.example/b@{DIGEST}"}
    error = render(tmp_path, {"models": [model]}, kubernetes="1.31.0").error
    assert "models[0].image: Kubernetes v1.31.0; accepted: 1.33 or newer" in error
