"""`DistributedModel`: a model that outgrows one node, on vLLM over several nodes with GPUs."""

from pathlib import Path
from typing import Any, cast

import pulumi
import pulumi_kubernetes as k8s

from sixways.api_key import ApiKey
from sixways.checks import InputsRefused
from sixways.container.distributed import pods
from sixways.container.distributed.args import DistributedModelArgs, DistributedSourceArgs
from sixways.container.distributed.problems import problems
from sixways.container.problems import by_tag
from sixways.container.service import address
from sixways.endpoint import keys_json
from sixways.plugin.api_key import sha256

__all__ = ["DistributedModel", "DistributedModelArgs", "DistributedSourceArgs", "problems"]

_NEEDS = Path(pods.__file__).parent / "needs"
_NOT_FOR_PODS = (
    "api_key",
    "hub_token",
    "kubeconfig",
    "namespace",
    "runtime",
    "service_account_annotations",
)
_RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/warn": "restricted",
}
_KINDS = {
    "leader-worker-set": (
        "leaderworkerset.x-k8s.io/v1",
        "LeaderWorkerSet",
        "LeaderWorkerSet: helm install lws oci://registry.k8s.io/lws/charts/lws -n lws-system "
        "--create-namespace, or use runtime ray",
        "condition=Available",
    ),
    "ray": (
        "ray.io/v1",
        "RayService",
        "KubeRay: helm install kuberay-operator kuberay-operator --repo "
        "https://ray-project.github.io/kuberay-helm/, or use runtime leader-worker-set",
        "condition=Ready",
    ),
}
# EKS Pod Identity's agent on the node.
_POD_IDENTITY = "169.254.170.23/32"


