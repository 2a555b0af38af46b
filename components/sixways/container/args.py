"""Inputs of a `ModelDeployment`."""

from typing import Any, NotRequired, TypedDict

import pulumi

from sixways.observability.slo import SloArgs


class DeployedModelArgs(TypedDict):
    """One model, and where its bundle comes from: exactly one of `s3_uri`, `image`, `path`."""

    name: pulumi.Input[str]
    """The name requests use."""
    digest: pulumi.Input[str]
    """The bundle's digest (`Bundle.digest`). The server verifies every byte against it."""
    variant: NotRequired[pulumi.Input[str]]
    """The variant to serve. Default: the first of the bundle that the pod can run."""
    s3_uri: NotRequired[pulumi.Input[str]]
    """`s3://BUCKET/bundles/NAME/HEX/` (`BundleStore.uris`): an init container fetches and verifies
    it. The service account must be allowed to read it (`service_account_annotations`)."""
    image: NotRequired[pulumi.Input[str]]
    """`REPOSITORY@sha256:DIGEST` of an OCI image that holds the bundle's files; mounted read-only.
    Needs Kubernetes 1.33 or newer with the feature ImageVolume."""
    path: NotRequired[pulumi.Input[str]]
    """Where the bundle lies in the server's own image."""


class AutoscalingArgs(TypedDict):
    """What makes pods come and go.

    A new deployment begins with one pod, and the autoscaler brings it to `min_replicas` in seconds.
    One that has run with `replicas` would drop to one pod on the way; it does not if you first run
    `kubectl scale deployment NAME -n NAMESPACE --replicas=N` with one pod more than it has. On the
    way back set `min_replicas` and `max_replicas` to one number first, then `replicas` to the same.
    """

    engine: NotRequired[pulumi.Input[str]]
    """`hpa` (HorizontalPodAutoscaler) or `keda` (ScaledObject). Default: `hpa`."""
    min_replicas: NotRequired[pulumi.Input[int]]
    """The fewest pods; 0 with `keda` only. Default: 3."""
    max_replicas: NotRequired[pulumi.Input[int]]
    """The most pods. Default: 10."""
    cpu_utilization: NotRequired[pulumi.Input[int]]
    """Percent of the CPU, mean over the pods; 0: CPU does not count. Default: 70."""
    queue_depth: NotRequired[pulumi.Input[float]]
    """Requests (encoders: inputs) that wait in a pod, mean over the pods. `hpa` needs a metrics
    adapter that serves `sixways_num_requests_waiting` of pods. Default: does not count."""
    requests_in_flight: NotRequired[pulumi.Input[float]]
    """Requests in flight in a pod, mean over the pods (`sixways_num_requests_running`). Default:
    does not count."""
    scale_down_seconds: NotRequired[pulumi.Input[int]]
    """Seconds of lower load before a pod goes. Default: 300."""
    prometheus_url: NotRequired[pulumi.Input[str]]
    """Address of Prometheus, for `keda`."""
    activation_query: NotRequired[pulumi.Input[str]]
    """PromQL that is over 0 as soon as somebody asks, for `min_replicas` 0: where no pod runs, no
    pod counts requests; an ingress or a gateway does."""


class IngressArgs(TypedDict):
    """An Ingress, with TLS."""

    hosts: pulumi.Input[list[pulumi.Input[str]]]
    """Host names; the first is the endpoint's."""
    tls_secret: pulumi.Input[str]
    """Name of a Secret of type kubernetes.io/tls in the namespace; cert-manager makes one where an
    annotation asks for it."""
    class_name: NotRequired[pulumi.Input[str]]
    """The IngressClass. Default: the cluster's default."""
    annotations: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Annotations, which controllers read. Default: none."""


class RouteArgs(TypedDict):
    """An HTTPRoute of the Gateway API, on a Gateway that exists or one of its own."""

    hosts: pulumi.Input[list[pulumi.Input[str]]]
    """Host names; the first is the endpoint's."""
    gateway: NotRequired[pulumi.Input[str]]
    """An existing Gateway: `NAME`, `NAMESPACE/NAME` or `NAMESPACE/NAME/LISTENER`; the listener must
    be an HTTPS one. Default: a Gateway is created."""
    gateway_class: NotRequired[pulumi.Input[str]]
    """The GatewayClass of the Gateway that is created."""
    tls_secret: NotRequired[pulumi.Input[str]]
    """Name of a Secret of type kubernetes.io/tls in the namespace, for the Gateway that is
    created."""


