"""`KongGateway`: keys, plans, routes and logs by Kong without a database, on Kubernetes."""

import hashlib
from typing import Any, cast

import pulumi
import pulumi_kubernetes as k8s

from sixways.api.kong import configuration, objects
from sixways.api.kong.args import (
    IMAGE,
    KongGatewayArgs,
    KongMonitoringArgs,
    KongTlsArgs,
    RedisArgs,
)
from sixways.api.kong.problems import problems
from sixways.api_key import ApiKey
from sixways.checks import InputsRefused
from sixways.container.problems import by_tag
from sixways.container.service import address

__all__ = [
    "IMAGE",
    "KongGateway",
    "KongGatewayArgs",
    "KongMonitoringArgs",
    "KongTlsArgs",
    "RedisArgs",
    "problems",
]

_RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/warn": "restricted",
}
_STATUS = {"sixways/part": "status"}
# What is secret, or not for Kong; all else may be seen in the cluster.
_APART = ("keys", "kubeconfig", "namespace", "tls", "upstream", "redis", "tags", "monitoring")


class KongGateway(pulumi.ComponentResource):
    """Kong in front of several instances: two pods or more behind one Service.

    Its declarative configuration lies in a Secret. Another configuration is another Secret, to
    which the pods go over one by one, each ready before an old one leaves; a configuration that
    Kong refuses leaves the old pods as they are, and fails the update.
    """

    url: pulumi.Output[str]
    """Base URL, without a trailing slash."""
    health_url: pulumi.Output[str]
    """Answers 200 while an instance may get requests; needs no key."""
    api_key: pulumi.Output[str]
    """The first key, a secret."""
    api_keys: pulumi.Output[dict[str, str]]
    """Every caller's key by the caller's name, a secret."""
    dashboard: pulumi.Output[str]
    """The API documents, which callers can try requests from."""
    namespace: pulumi.Output[str]
    """The namespace."""
    service_name: pulumi.Output[str]
    """The Service; the Deployment and the rest are called the same. `NAME-status` has the metrics
    at port 8100, inside the cluster."""
    configuration: pulumi.Output[str]
    """The declarative configuration, JSON, a secret: for `kong config parse`, or decK."""

    def __init__(
        self, name: str, args: KongGatewayArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Starts the gateway.

        Args:
            name: the resource's name, and that of the objects in the cluster.
            args: see `KongGatewayArgs`.
            opts: the usual resource options; a Kubernetes provider among them is used.

        Raises:
            InputsRefused: inputs that cannot be used; carries every problem.
        """
        found = problems(name, args)
        if found:
            raise InputsRefused(f"KongGateway {name}", found)
        super().__init__("sixways:api:KongGateway", name, None, opts)
        self._name, self._args = name, cast(dict[str, Any], args)
        self._warn()
        self._opts = pulumi.ResourceOptions(parent=self, provider=self._cluster())
        self._labels = objects.selector(name) | {
            "app.kubernetes.io/part-of": "sixways",
            "app.kubernetes.io/managed-by": "pulumi",
        }
        self._labels |= self._args.get("tags") or {}
        self.namespace = self._namespace()
        keys = self._keys()
        self.api_keys = pulumi.Output.secret({key["name"]: key["key"] for key in keys})
        self.api_key = pulumi.Output.secret(keys[0]["key"])
        seen, whole = self._inputs(keys)
        self.configuration = pulumi.Output.secret(whole.apply(_render))
        deployed = self._deployment(seen, whole)
        service = self._service(seen, deployed)
        self.url = seen.apply(lambda it: self._url(it, service))
        self.health_url = seen.apply(
            lambda it: pulumi.Output.concat(self.url, it["upstream"]["health_path"])
        )
        self.dashboard = pulumi.Output.concat(self.url, "/docs")
        self.service_name = service.id.apply(lambda _: name)
        outputs = (output for output in KongGateway.__annotations__ if output[0] != "_")
        self.register_outputs({output: getattr(self, output) for output in outputs})

    def _warn(self) -> None:
        image = self._args.get("image", IMAGE)
        if by_tag(image):
            pulumi.log.warn(
                f"image: {image} is a tag, which can be moved to another image: pods of one "
                "gateway may differ. Use REPOSITORY@sha256:DIGEST",
                self,
            )

    def _cluster(self) -> pulumi.ProviderResource | None:
        if self._args.get("kubeconfig") is None:
            return None
        return k8s.Provider(
            f"{self._name}-cluster",
            kubeconfig=pulumi.Output.secret(self._args["kubeconfig"]),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _namespace(self) -> pulumi.Output[str]:
        if self._args.get("namespace") is not None:
            return pulumi.Output.from_input(self._args["namespace"])
        made = k8s.core.v1.Namespace(
            f"{self._name}-namespace",
            metadata={"name": self._name, "labels": {**self._labels, **_RESTRICTED}},
            opts=self._opts,
        )
        return made.metadata.apply(lambda metadata: str(metadata.name))

    def _keys(self) -> list[dict[str, Any]]:
        """The keys, with a random one where none is given."""
        found = []
        for key in self._args["keys"]:
            if key.get("key") is None:
                own = pulumi.ResourceOptions(parent=self)
                key = {**key, "key": ApiKey(f"{self._name}-key-{key['name']}", opts=own).key}
            found.append({k: v for k, v in key.items() if v is not None})
        return found

    def _inputs(self, keys: list[Any]) -> tuple[pulumi.Output[Any], pulumi.Output[Any]]:
        """What may be seen, and all of it."""
        args = self._args
        plain = {k: v for k, v in args.items() if k not in _APART and v is not None}
        plain |= {"pods": args.get("replicas") or objects.REPLICAS, "tls": bool(args.get("tls"))}
        seen = {**plain, "upstream": _without(args["upstream"], "api_key")}
        whole = {**plain, "upstream": args["upstream"], "keys": keys}
        if args.get("redis") is not None:
            seen["redis"], whole["redis"] = _without(args["redis"], "password"), args["redis"]
        return pulumi.Output.from_input(seen), pulumi.Output.secret(whole)

    def _metadata(self, name: str, **more: Any) -> Any:
        return {"name": name, "namespace": self.namespace, "labels": self._labels} | more

    def _renewed(self) -> Any:
        """Without a name of its own: what changes gets another one, and pods refer to theirs."""
        return {"namespace": self.namespace, "labels": self._labels}

    def _deployment(self, seen: pulumi.Output[Any], whole: pulumi.Output[Any]) -> Any:
        name = self._name
        authorities = whole.apply(
            lambda it: "".join(configuration.authority_certificates(it["upstream"]))
        )
        config = k8s.core.v1.Secret(
            f"{name}-config",
            metadata=self._renewed(),
            string_data={
                objects.CONFIGURATION: self.configuration,
                objects.AUTHORITIES: authorities,
            },
            opts=self._opts,
        )
        plugin: pulumi.Input[str] = ""
        if configuration.has_tokens(self._args["plans"]):
            made = k8s.core.v1.ConfigMap(
                f"{name}-plugin",
                metadata=self._renewed(),
                data=objects.plugin_files(),
                opts=self._opts,
            )
            plugin = _name_of(made)
        account = k8s.core.v1.ServiceAccount(
            f"{name}-account",
            metadata=self._metadata(name),
            automount_service_account_token=False,
            opts=self._opts,
        )
        network = k8s.networking.v1.NetworkPolicy(
            f"{name}-network",
            metadata=self._metadata(name),
            spec=seen.apply(lambda it: cast(Any, objects.traffic(name, it))),
            opts=self._opts,
        )
        k8s.policy.v1.PodDisruptionBudget(
            f"{name}-disruption",
            metadata=self._metadata(name),
            spec={
                "max_unavailable": 1,
                "selector": {"match_labels": objects.selector(name)},
                "unhealthy_pod_eviction_policy": "AlwaysAllow",
            },
            opts=self._opts,
        )
        parts = pulumi.Output.all(seen, _checksum(self.configuration), _name_of(config),
                                  self._certificate(), plugin)  # fmt: skip
        after = pulumi.ResourceOptions(depends_on=[account, network])
        return k8s.apps.v1.Deployment(
            f"{name}-kong",
            metadata=self._metadata(name),
            spec=parts.apply(lambda it: cast(Any, self._spec(*it))),
            opts=pulumi.ResourceOptions.merge(self._opts, after),
        )

    def _spec(self, args: Any, checksum: str, config: str, tls: str, plugin: str) -> dict[str, Any]:
        labels = {key: str(value) for key, value in objects.selector(self._name).items()}
        return objects.deployment(
            self._name, args, labels, checksum=checksum, config=config, tls=tls, plugin=plugin
        )

    def _certificate(self) -> pulumi.Input[str]:
        """The name of the Secret with the certificate."""
        tls = self._args.get("tls")
        if not tls:
            return ""
        if isinstance(tls, dict) and tls.get("secret") is not None:
            return cast(pulumi.Input[str], tls["secret"])
        given = pulumi.Output.secret(tls)
        made = k8s.core.v1.Secret(
            f"{self._name}-tls",
            metadata=self._renewed(),
            type="kubernetes.io/tls",
            string_data={
                "tls.crt": given.apply(lambda it: it["certificate"]),
                "tls.key": given.apply(lambda it: it["certificate_key"]),
            },
            opts=self._opts,
        )
        return _name_of(made)

    def _service(self, seen: pulumi.Output[Any], deployed: pulumi.Resource) -> k8s.core.v1.Service:
        name = self._name
        after = pulumi.ResourceOptions.merge(
            self._opts, pulumi.ResourceOptions(depends_on=[deployed])
        )
        status = k8s.core.v1.Service(
            f"{name}-status",
            metadata=self._metadata(f"{name}-status", labels={**self._labels, **_STATUS}),
            spec=cast(Any, objects.status_service(name)),
            opts=after,
        )
        self._monitor(status)
        return k8s.core.v1.Service(
            f"{name}-service",
            metadata=self._metadata(name, annotations=self._args.get("service_annotations") or {}),
            spec=seen.apply(lambda it: cast(Any, objects.service(name, it))),
            opts=after,
        )

    def _monitor(self, status: pulumi.Resource) -> None:
        monitoring = self._args.get("monitoring") or {}
        if not monitoring.get("service_monitor"):
            return
        chart = k8s.helm.v4.Chart(
            f"{self._name}-monitor",
            chart=str(objects.MONITOR),
            name=f"{self._name}-monitor",
            namespace=self.namespace,
            values={
                "name": self._name,
                "labels": self._labels,
                "monitorLabels": monitoring.get("labels") or {},
                "selector": {**objects.selector(self._name), **_STATUS},
            },
            opts=pulumi.ResourceOptions.merge(
                self._opts, pulumi.ResourceOptions(depends_on=[status])
            ),
        )
        chart.resources.apply(self._tell_left_out)

    def _tell_left_out(self, made: Any) -> None:
        if not made:
            pulumi.log.warn(
                "monitoring.service_monitor: the cluster has no ServiceMonitor, so it is left out. "
                "Install the Prometheus operator and run the update again",
                self,
            )

    def _url(self, args: Any, service: k8s.core.v1.Service) -> pulumi.Output[str]:
        scheme = "https" if args["tls"] else "http"
        if args.get("domain"):
            return pulumi.Output.concat(scheme, "://", args["domain"])
        if args.get("service_type") == "ClusterIP":
            return pulumi.Output.concat(scheme, "://", self._name, ".", self.namespace, ".svc")
        return service.status.apply(lambda status: f"{scheme}://{address(status)}")


def _render(args: Any) -> str:
    return configuration.render(args, pods=args["pods"])


def _checksum(text: pulumi.Output[str]) -> pulumi.Output[str]:
    """Tells one configuration from another. It is seen in the cluster, and says nothing else."""
    return pulumi.Output.unsecret(
        text.apply(lambda known: hashlib.sha256(known.encode()).hexdigest()[:32])
    )


def _name_of(made: Any) -> pulumi.Output[str]:
    named: pulumi.Output[str] = made.metadata.apply(lambda metadata: str(metadata.name))
    return named


def _without(value: Any, secret: str) -> Any:
    """A mapping without its secret, so that the rest can be seen in a preview."""

    def part(it: dict[str, Any]) -> dict[str, Any]:
        return {name: item for name, item in it.items() if name != secret}

    return part(value) if isinstance(value, dict) else pulumi.Output.from_input(value).apply(part)
