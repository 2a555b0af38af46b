"""The cluster behind KUBECONFIG, as `kubectl` and `helm` see it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sixways.container.chart import chart_folder

T = TypeVar("T")


def kubectl(*arguments: str, check: bool = True, stdin: str = "") -> str:
    """What `kubectl` writes to stdout, and on failure without `check` also its error."""
    done = subprocess.run(
        ["kubectl", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    if check and done.returncode:
        raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr}")
    return done.stdout + ("" if done.returncode == 0 else done.stderr)


def get(kind: str, *arguments: str) -> Any:
    """An object, or a list of them, decoded."""
    return json.loads(kubectl("get", kind, *arguments, "-o", "json"))


def helm(*arguments: str) -> None:
    done = subprocess.run(
        ["helm", *arguments], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr


def helm_install(name: str, namespace: str, values: Path) -> None:
    """`helm install` of the chart, and until it is ready."""
    helm("install", name, str(chart_folder()), "--namespace", namespace, "--values", str(values),
         "--wait", "--timeout", "4m")  # fmt: skip


def until(what: str, question: Callable[[], T | None], seconds: float = 60.0) -> T:
    """The first answer that is neither None nor False."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = question()
        if answer is not None and answer is not False:
            return answer
        time.sleep(0.25)
    raise AssertionError(f"not within {seconds:g} s: {what}")


@dataclass
class Watch:
    """Every state of one object that the API server told of while the watch ran."""

    states: list[dict[str, Any]]


@contextlib.contextmanager
def watching(kind: str, name: str, namespace: str) -> Iterator[Watch]:
    """Notes every change of an object for the block; the state before the block is the first."""
    child = subprocess.Popen(
        ["kubectl", "get", kind, name, "-n", namespace, "--watch", "-o", "json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    seen = Watch([])
    reader = threading.Thread(target=_read, args=(child, seen))
    reader.start()
    try:
        until("the watch has begun", lambda: bool(seen.states))
        yield seen
    finally:
        child.terminate()
        reader.join(10)
        child.wait(10)
        if child.stdout:
            child.stdout.close()


def _read(child: subprocess.Popen[str], seen: Watch) -> None:
    decoder, text = json.JSONDecoder(), ""
    for line in child.stdout or ():
        text += line
        if line.rstrip("\n") == "}":  # the end of an object: all within is indented
            found, _ = decoder.raw_decode(text)
            seen.states.append(found)
            text = ""


# What the server, or whoever installed it, adds to an object.
_ADDED = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "namespace",
          "ownerReferences", "finalizers")  # fmt: skip
_ADDED_SPEC = ("clusterIP", "clusterIPs", "healthCheckNodePort")


def installed(namespace: str) -> dict[str, Any]:
    """All objects of a release in a namespace, as `KIND NAME`, without what the server added."""
    kinds = kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    kinds = [kind for kind in kinds if kind.partition(".")[0] not in
             ("events", "pods", "replicasets", "endpoints", "endpointslices",
              "controllerrevisions", "leases")]  # fmt: skip
    found = get(",".join(kinds), "-n", namespace, "-l", "app.kubernetes.io/part-of=sixways")
    return {f"{item['kind']} {item['metadata']['name']}": _own(item, namespace)
            for item in found["items"]}  # fmt: skip


def _own(item: dict[str, Any], namespace: str) -> dict[str, Any]:
    # Rules and dashboard name the namespace in their queries.
    own: dict[str, Any] = json.loads(json.dumps(item).replace(namespace, "NAMESPACE"))
    own.pop("status", None)
    metadata = own["metadata"]
    for field in _ADDED:
        metadata.pop(field, None)
    metadata["annotations"] = {
        key: value
        for key, value in metadata.get("annotations", {}).items()
        if not key.startswith(("meta.helm.sh/", "deployment.kubernetes.io/"))
    }
    spec = own.get("spec", {})
    for field in _ADDED_SPEC:
        spec.pop(field, None)
    for port in spec.get("ports", []) if own["kind"] == "Service" else []:
        port.pop("nodePort", None)
    return own
