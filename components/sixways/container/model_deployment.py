"""`ModelDeployment`: bundles served on a Kubernetes cluster, by the Helm chart `sixways-server`."""

from typing import Any, cast

import pulumi
import pulumi_kubernetes as k8s

from sixways.api_key import ApiKey
from sixways.checks import InputsRefused
from sixways.container.args import (
    AutoscalingArgs,
    DeployedModelArgs,
    IngressArgs,
    ModelDeploymentArgs,
    MonitoringArgs,
    RouteArgs,
)
from sixways.container.chart import chart_folder, chart_values
from sixways.container.problems import by_tag, problems
from sixways.container.service import address
from sixways.endpoint import bundle_digest, keys_json
from sixways.plugin.api_key import sha256

__all__ = [
    "AutoscalingArgs",
    "DeployedModelArgs",
    "IngressArgs",
    "ModelDeployment",
    "ModelDeploymentArgs",
    "MonitoringArgs",
    "RouteArgs",
    "problems",
]

_PORT = 5000
_LABELS = {
    "app.kubernetes.io/name": "sixways-server",
    "app.kubernetes.io/part-of": "sixways",
    "app.kubernetes.io/managed-by": "pulumi",
}
_RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/warn": "restricted",
}
_LEFT_OUT = "sixways/left-out"
# Not every cluster knows these: the input that asks for each, and who brings it.
_OPTIONAL = {
    "ScaledObject": ("autoscaling", "KEDA"),
    "HTTPRoute": ("route", "the Gateway API"),
    "ServiceMonitor": ("monitoring.service_monitor", "the Prometheus operator"),
    "PrometheusRule": ("monitoring.rules", "the Prometheus operator"),
}
_NOT_FOR_THE_CHART = ("api_key", "kubeconfig", "keys_secret", "namespace")


