"""The chart as `helm template` renders it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[3] / "charts" / "sixways-server"
HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"
IMAGE = f"registry.example/sixways@{DIGEST}"
KUBERNETES = "1.36.0"
CRDS = (
    "keda.sh/v1alpha1/ScaledObject",
    "gateway.networking.k8s.io/v1/HTTPRoute",
    "monitoring.coreos.com/v1/ServiceMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
)
# What cannot be left out.
LEAST: dict[str, Any] = {
    "image": {"reference": IMAGE},
    "models": [{"name": "minilm", "digest": DIGEST, "path": "/models/minilm"}],
    "apiKeys": {"hashes": [{"name": "default", "sha256": HEX}]},
}


@dataclass(frozen=True)
class Rendered:
    """What `helm template` said."""

    objects: tuple[dict[str, Any], ...]
    error: str

    def one(self, kind: str) -> dict[str, Any]:
        """The only object of a kind."""
        (found,) = (item for item in self.objects if item["kind"] == kind)
        return found

    @property
    def kinds(self) -> list[str]:
        return sorted(item["kind"] for item in self.objects)

    @property
    def pod(self) -> dict[str, Any]:
        """The pod's specification."""
        found: dict[str, Any] = self.one("Deployment")["spec"]["template"]["spec"]
        return found

    @property
    def server(self) -> dict[str, Any]:
        """The server's container."""
        (found,) = self.pod["containers"]
        return dict(found)


def render(
    folder: Path, values: Mapping[str, Any], *, crds: tuple[str, ...] = (),
    kubernetes: str = KUBERNETES, least: bool = True,
) -> Rendered:  # fmt: skip
    """Renders the chart as release `demo` in namespace `shop`.

    Args:
        folder: for the file with the values.
        values: laid over `LEAST` (with `least`), a whole key at a time.
        crds: definitions that the cluster has, `GROUP/VERSION/KIND`.
        kubernetes: the cluster's version.
        least: whether `LEAST` is there.
    """
    path = folder / "values.yaml"
    path.write_text(yaml.safe_dump({**(LEAST if least else {}), **values}))
    command = ["helm", "template", "demo", str(CHART), "--namespace", "shop", "--values", str(path),
               "--kube-version", kubernetes]  # fmt: skip
    for one in crds:
        command += ["--api-versions", one]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        return Rendered((), done.stderr)
    return Rendered(tuple(item for item in yaml.safe_load_all(done.stdout) if item), "")
