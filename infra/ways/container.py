"""Way `container`: the models on Kubernetes, on your cluster or on one of EKS.

`sixways:container` holds the components' inputs under their names (`container_settings.py`).
"""

from __future__ import annotations

from typing import Any

import pulumi

from settings import Settings
from sixways import Bundle
from sixways.container import BundleImage, ContainerImage, ModelDeployment
from ways.bundles import bundle_of
from ways.container_settings import Parts, Stored


def deploy(settings: Settings) -> ModelDeployment:
    """Image and bundles, a cluster where none is given, and the pods that serve them.

    Raises:
        InputsRefused: settings are wrong; carries every problem, and nothing was created.
    """
    parts = Parts(settings)
    parts.refuse()

    bundles = {model.name: bundle_of(model) for model in settings.models}
    sources: dict[str, Any] = {
        name: parts.source(name, None) for name in bundles if parts.bundled(name)
    }
    to_bring = {name: bundle for name, bundle in bundles.items() if name not in sources}
    if parts.on_aws:
        image_uri, stored = _to_aws(parts, to_bring, sources)
    else:
        image_uri, stored = ContainerImage("server", parts.image()).image_uri, None
        for name, bundle in to_bring.items():
            made = BundleImage(f"{name}-bundle", parts.bundle(bundle.path, bundle.digest))
            sources[name] = parts.source(name, made.image_uri)

    kubeconfig, opts = None, None
    if parts.has("eks"):
        from sixways.container import EksCluster

        cluster = EksCluster("cluster", parts.eks(stored))
        kubeconfig, opts = cluster.kubeconfig, pulumi.ResourceOptions(depends_on=[cluster])
        pulumi.export("cluster_name", cluster.cluster_name)
        pulumi.export("kubeconfig", cluster.kubeconfig)
    digests = {name: bundle.digest for name, bundle in bundles.items()}
    endpoint = ModelDeployment(
        parts.name, parts.deployment(image_uri, digests, sources, kubeconfig), opts
    )
    pulumi.export("image_uri", image_uri)
    pulumi.export("namespace", endpoint.namespace)
    return endpoint


def _to_aws(
    parts: Parts, bundles: dict[str, Bundle], sources: dict[str, Any]
) -> tuple[pulumi.Output[str], Stored | None]:
    """Image to ECR, bundles to S3; notes in `sources` where they are."""
    from sixways.cloud import BundleStore, ServerImage

    image_uri = ServerImage("server", parts.image()).image_uri
    if not bundles:
        return image_uri, None
    store = BundleStore("models", parts.store({n: (b.path, b.digest) for n, b in bundles.items()}))
    for name in bundles:
        sources[name] = {"s3_uri": store.uris[name]}
    return image_uri, Stored(store.bucket_arn, store.kms_key_arn)