class MonitoringArgs(TypedDict):
    """What watches it. What the cluster has no definition of is left out, with a warning."""

    service_monitor: NotRequired[pulumi.Input[bool]]
    """A ServiceMonitor for the Prometheus operator. Default: false."""
    rules: NotRequired[pulumi.Input[bool]]
    """A PrometheusRule with alerts on the objective. Default: false."""
    dashboard: NotRequired[pulumi.Input[bool]]
    """A ConfigMap with a dashboard for Grafana's sidecar. Default: false."""
    labels: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Labels by which your Prometheus finds ServiceMonitor and rules. Default: none."""
    slo: NotRequired[SloArgs]
    """The objective behind rules and dashboard. Default: see `SloArgs`."""


class ModelDeploymentArgs(TypedDict):
    """Inputs of a `ModelDeployment`. What changes a pod (image, models, environment …) rolls out
    pod by pod; another namespace replaces everything."""

    image: pulumi.Input[str]
    """The server's image, `REPOSITORY@sha256:DIGEST` (`ServerImage.image_uri`). A tag is taken,
    with a warning: it can be moved to another image."""
    models: pulumi.Input[list[pulumi.Input[DeployedModelArgs]]]
    """What to serve, at least one model."""
    kubeconfig: NotRequired[pulumi.Input[str]]
    """The cluster: contents of a kubeconfig, or its path. Default: the provider among the
    component's options, or the one that `kubectl` would use."""
    namespace: NotRequired[pulumi.Input[str]]
    """A namespace that exists. Default: one is created, called like the resource, in which
    Kubernetes itself enforces the pod security standard "restricted"."""
    replicas: NotRequired[pulumi.Input[int]]
    """Pods, where there is no `autoscaling`. Default: 3."""
    autoscaling: NotRequired[pulumi.Input[AutoscalingArgs]]
    """What makes pods come and go. Default: nothing."""
    min_available: NotRequired[pulumi.Input[int]]
    """Pods that a drain of nodes must leave. Default: all but one, however many there are."""
    cpu: NotRequired[pulumi.Input[str]]
    """CPU of a pod, request and limit: the server sizes its threads by it. Default: `2`."""
    memory: NotRequired[pulumi.Input[str]]
    """Memory of a pod, request and limit. Default: `2Gi`."""
    gpus: NotRequired[pulumi.Input[int]]
    """GPUs of a pod; needs `node_selector`. Default: 0."""
    gpu_resource: NotRequired[pulumi.Input[str]]
    """What the cluster calls a GPU. Default: `nvidia.com/gpu`."""
    node_selector: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Labels of the nodes that pods may run on. Default: any node."""
    workers: NotRequired[pulumi.Input[int]]
    """Processes that serve in a pod; each opens every model for itself. Default: 1."""
    env: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Further environment variables (`AWS_REGION`, `OTEL_EXPORTER_OTLP_ENDPOINT` …). They stay
    readable in the cluster: never a secret. The fetching of bundles sees them too. Default:
    none."""
    request_seconds: NotRequired[pulumi.Input[int]]
    """Longest time of a request; then 504. Default: 600."""
    drain_seconds: NotRequired[pulumi.Input[int]]
    """Longest time that what is in flight may take once a pod has to go. Default: 30; language
    models with long answers want more."""
    startup_seconds: NotRequired[pulumi.Input[int]]
    """Longest time until a pod's models are loaded. Default: 600."""
    service_type: NotRequired[pulumi.Input[str]]
    """`LoadBalancer` or `ClusterIP`. Default: `ClusterIP` behind `ingress` or `route`, else
    `LoadBalancer`."""
    port: NotRequired[pulumi.Input[int]]
    """TCP port of the Service. Default: 5000."""
    source_ranges: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Networks that a load balancer takes requests from. Default: private networks alone, since it
    does not encrypt; for the internet use `ingress` or `route`."""
    service_annotations: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Annotations of the Service, which the cloud's load balancer reads. Default: none."""
    service_account_annotations: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Annotations of the ServiceAccount, e.g. `eks.amazonaws.com/role-arn`. Default: none."""
    image_pull_secrets: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Secrets of the namespace that registries want. Default: none."""
    ingress: NotRequired[pulumi.Input[IngressArgs]]
    """An Ingress in front, with TLS. Default: none."""
    route: NotRequired[pulumi.Input[RouteArgs]]
    """An HTTPRoute in front, with TLS. Default: none."""
    monitoring: NotRequired[pulumi.Input[MonitoringArgs]]
    """What watches it. Default: nothing."""
    api_key: NotRequired[pulumi.Input[str]]
    """The key that requests carry, at least 16 characters. Default: a random one."""
    keys_secret: NotRequired[pulumi.Input[str]]
    """A Secret of the namespace whose `keys.json` holds hashes of keys; then none is made, and
    `api_key` is only what the component shows. Default: one is made."""
    values: NotRequired[dict[str, Any]]
    """Further values of the chart, laid over those made of these inputs; the chart's schema checks
    them. Default: none."""