class ModelDeployment(pulumi.ComponentResource):
    """Bundles on a Kubernetes cluster: three pods or more behind one Service, replaced one by one.

    The chart is rendered by Pulumi (helm.v4.Chart, not a Helm release): a preview shows each object
    and each field that changes, policies see them, and what the cluster refuses is said of the
    object it refuses. The update returns when the pods are ready.
    """

    url: pulumi.Output[str]
    """Base URL, without a trailing slash: that of `ingress` or `route`, else the load balancer's,
    else the Service's inside the cluster."""
    health_url: pulumi.Output[str]
    """Answers 200 while a pod answers; needs no key."""
    api_key: pulumi.Output[str]
    """The key, a secret; empty with `keys_secret` alone."""
    bundle_digest: pulumi.Output[str]
    """The bundle's digest; with several models that of all names and digests."""
    dashboard: pulumi.Output[str]
    """The server's console page."""
    namespace: pulumi.Output[str]
    """The namespace."""
    service_name: pulumi.Output[str]
    """The Service; Deployment, ServiceAccount and the rest are called the same."""

    def __init__(
        self, name: str, args: ModelDeploymentArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Installs the chart.

        Args:
            name: the resource's name, and that of the objects in the cluster.
            args: see `ModelDeploymentArgs`.
            opts: the usual resource options; a Kubernetes provider among them is used.

        Raises:
            InputsRefused: inputs that cannot be used; carries every problem.
        """
        found = problems(name, args)
        if found:
            raise InputsRefused(f"ModelDeployment {name}", found)
        super().__init__("sixways:container:ModelDeployment", name, None, opts)
        self._name, self._args = name, args
        self._warn()
        self._opts = pulumi.ResourceOptions(parent=self, provider=self._cluster())
        self.namespace = self._namespace()
        self.api_key, keys_secret = self._keys()
        known = {field: value for field, value in args.items() if field not in _NOT_FOR_THE_CHART}
        inputs: pulumi.Output[Any] = pulumi.Output.from_input(known)
        chart = k8s.helm.v4.Chart(
            f"{name}-chart",
            chart=str(chart_folder()),
            name=name,
            namespace=self.namespace,
            resource_prefix=name,
            values=pulumi.Output.all(inputs, keys_secret).apply(lambda it: chart_values(*it)),
            opts=self._opts,
        )
        objects = chart.resources.apply(lambda found: list(found or []))
        self.url = pulumi.Output.all(inputs, self.namespace, objects).apply(
            lambda it: self._url(*it)
        )
        self.health_url = pulumi.Output.concat(self.url, "/healthz")
        self.dashboard = pulumi.Output.concat(self.url, "/")
        self.bundle_digest = inputs.apply(lambda it: bundle_digest(it["models"]))
        self.service_name = objects.apply(lambda _: name)
        objects.apply(self._tell_left_out)
        outputs = (output for output in ModelDeployment.__annotations__ if output[0] != "_")
        self.register_outputs({output: getattr(self, output) for output in outputs})

    def _warn(self) -> None:
        args = self._args
        if by_tag(args.get("image")):
            pulumi.log.warn(
                f"image: {args['image']} is a tag, which can be moved to another image: pods of "
                "one deployment may differ. Use REPOSITORY@sha256:DIGEST (ServerImage.image_uri)",
                self,
            )
        ranges = args.get("source_ranges")
        if isinstance(ranges, list) and {"0.0.0.0/0", "::/0"} & {str(item) for item in ranges}:
            pulumi.log.warn(
                "source_ranges: the internet reaches the load balancer, which does not encrypt, so "
                "API keys pass in clear. Use ingress or route",
                self,
            )

    def _cluster(self) -> pulumi.ProviderResource | None:
        if "kubeconfig" not in self._args:
            return None
        return k8s.Provider(
            f"{self._name}-cluster",
            kubeconfig=pulumi.Output.secret(self._args["kubeconfig"]),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _namespace(self) -> pulumi.Output[str]:
        if "namespace" in self._args:
            return pulumi.Output.from_input(self._args["namespace"])
        made = k8s.core.v1.Namespace(
            f"{self._name}-namespace",
            metadata={"name": self._name, "labels": {**_LABELS, **_RESTRICTED}},
            opts=self._opts,
        )
        return made.metadata.apply(lambda metadata: str(metadata.name))

    def _keys(self) -> tuple[pulumi.Output[str], pulumi.Input[str]]:
        """The key, and the name of the Secret with its hash.

        The Secret is not one of the chart's: a random key is unknown in the first preview, and with
        an unknown value no object of the chart could be shown there.
        """
        name, args = self._name, self._args
        if "keys_secret" in args:
            return pulumi.Output.secret(args.get("api_key", "")), args["keys_secret"]
        if "api_key" in args:
            key = pulumi.Output.secret(args["api_key"])
            digest = key.apply(sha256)
        else:
            made = ApiKey(f"{name}-key", opts=pulumi.ResourceOptions(parent=self))
            key, digest = made.key, made.sha256
        secret = f"{name}-keys"
        k8s.core.v1.Secret(
            secret,
            metadata={
                "name": secret,
                "namespace": self.namespace,
                "labels": {**_LABELS, "app.kubernetes.io/instance": name},
            },
            string_data={"keys.json": digest.apply(keys_json)},
            opts=self._opts,
        )
        return key, secret

    def _url(self, args: ModelDeploymentArgs, namespace: str, objects: Any) -> pulumi.Input[str]:
        for front in (args.get("ingress"), args.get("route")):
            if front is not None:
                return f"https://{cast(Any, front)['hosts'][0]}"
        port = args.get("port", _PORT)
        if args.get("service_type") == "ClusterIP":
            return f"http://{self._name}.{namespace}.svc:{port}"
        for found in objects:
            if isinstance(found, k8s.core.v1.Service):
                return found.status.apply(lambda status: f"http://{address(status)}:{port}")
        raise AssertionError("the chart has no Service")

    def _tell_left_out(self, objects: list[Any]) -> pulumi.Output[Any]:
        """The chart notes at its Deployment what the cluster has no definition of."""
        (deployment,) = (one for one in objects if isinstance(one, k8s.apps.v1.Deployment))
        return deployment.metadata.apply(
            lambda metadata: self._warn_of((metadata.annotations or {}).get(_LEFT_OUT, ""))
        )

    def _warn_of(self, kinds: str) -> None:
        for kind in filter(None, kinds.split(",")):
            wanted, owner = _OPTIONAL[kind]
            pulumi.log.warn(
                f"{wanted}: the cluster has no {kind}, so it is left out. Install {owner} and run "
                "the update again",
                self,
            )
