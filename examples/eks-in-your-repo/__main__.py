"""A cluster on EKS with an embeddings model on it, in an infrastructure repository of your own.

The bundle lies in S3 and the image in a registry, both brought there by your CI. Without an image
the program makes the cluster alone.
"""

import pulumi

from sixways.container import EksCluster, ModelDeployment

config = pulumi.Config()

cluster = EksCluster(
    "models",
    {
        "version": "1.33",
        "node_groups": [
            {"name": "cpu", "instance_types": ["m7i.xlarge", "m6i.xlarge"], "max_size": 6},
        ],
        "public_access_cidrs": [config.require("deploy_from")],
        "access_entries": [
            {
                "name": "administrators",
                "principal_arn": config.require("administrator"),
                "policy": "AmazonEKSClusterAdminPolicy",
            }
        ],
        # The pods of `search` below, and no others, may read the bundles.
        "bundle_readers": [
            {
                "namespace": "search",
                "service_account": "search",
                "bucket_arn": config.require("bucket_arn"),
            }
        ],
        "tags": {"team": "search"},
    },
)

pulumi.export("cluster_name", cluster.cluster_name)
pulumi.export("kubeconfig", cluster.kubeconfig)

if config.get("image"):
    search = ModelDeployment(
        "search",
        {
            "image": config.require("image"),
            "models": [
                {
                    "name": "minilm",
                    "digest": config.require("digest"),
                    "s3_uri": config.require("bundle_uri"),
                }
            ],
            "kubeconfig": cluster.kubeconfig,
        },
        # The kubeconfig is known before there are nodes.
        pulumi.ResourceOptions(depends_on=[cluster]),
    )
    pulumi.export("url", search.url)
    pulumi.export("api_key", search.api_key)
