"""Inputs of a `KongGateway`: the gateways' one vocabulary, and what Kong on Kubernetes adds."""

from typing import NotRequired, TypedDict

import pulumi

from sixways.api.args import GatewayArgs

IMAGE = "docker.io/library/kong:3.9.1"
"""The last open-source image that Kong itself publishes (Docker Hub, official image `kong`): the
configuration is written for Kong 3.9."""


class KongTlsArgs(TypedDict):
    """The certificate that callers see: one of your own, or a Secret of the cluster."""

    certificate: NotRequired[pulumi.Input[str]]
    """Certificate chain, PEM; with `certificate_key`."""
    certificate_key: NotRequired[pulumi.Input[str]]
    """Its private key, PEM, a secret."""
    secret: NotRequired[pulumi.Input[str]]
    """Name of a Secret of type kubernetes.io/tls in the namespace, in place of the two. Kong reads
    it when a pod starts: after a renewal restart the pods (`kubectl rollout restart`)."""


class RedisArgs(TypedDict):
    """A Redis that all pods count in."""

    host: pulumi.Input[str]
    """Its name or address."""
    port: NotRequired[pulumi.Input[int]]
    """Default: 6379."""
    username: NotRequired[pulumi.Input[str]]
    """Default: the Redis' default user."""
    password: NotRequired[pulumi.Input[str]]
    """A secret. Default: none."""
    tls: NotRequired[pulumi.Input[bool]]
    """Whether it speaks TLS with a certificate of a public authority. Default: true."""
    database: NotRequired[pulumi.Input[int]]
    """Default: 0."""


class KongMonitoringArgs(TypedDict):
    """What watches it. What the cluster has no definition of is left out, with a warning."""

    service_monitor: NotRequired[pulumi.Input[bool]]
    """A ServiceMonitor for the Prometheus operator. Default: false."""
    labels: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Labels by which your Prometheus finds it. Default: none."""


class KongGatewayArgs(GatewayArgs):
    """Inputs of a `KongGateway`. All but the namespace changes pod by pod, without downtime."""

    kubeconfig: NotRequired[pulumi.Input[str]]
    """The cluster: contents of a kubeconfig, or its path. Default: the provider among the
    component's options, or the one that `kubectl` would use."""
    namespace: NotRequired[pulumi.Input[str]]
    """A namespace that exists. Default: one is created, called like the resource, in which
    Kubernetes itself enforces the pod security standard "restricted"."""
    image: NotRequired[pulumi.Input[str]]
    """Kong's image, best by digest. Default: `docker.io/library/kong:3.9.1`."""
    replicas: NotRequired[pulumi.Input[int]]
    """Pods, spread over zones. Without `redis` each counts for itself, so each gets its share of a
    plan's limits, rounded up: a caller with a single connection meets one pod, and its share.
    Default: 2."""
    redis: NotRequired[pulumi.Input[RedisArgs]]
    """Counts for all pods together; `quota` needs it. While it does not answer, requests pass
    uncounted. Default: each pod counts its share in memory."""
    cpu: NotRequired[pulumi.Input[str]]
    """CPU of a pod, request and limit. Default: `1`."""
    memory: NotRequired[pulumi.Input[str]]
    """Memory of a pod, request and limit. Default: `1Gi`."""
    tls: NotRequired[pulumi.Input[KongTlsArgs]]
    """The certificate. Required with `service_type` LoadBalancer, but for `dev`."""
    domain: NotRequired[pulumi.Input[str]]
    """The name that callers use, for `url`. Default: the address of the Service."""
    service_type: NotRequired[pulumi.Input[str]]
    """`LoadBalancer`, or `ClusterIP` where an ingress stands in front. Default: `LoadBalancer`."""
    source_ranges: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Networks that the load balancer takes requests from. Default: any with TLS; private ones
    without."""
    service_annotations: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Annotations of the Service, which the cloud's load balancer reads. Default: none."""
    trusted_proxies: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Networks whose `X-Forwarded-For` names the caller's address. Default: none."""
    monitoring: NotRequired[pulumi.Input[KongMonitoringArgs]]
    """What watches it. Default: nothing; the metrics are there all the same."""
