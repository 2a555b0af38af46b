"""The pods of a `DistributedModel`, and the objects of the two runtimes that hold them.

All inputs are known here: the component calls this once they are. In the place of secrets they have
`hub_secret`, the name of the Secret with the token for the hub.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PORT = 8000
"""Of vLLM, of Ray Serve, and of the Service."""
RAY_AGENT, RAY_DASHBOARD = 52365, 8265
_FILES = Path(__file__).parent / "files"
_APP = "/etc/sixways/app"
_KEYS = "/etc/sixways/keys"
_MODEL = "/model"
_HOME = "/home/vllm"
_PRE_STOP = 10
_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}

Args = Mapping[str, Any]
Spec = dict[str, Any]


def files() -> dict[str, str]:
    """What pods find in `_APP`: name and content."""
    return {path.name: path.read_text() for path in sorted(_FILES.glob("*.py"))}


def selector(name: str) -> dict[str, str]:
    """Labels of all pods of one model."""
    return {"app.kubernetes.io/name": "sixways-vllm", "app.kubernetes.io/instance": name}


def leader_worker_set(name: str, args: Args, annotations: Mapping[str, str]) -> Spec:
    """`spec` of a LeaderWorkerSet: each of its groups is one copy of the model.

    vLLM's processes find each other through the leader's address, which the controller puts into
    every container (`LWS_…`). What fails takes its group along: no part of a model is of use.
    """
    surge = args.get("max_surge", 1)
    nodes = args["nodes"]
    meeting = ["--distributed-executor-backend", "mp", "--nnodes", str(nodes),
               "--master-addr", "$(LWS_LEADER_ADDRESS)"]  # fmt: skip
    arguments = [*engine_arguments(name, args), *meeting]
    serving = ["--node-rank", "0", "--host", "0.0.0.0", "--port", str(PORT)]  # noqa: S104
    leader = _container(args) | {
        "command": ["vllm", "serve", *arguments, *serving],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "startupProbe": _probe("/health", PORT, 10, args.get("startup_seconds", 3600) // 10),
        "readinessProbe": _probe("/health", PORT, 5, 2),
        "livenessProbe": _probe("/health", PORT, 10, 6),
        "lifecycle": _sleep(_PRE_STOP),
    }
    # A worker listens to nobody but its leader, so there is nothing to probe: it ends when vLLM
    # does. It outlives what its leader has still to answer.
    worker = _container(args) | {
        "command": ["vllm", "serve", *arguments, "--node-rank", "$(LWS_WORKER_INDEX)",
                    "--headless"],
        "lifecycle": _sleep(_PRE_STOP + args.get("drain_seconds", 120)),
    }  # fmt: skip
    group = "leaderworkerset.sigs.k8s.io/group-key"
    return {
        "replicas": args.get("replicas", 1),
        "startupPolicy": "LeaderCreated",
        "rolloutStrategy": {
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": {
                "partition": 0,
                "maxSurge": surge,
                "maxUnavailable": 0 if surge else 1,
            },
        },
        "leaderWorkerTemplate": {
            "size": nodes,
            "restartPolicy": "RecreateGroupOnPodRestart",
            "leaderTemplate": _pod(name, args, leader, "leader", group, annotations),
            "workerTemplate": _pod(name, args, worker, "worker", group, annotations),
        },
    }


def ray_service(name: str, args: Args, annotations: Mapping[str, str]) -> Spec:
    """`spec` of a KubeRay RayService: a Ray cluster whose head node takes part in the model.

    Everything that makes a model what it is stands in the pods and nothing in `serveConfigV2`, so
    that every change of it is a new cluster, which takes over once it answers.
    """
    arguments = [*engine_arguments(name, args), "--distributed-executor-backend", "ray"]
    common = _container(args)
    common["env"] = [*common["env"], {"name": "SIXWAYS_VLLM", "value": json.dumps(arguments)}]
    alive = _probe("/api/local_raylet_healthz", RAY_AGENT, 10, 12)
    # KubeRay's own probes want wget in the image.
    head = common | {
        "ports": [
            {"name": "serve", "containerPort": PORT, "protocol": "TCP"},
            {"name": "gcs-server", "containerPort": 6379, "protocol": "TCP"},
            {"name": "dashboard", "containerPort": RAY_DASHBOARD, "protocol": "TCP"},
            {"name": "client", "containerPort": 10001, "protocol": "TCP"},
        ],
        "startupProbe": _probe("/api/gcs_healthz", RAY_DASHBOARD, 10, 60),
        "readinessProbe": _probe("/api/gcs_healthz", RAY_DASHBOARD, 5, 10),
        "livenessProbe": alive,
        "lifecycle": _sleep(_PRE_STOP),
    }
    worker = common | {
        "startupProbe": _probe("/api/local_raylet_healthz", RAY_AGENT, 10, 60),
        # Ready for requests, which none but the head is: the Service must find no other.
        "readinessProbe": _probe("/-/healthz", PORT, 10, 1),
        "livenessProbe": alive,
        "lifecycle": _sleep(_PRE_STOP + args.get("drain_seconds", 120)),
    }
    cluster: Spec = {
        "headGroupSpec": {
            "serviceType": "ClusterIP",
            "rayStartParams": {"dashboard-host": "0.0.0.0"},  # noqa: S104 - guarded by the policy
            "template": _pod(name, args, head, "head", "ray.io/cluster", annotations),
        },
        "workerGroupSpecs": [],
    }
    workers = args["nodes"] - 1
    if workers:
        template = _pod(name, args, worker, "worker", "ray.io/cluster", annotations)
        cluster["workerGroupSpecs"] = [
            {
                "groupName": "workers",
                "replicas": workers,
                "minReplicas": workers,
                "maxReplicas": workers,
                "rayStartParams": {},
                "template": template,
            }
        ]
    return {
        "upgradeStrategy": {"type": "NewCluster"},
        "serveConfigV2": json.dumps(_application(args), indent=2),
        "serveService": {
            "metadata": {"name": name, "annotations": args.get("service_annotations", {})},
            "spec": service_spec(args) | {"ports": [{"name": "serve", "port": PORT}]},
        },
        "rayClusterConfig": cluster,
    }


def service_spec(args: Args) -> Spec:
    """Type of the Service, and who may call a load balancer."""
    kind = args.get("service_type", "ClusterIP")
    if kind != "LoadBalancer":
        return {"type": kind}
    private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
    return {"type": kind, "loadBalancerSourceRanges": args.get("source_ranges", private)}


def engine_arguments(name: str, args: Args) -> list[str]:
    """Arguments of `vllm serve` that both runtimes share."""
    source = args["source"]
    tensor = args.get("tensor_parallel", args["gpus_per_node"])
    stages = args.get("pipeline_parallel", args["nodes"] * args["gpus_per_node"] // tensor)
    arguments = [_model_of(source), "--served-model-name", args.get("model_name", name)]
    if "revision" in source:
        arguments += ["--revision", source["revision"]]
    if "s3_uri" in source:
        arguments += ["--tokenizer", f"{_MODEL}/bundle/tokenizer"]
    arguments += ["--tensor-parallel-size", str(tensor), "--pipeline-parallel-size", str(stages),
                  "--middleware", "sixways_gate.KeyGate"]  # fmt: skip
    for flag, value in sorted(args.get("engine_args", {}).items()):
        arguments += [f"--{flag}", value] if value else [f"--{flag}"]
    return arguments


def _application(args: Args) -> Spec:
    deployment = {
        "name": "VLLM",
        "num_replicas": 1,
        # vLLM has its own queue.
        "max_ongoing_requests": 100_000,
        "graceful_shutdown_timeout_s": args.get("drain_seconds", 120),
        "health_check_period_s": 10,
        "health_check_timeout_s": 30,
        "ray_actor_options": {"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}},
    }
    application = {
        "name": "vllm",
        "import_path": "sixways_serve:app",
        "route_prefix": "/",
        "deployments": [deployment],
    }
    return {"applications": [application]}


def _model_of(source: Args) -> str:
    if "hub_id" in source:
        return str(source["hub_id"])
    if "s3_uri" in source:
        return f"{_MODEL}/bundle/variants/{source['variant']}"
    return f"{_MODEL}/{source.get('path', '')}".rstrip("/")


def _container(args: Args) -> Spec:
    env = {
        "HOME": _HOME,
        # Libraries ask who they are; the image need not know the user's number.
        "USER": "vllm",
        "LOGNAME": "vllm",
        "PYTHONPATH": _APP,
        "SIXWAYS_KEYS_FILE": f"{_KEYS}/keys.json",
        "VLLM_NO_USAGE_STATS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    source = args["source"]
    if "hub_id" not in source:
        env |= {"HF_HUB_OFFLINE": "1"}
    listed: list[Spec] = [
        {"name": key, "value": value} for key, value in (env | args.get("env", {})).items()
    ]
    if args.get("hub_secret"):
        key = {"secretKeyRef": {"name": args["hub_secret"], "key": "token"}}
        listed.append({"name": "HF_TOKEN", "valueFrom": key})
    mounts: list[Spec] = [
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - a volume of the pod
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        {"name": "home", "mountPath": _HOME},
        {"name": "app", "mountPath": _APP, "readOnly": True},
        {"name": "keys", "mountPath": _KEYS, "readOnly": True},
    ]
    if "hub_id" not in source:
        mounts.append({"name": "model", "mountPath": _MODEL, "readOnly": True})
    gpus = {args.get("gpu_resource", "nvidia.com/gpu"): str(args["gpus_per_node"])}
    size = {"cpu": args.get("cpu", "8"), "memory": args.get("memory", "64Gi")}
    return {
        "name": "vllm",
        "image": args["image"],
        "env": listed,
        "resources": {"requests": size | gpus, "limits": size | gpus},
        "securityContext": _CONTAINER,
        "volumeMounts": mounts,
    }


def _pod(
    name: str,
    args: Args,
    container: Spec,
    role: str,
    group: str,
    annotations: Mapping[str, str],
) -> Spec:
    """A pod template. `group` is the label whose value all pods of one copy share."""
    source = args["source"]
    drain = args.get("drain_seconds", 120)
    user = args.get("user_id", 1000)
    taint = {"key": args.get("gpu_resource", "nvidia.com/gpu"), "operator": "Exists",
             "effect": "NoSchedule"}  # fmt: skip
    spec: Spec = {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _PRE_STOP + drain + 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": _volumes(name, args),
        "nodeSelector": args["node_selector"],
        "tolerations": [taint, *args.get("tolerations", [])],
        # The parts of one model in one zone: they exchange much, and between zones it costs.
        "affinity": {
            "podAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 100,
                        "podAffinityTerm": {
                            "topologyKey": "topology.kubernetes.io/zone",
                            "labelSelector": {"matchLabels": selector(name)},
                            "matchLabelKeys": [group],
                        },
                    }
                ]
            }
        },
    }
    if args.get("image_pull_secrets"):
        spec["imagePullSecrets"] = [{"name": one} for one in args["image_pull_secrets"]]
    if "s3_uri" in source:
        spec["initContainers"] = [_fetch(args)]
    labels = {**selector(name), "app.kubernetes.io/component": role}
    return {"metadata": {"labels": labels, "annotations": dict(annotations)}, "spec": spec}


def _fetch(args: Args) -> Spec:
    source = args["source"]
    own = [{"name": key, "value": value} for key, value in args.get("env", {}).items()]
    size = {"cpu": "1", "memory": "1Gi"}
    return {
        "name": "fetch",
        "image": source["server_image"],
        "command": ["sixways", "bundle", "fetch", source["s3_uri"], "--into", f"{_MODEL}/bundle",
                    "--digest", source["digest"]],
        "env": [{"name": "HOME", "value": "/tmp"}, *own],  # noqa: S108
        "resources": {"requests": size, "limits": size},
        "securityContext": _CONTAINER,
        "volumeMounts": [
            {"name": "model", "mountPath": _MODEL},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
    }  # fmt: skip


def _volumes(name: str, args: Args) -> list[Spec]:
    source = args["source"]
    shared = {"medium": "Memory", "sizeLimit": args.get("shared_memory", "10Gi")}
    volumes: list[Spec] = [
        {"name": "shm", "emptyDir": shared},
        {"name": "tmp", "emptyDir": {}},
        {"name": "home", "emptyDir": {}},
        {"name": "app", "configMap": {"name": f"{name}-app"}},
        {"name": "keys", "secret": {"secretName": f"{name}-keys", "defaultMode": 0o440}},
    ]
    if "claim" in source:
        claim = {"claimName": source["claim"], "readOnly": True}
        volumes.append({"name": "model", "persistentVolumeClaim": claim})
    elif "image" in source:
        image = {"reference": source["image"], "pullPolicy": "IfNotPresent"}
        volumes.append({"name": "model", "image": image})
    elif "s3_uri" in source:
        volumes.append({"name": "model", "emptyDir": {}})
    return volumes


def stamp() -> dict[str, str]:
    """An annotation that changes with the mounted files, which pods read as they start."""
    whole = hashlib.sha256(json.dumps(files()).encode()).hexdigest()
    return {"sixways/app": whole[:16]}


def _probe(path: str, port: int, period: int, failures: int) -> Spec:
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _sleep(seconds: int) -> Spec:
    return {"preStop": {"sleep": {"seconds": seconds}}}
