"""Way `cloud`: the models on AWS, behind SageMaker or on EC2, watched and with a budget.

`sixways:cloud` holds the components' inputs under their names (`cloud_settings.py`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pulumi

from settings import Settings
from sixways import cloud
from ways.bundles import bundle_of
from ways.cloud_settings import Made, Parts

if TYPE_CHECKING:
    from sixways.cloud import Ec2Endpoint, SageMakerEndpoint


def deploy(settings: Settings) -> SageMakerEndpoint | Ec2Endpoint:
    """Image and bundles, the endpoint that serves them, what watches it, and what it may cost.

    Raises:
        InputsRefused: settings are wrong; carries every problem, and nothing was created.
    """
    parts = Parts(settings)
    parts.refuse()

    bundles = {model.name: bundle_of(model) for model in settings.models}
    store = cloud.BundleStore(
        "models", parts.store({n: (b.path, b.digest) for n, b in bundles.items()})
    )
    made = Made(
        pulumi.Output.from_input(""), store.uris, store.archive_uris, store.digests,
        store.kms_key_arn,
    )  # fmt: skip
    endpoint: SageMakerEndpoint | Ec2Endpoint
    if parts.is_sagemaker:
        image = cloud.ServerImage("server", parts.own("image"))
        endpoint = cloud.SageMakerEndpoint(
            "endpoint", parts.sagemaker(replace(made, image_uri=image.image_uri))
        )
        pulumi.export("endpoint_name", endpoint.endpoint_name)
        pulumi.export("inference_component_names", endpoint.inference_component_names)
        pulumi.export("invoke_policy", endpoint.invoke_policy_json)
        watched = parts.watch(endpoint_name=endpoint.endpoint_name)
    else:
        endpoint = cloud.Ec2Endpoint("endpoint", parts.ec2(made))
        pulumi.export("autoscaling_group_name", endpoint.autoscaling_group_name)
        watched = parts.watch(
            load_balancer_arn_suffix=endpoint.load_balancer_arn_suffix,
            target_group_arn_suffix=endpoint.target_group_arn_suffix,
            autoscaling_group_name=endpoint.autoscaling_group_name,
        )
    pulumi.export("alarms_dashboard", cloud.CloudMonitoring("watch", watched).dashboard)
    if parts.has("budget"):
        cloud.MonthlyBudget("budget", parts.own("budget"))
    return endpoint
