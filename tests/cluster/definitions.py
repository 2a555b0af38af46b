"""Definitions of others' kinds, for a test: from their Go modules, or written down here."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.kubernetes import kubectl, until

_DATA = Path(__file__).parent / "data"
_MODULES = {
    "gateways.gateway.networking.k8s.io": (
        "sigs.k8s.io/gateway-api@v1.4.1",
        "config/crd/standard/gateway.networking.k8s.io_gateways.yaml",
    ),
    "httproutes.gateway.networking.k8s.io": (
        "sigs.k8s.io/gateway-api@v1.4.1",
        "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
    ),
    "scaledobjects.keda.sh": (
        "github.com/kedacore/keda/v2@v2.18.0",
        "config/crd/bases/keda.sh_scaledobjects.yaml",
    ),
}
_DISTRIBUTED = {
    "leaderworkersets.leaderworkerset.x-k8s.io": (
        "sigs.k8s.io/lws@v0.7.0",
        "config/crd/bases/leaderworkerset.x-k8s.io_leaderworkersets.yaml",
    ),
    "rayservices.ray.io": (
        "github.com/ray-project/kuberay/ray-operator@v1.4.2",
        "config/crd/bases/ray.io_rayservices.yaml",
    ),
}
_WRITTEN = {
    "servicemonitors.monitoring.coreos.com": "servicemonitors.yaml",
    "prometheusrules.monitoring.coreos.com": "prometheusrules.yaml",
}
OPTIONAL = (*_MODULES, *_WRITTEN)
"""What a ModelDeployment may ask for."""
DISTRIBUTED = tuple(_DISTRIBUTED)
"""The two runtimes of a DistributedModel."""


def require_absent(*names: str) -> None:
    """Skips the test in a cluster that has one of them, which is then not ours to remove."""
    asked = "jsonpath={.metadata.name}{.metadata.deletionTimestamp}"
    for name in names:
        found = kubectl("get", "crd", name, "--ignore-not-found", "-o", asked)
        if found == name:
            pytest.skip(f"the cluster has {name} already, and the test would remove it")
        if found:  # of the test before, and on its way out
            kubectl("wait", "--for=delete", f"crd/{name}", "--timeout=60s")


@contextlib.contextmanager
def installed_definitions(*names: str) -> Iterator[None]:
    """Those of that name, for the block."""
    try:
        for name in names:
            kubectl("apply", "--server-side", "-f", str(definition(name)))
        until("they are served", lambda: set(names) <= set(_served()))
        yield
    finally:
        kubectl("delete", "crd", *names, "--ignore-not-found")


def definition(name: str) -> Path:
    """The file with a definition."""
    modules = _MODULES | _DISTRIBUTED
    return _from_module(*modules[name]) if name in modules else _DATA / _WRITTEN[name]


def _served() -> list[str]:
    return kubectl("api-resources", "--cached=false", "-o", "name").split()


def _from_module(module: str, path: str) -> Path:
    done = subprocess.run(
        ["go", "mod", "download", "-json", module], capture_output=True, text=True, check=False,
        timeout=300, cwd=_DATA,
    )  # fmt: skip
    assert done.returncode == 0, f"go mod download {module}: {done.stdout}{done.stderr}"
    return Path(json.loads(done.stdout)["Dir"]) / path
