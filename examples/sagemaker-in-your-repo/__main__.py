"""An embeddings endpoint on SageMaker, in an infrastructure repository of your own.

The bundle was built and measured by your CI (`sixways bundle build`), the image pushed by it; this
program ships them, watches them and keeps an eye on the bill.
"""

import pulumi

from sixways.cloud import BundleStore, CloudMonitoring, MonthlyBudget, SageMakerEndpoint

config = pulumi.Config()
tags = {"team": "search"}

store = BundleStore(
    "models",
    {
        "bundles": [
            {
                "name": "minilm",
                "path": config.require("bundle"),
                "digest": config.require("digest"),
            }
        ],
        "tags": tags,
    },
)

endpoint = SageMakerEndpoint(
    "search",
    {
        "image_uri": config.require("image"),
        "variants": [
            {
                "bundle": {
                    "name": "minilm",
                    "uri": store.uris["minilm"],
                    "digest": store.digests["minilm"],
                    "kms_key_arn": store.kms_key_arn,
                },
                "instance_type": "ml.c6i.xlarge",
            }
        ],
        # A tenth of the instances first, and back if an alarm fires.
        "deployment": {"strategy": "canary", "size": 10},
        "slo": {"latency_ms": 300},
        "tags": tags,
    },
)

watch = CloudMonitoring(
    "search-watch",
    {
        "endpoint_name": endpoint.endpoint_name,
        "variants": [{"name": "main", "instance_type": "ml.c6i.xlarge"}],
        "slo": {"latency_ms": 300},
        "emails": [config.require("email")],
        "tags": tags,
    },
)

MonthlyBudget("search-budget", {"limit_usd": 500, "emails": [config.require("email")]})

pulumi.export("endpoint_name", endpoint.endpoint_name)
pulumi.export("digest", endpoint.bundle_digest)
# Attach this to the role of whoever calls the endpoint.
pulumi.export("invoke_policy", endpoint.invoke_policy_json)
pulumi.export("dashboard", watch.dashboard)
