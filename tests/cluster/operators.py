"""In the place of LeaderWorkerSet's controller and of KubeRay, as far as a test needs them.

They make the pods that the templates describe, with the labels that the real ones add, and say in
the status that all is well. So the API server judges the pods too: their fields, and whether they
are restricted ones.
"""

from __future__ import annotations

import contextlib
import json
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from tests.cluster.kubernetes import get, kubectl

_NOW = "2026-01-01T00:00:00Z"


@contextlib.contextmanager
def operating(kind: str, name: str, namespace: str) -> Iterator[list[str]]:
    """Acts on one object for the block; yields what went wrong, to be looked at after it."""
    act = {"leaderworkerset": _act_on_groups, "rayservice": _act_on_ray}[kind]
    stop, wrong = threading.Event(), list[str]()
    worker = threading.Thread(target=_watch, args=(kind, name, namespace, act, stop, wrong))
    worker.start()
    try:
        yield wrong
    finally:
        stop.set()
        worker.join(60)


def _watch(
    kind: str,
    name: str,
    namespace: str,
    act: Callable[[dict[str, Any], str], None],
    stop: threading.Event,
    wrong: list[str],
) -> None:
    done = 0
    while not stop.wait(0.5):
        found = kubectl("get", kind, name, "-n", namespace, "-o", "json", check=False)
        if not found.startswith("{"):
            continue
        item = json.loads(found)
        if item["metadata"]["generation"] == done:
            continue
        try:
            act(item, namespace)
        except Exception:
            wrong.append(traceback.format_exc())
            return
        done = item["metadata"]["generation"]


def _act_on_groups(item: dict[str, Any], namespace: str) -> None:
    name, spec = item["metadata"]["name"], item["spec"]
    template = spec["leaderWorkerTemplate"]
    kubectl("delete", "pod", "-n", namespace, "-l", f"leaderworkerset.sigs.k8s.io/name={name}")
    for group in range(spec["replicas"]):
        for index in range(template["size"]):
            own = template["workerTemplate" if index else "leaderTemplate"]
            labels = {
                "leaderworkerset.sigs.k8s.io/name": name,
                "leaderworkerset.sigs.k8s.io/group-index": str(group),
                "leaderworkerset.sigs.k8s.io/group-key": f"{name}-{group}",
                "leaderworkerset.sigs.k8s.io/worker-index": str(index),
            }
            suffix = f"-{index}" if index else ""
            _make_pod(f"{name}-{group}{suffix}", namespace, own, labels, item)
    kubectl("wait", "--for=condition=Ready", "pod", "-n", namespace, "-l",
            f"leaderworkerset.sigs.k8s.io/name={name}", "--timeout=60s")  # fmt: skip
    ready = spec["replicas"]
    status = {"replicas": ready, "readyReplicas": ready, "updatedReplicas": ready}
    _say(item, namespace, status, "Available", "AllGroupsReady")


def _act_on_ray(item: dict[str, Any], namespace: str) -> None:
    name, spec = item["metadata"]["name"], item["spec"]
    cluster = spec["rayClusterConfig"]
    label = f"ray.io/cluster={name}-abcde"
    kubectl("delete", "pod", "-n", namespace, "-l", label)
    labels = {"ray.io/cluster": f"{name}-abcde", "ray.io/serve": "true"}
    groups = [("head", 1, cluster["headGroupSpec"]["template"])]
    groups += [(g["groupName"], g["replicas"], g["template"]) for g in cluster["workerGroupSpecs"]]
    for group, count, template in groups:
        for index in range(count):
            _make_pod(f"{name}-{group}-{index}", namespace, template, labels, item)
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**spec["serveService"]["metadata"], "namespace": namespace,
                     "ownerReferences": [_owner(item)]},
        "spec": {**spec["serveService"]["spec"], "selector": labels},
    }  # fmt: skip
    kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(service))
    kubectl("wait", "--for=condition=Ready", "pod", "-n", namespace, "-l", label, "--timeout=60s")
    _say(item, namespace, {"numServeEndpoints": 1}, "Ready", "NonZeroServeEndpoints")


def _make_pod(
    name: str, namespace: str, template: Any, labels: dict[str, str], item: dict[str, Any]
) -> None:
    metadata = template["metadata"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {**metadata["labels"], **labels},
            "annotations": metadata["annotations"],
            "ownerReferences": [_owner(item)],
        },
        "spec": template["spec"],
    }
    kubectl("create", "-f", "-", stdin=json.dumps(pod))


def _owner(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": item["apiVersion"],
        "kind": item["kind"],
        "name": item["metadata"]["name"],
        "uid": item["metadata"]["uid"],
    }


def _say(
    item: dict[str, Any], namespace: str, status: dict[str, Any], condition: str, reason: str
) -> None:
    conditions = [{"type": condition, "status": "True", "reason": reason, "message": "",
                   "lastTransitionTime": _NOW}]  # fmt: skip
    kubectl("patch", item["kind"].lower(), item["metadata"]["name"], "-n", namespace,
            "--subresource=status", "--type=merge", "-p",
            json.dumps({"status": {**status, "conditions": conditions}}))  # fmt: skip


def pods_of(namespace: str) -> list[dict[str, Any]]:
    """The pods of a namespace."""
    found: list[dict[str, Any]] = get("pods", "-n", namespace)["items"]
    return found