class DistributedModel(pulumi.ComponentResource):
    """One model over several nodes: vLLM in a LeaderWorkerSet, or on Ray in a RayService.

    Every pod is restricted, whatever the runtime: not root, a read-only root, no capability. Every
    path but /health and /metrics wants the key. The update returns when the model answers.
    """

    url: pulumi.Output[str]
    """Base URL, without a trailing slash: the load balancer's, or the Service's inside the
    cluster."""
    health_url: pulumi.Output[str]
    """Answers 200 while the model answers; needs no key."""
    api_key: pulumi.Output[str]
    """The key, a secret."""
    bundle_digest: pulumi.Output[str]
    """The bundle's digest with `s3_uri`, the image's with `image`, the commit with `revision`; else
    empty: then nothing says which files are served."""
    dashboard: pulumi.Output[str]
    """Ray's dashboard, for `kubectl port-forward` alone since it knows no keys; with
    `leader-worker-set` the metrics of vLLM."""
    namespace: pulumi.Output[str]
    """The namespace."""
    service_name: pulumi.Output[str]
    """The Service; the RayService or LeaderWorkerSet is called the same."""

    def __init__(
        self, name: str, args: DistributedModelArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Starts the model.

        Args:
            name: the resource's name, and that of the objects in the cluster.
            args: see `DistributedModelArgs`.
            opts: the usual resource options; a Kubernetes provider among them is used. Where the
                same program installs KubeRay or LeaderWorkerSet, name that in `depends_on`.

        Raises:
            InputsRefused: inputs that cannot be used; carries every problem.
        """
        found = problems(name, args)
        if found:
            raise InputsRefused(f"DistributedModel {name}", found)
        super().__init__("sixways:container:DistributedModel", name, None, opts)
        self._name, self._args = name, args
        self._runtime = cast(str, args.get("runtime", "leader-worker-set"))
        self._warn()
        self._inputs = self._for_pods()
        cluster = self._cluster()
        own = pulumi.ResourceOptions(parent=self, provider=cluster)
        needed = self._needed(own, cluster, after=bool(opts and opts.depends_on))
        self._opts = pulumi.ResourceOptions.merge(own, pulumi.ResourceOptions(depends_on=needed))
        self.namespace = self._namespace()
        self.api_key, *before = self._own_objects()
        after = pulumi.ResourceOptions.merge(self._opts, pulumi.ResourceOptions(depends_on=before))
        model = self._model(after)
        self.url = self._url(model)
        self.health_url = pulumi.Output.concat(self.url, "/health")
        self.dashboard = (
            pulumi.Output.concat("http://", name, "-head-svc.", self.namespace, ".svc:8265")
            if self._runtime == "ray"
            else pulumi.Output.concat(self.url, "/metrics")
        )
        self.bundle_digest = self._inputs.apply(lambda it: _digest(it["source"]))
        self.service_name = model.id.apply(lambda _: name)
        outputs = (output for output in DistributedModel.__annotations__ if output[0] != "_")
        self.register_outputs({output: getattr(self, output) for output in outputs})

    def _warn(self) -> None:
        args = self._args
        if by_tag(args.get("image")):
            pulumi.log.warn(
                f"image: {args['image']} is a tag, which can be moved to another image: the nodes "
                "of one model may differ. Use REPOSITORY@sha256:DIGEST",
                self,
            )
        source = args.get("source")
        if isinstance(source, dict) and "hub_id" in source and "revision" not in source:
            pulumi.log.warn(
                f"source.revision: without it {source['hub_id']} can change between two starts, "
                "and the nodes of one model may differ. Give the commit",
                self,
            )
        engine = args.get("engine_args")
        if isinstance(engine, dict) and "trust-remote-code" in engine:
            pulumi.log.warn(
                "engine_args.trust-remote-code: code that comes with the model will run in the "
                "pods. Leave it out if vLLM knows the model itself",
                self,
            )

    def _for_pods(self) -> pulumi.Output[Any]:
        known: dict[str, Any] = {
            field: value for field, value in self._args.items() if field not in _NOT_FOR_PODS
        }
        if "hub_token" in self._args:
            known["hub_secret"] = f"{self._name}-hub"
        return pulumi.Output.from_input(known)

    def _cluster(self) -> pulumi.ProviderResource | None:
        if "kubeconfig" not in self._args:
            return None
        return k8s.Provider(
            f"{self._name}-cluster",
            kubeconfig=pulumi.Output.secret(self._args["kubeconfig"]),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _needed(
        self, opts: pulumi.ResourceOptions, cluster: pulumi.ProviderResource | None, *, after: bool
    ) -> pulumi.Resource:
        """Fails where the cluster lacks the kind; everything waits for it.

        The chart has no objects. Rendering it asks the cluster what it serves, which everybody may
        ask, unlike for the definitions themselves. A preview asks too, unless the cluster is still
        to be made, or the component is to come `after` something, which may bring the kind.
        """
        version, kind, install, _ = _KINDS[self._runtime]
        asked = "" if after and pulumi.runtime.is_dry_run() else f"{version}/{kind}"
        values: pulumi.Input[dict[str, Any]] = {"kind": asked, "install": install}
        provider = cluster or self.get_provider("kubernetes:core/v1:Namespace")
        if provider is not None:
            # Unknown in the preview that makes it, and then nothing is rendered.
            values = provider.id.apply(lambda _: {"kind": asked, "install": install})
        return k8s.helm.v4.Chart(
            f"{self._name}-needs",
            chart=str(_NEEDS),
            name=f"{self._name}-needs",
            values=values,
            opts=opts,
        )

    def _namespace(self) -> pulumi.Output[str]:
        if "namespace" in self._args:
            return pulumi.Output.from_input(self._args["namespace"])
        made = k8s.core.v1.Namespace(
            f"{self._name}-namespace",
            metadata={"name": self._name, "labels": {**self._labels(), **_RESTRICTED}},
            opts=self._opts,
        )
        return made.metadata.apply(lambda metadata: str(metadata.name))

    def _labels(self) -> dict[str, str]:
        managed = {"part-of": "sixways", "managed-by": "pulumi"}
        return pods.selector(self._name) | {
            f"app.kubernetes.io/{key}": value for key, value in managed.items()
        }

    def _metadata(self, name: str, **more: Any) -> Any:
        return {"name": name, "namespace": self.namespace, "labels": self._labels(), **more}

    def _own_objects(self) -> tuple[Any, ...]:
        """The key, and what pods refer to or are held to."""
        name, args = self._name, self._args
        if "api_key" in args:
            key = pulumi.Output.secret(args["api_key"])
            digest = key.apply(sha256)
        else:
            random = ApiKey(f"{name}-key", opts=pulumi.ResourceOptions(parent=self))
            key, digest = random.key, random.sha256
        made: list[pulumi.Resource] = [
            k8s.core.v1.Secret(
                f"{name}-keys",
                metadata=self._metadata(f"{name}-keys"),
                string_data={"keys.json": digest.apply(keys_json)},
                opts=self._opts,
            ),
            k8s.core.v1.ConfigMap(
                f"{name}-app",
                metadata=self._metadata(f"{name}-app"),
                data=pods.files(),
                opts=self._opts,
            ),
            k8s.core.v1.ServiceAccount(
                f"{name}-account",
                metadata=self._metadata(
                    name, annotations=args.get("service_account_annotations", {})
                ),
                automount_service_account_token=False,
                opts=self._opts,
            ),
            k8s.networking.v1.NetworkPolicy(
                f"{name}-network",
                metadata=self._metadata(name),
                spec=self._inputs.apply(self._traffic),
                opts=self._opts,
            ),
        ]
        if "hub_token" in args:
            made.append(
                k8s.core.v1.Secret(
                    f"{name}-hub",
                    metadata=self._metadata(f"{name}-hub"),
                    string_data={"token": pulumi.Output.secret(args["hub_token"])},
                    opts=self._opts,
                )
            )
        # With one copy a budget could only keep its nodes from ever being drained.
        if args.get("replicas", 1) != 1:
            made.append(
                k8s.policy.v1.PodDisruptionBudget(
                    f"{name}-disruption",
                    metadata=self._metadata(name),
                    spec={
                        # Pods of all copies but one: a copy is no use without one of its pods.
                        "min_available": self._inputs.apply(
                            lambda it: (it["replicas"] - 1) * it["nodes"]
                        ),
                        "selector": {"match_labels": pods.selector(name)},
                        "unhealthy_pod_eviction_policy": "AlwaysAllow",
                    },
                    opts=self._opts,
                )
            )
        return (key, *made)

    def _traffic(self, args: dict[str, Any]) -> Any:
        """Requests from everybody, all ports among the pods of the model, and what it fetches."""
        own = {"podSelector": {"matchLabels": pods.selector(self._name)}}
        ingress: list[Any] = [{"ports": [_port(pods.PORT)]}, {"from": [own]}]
        egress: list[Any] = [{"to": [own]}, {"ports": [_port(53, "UDP"), _port(53)]}]
        if self._runtime == "ray":
            operator = {
                "namespaceSelector": {},
                "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}},
            }
            ports = [_port(pods.RAY_DASHBOARD), _port(pods.RAY_AGENT)]
            ingress.append({"from": [operator], "ports": ports})
        if "hub_id" in args["source"] or "s3_uri" in args["source"]:
            egress.append({"ports": [_port(443)]})
        if "s3_uri" in args["source"]:
            egress.append({"to": [{"ipBlock": {"cidr": _POD_IDENTITY}}], "ports": [_port(80)]})
        return {
            "podSelector": {"matchLabels": pods.selector(self._name)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        }

    def _model(self, opts: pulumi.ResourceOptions) -> k8s.apiextensions.CustomResource:
        version, kind, _, ready = _KINDS[self._runtime]
        spec_of = pods.ray_service if self._runtime == "ray" else pods.leader_worker_set
        seconds = self._inputs.apply(lambda it: str(it.get("startup_seconds", 3600) + 300))
        return k8s.apiextensions.CustomResource(
            f"{self._name}-model",
            api_version=version,
            kind=kind,
            metadata=self._metadata(
                self._name,
                annotations={"pulumi.com/waitFor": ready, "pulumi.com/timeoutSeconds": seconds},
            ),
            spec=self._inputs.apply(lambda it: spec_of(self._name, it, pods.stamp())),
            opts=opts,
        )

    def _url(self, model: k8s.apiextensions.CustomResource) -> pulumi.Output[str]:
        name = self._name
        after = pulumi.ResourceOptions.merge(self._opts, pulumi.ResourceOptions(depends_on=[model]))
        inside = pulumi.Output.concat("http://", name, ".", self.namespace, f".svc:{pods.PORT}")
        if self._runtime == "leader-worker-set":
            leader = {
                "leaderworkerset.sigs.k8s.io/name": name,
                "leaderworkerset.sigs.k8s.io/worker-index": "0",
            }
            ports = [{"name": "http", "port": pods.PORT, "targetPort": "http"}]
            service = k8s.core.v1.Service(
                f"{name}-service",
                metadata=self._metadata(
                    name, annotations=self._args.get("service_annotations", {})
                ),
                spec=cast(
                    Any,
                    self._inputs.apply(
                        lambda it: pods.service_spec(it) | {"selector": leader, "ports": ports}
                    ),
                ),
                opts=after,
            )
        elif self._args.get("service_type", "ClusterIP") == "ClusterIP":
            return inside
        else:
            # KubeRay makes it, since it leads it from one Ray cluster to the next.
            service = k8s.core.v1.Service.get(
                f"{name}-service",
                pulumi.Output.all(self.namespace, model.id).apply(lambda it: f"{it[0]}/{name}"),
                opts=after,
            )
        if self._args.get("service_type", "ClusterIP") == "ClusterIP":
            return inside
        return service.status.apply(lambda status: f"http://{address(status)}:{pods.PORT}")


def _port(number: int, protocol: str = "TCP") -> dict[str, Any]:
    return {"port": number, "protocol": protocol}


def _digest(source: dict[str, str]) -> str:
    if "image" in source:
        return source["image"].partition("@")[2]
    return source.get("digest") or source.get("revision") or ""
