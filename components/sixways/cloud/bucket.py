"""A private S3 bucket: encrypted, versioned, TLS only, no access control lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws

NONCURRENT_DAYS = 30
_UNFINISHED_DAYS = 7


def private_bucket(
    name: str,
    parent: pulumi.Resource,
    *,
    kms_key_arn: pulumi.Input[str],
    noncurrent_days: pulumi.Input[int],
    dev: bool,
    tags: Any,
) -> tuple[aws.s3.Bucket, list[pulumi.Resource]]:
    """The bucket, and what has to be in place before anything is stored in it.

    Args:
        name: the bucket's resource name; those of its settings begin with it.
        parent: the component.
        kms_key_arn: encrypts what is stored.
        noncurrent_days: days until an old version is gone for good.
        dev: whether a destroy deletes what is in the bucket.
        tags: tags of the bucket.
    """

    def opts(*after: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=parent, depends_on=list(after))

    bucket = aws.s3.Bucket(name, force_destroy=dev, tags=tags, opts=opts())
    private = aws.s3.BucketPublicAccessBlock(
        f"{name}-private",
        bucket=bucket.bucket,
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
        opts=opts(),
    )
    policy = aws.s3.BucketPolicy(
        f"{name}-policy",
        bucket=bucket.bucket,
        policy=pulumi.Output.json_dumps(bucket.arn.apply(tls_only)),
        opts=opts(private),
    )
    owner = aws.s3.BucketOwnershipControls(
        f"{name}-owner",
        bucket=bucket.bucket,
        rule={"object_ownership": "BucketOwnerEnforced"},
        opts=opts(private),
    )
    versions = aws.s3.BucketVersioning(
        f"{name}-versions",
        bucket=bucket.bucket,
        versioning_configuration={"status": "Enabled"},
        opts=opts(),
    )
    encryption = aws.s3.BucketServerSideEncryptionConfiguration(
        f"{name}-encryption",
        bucket=bucket.bucket,
        rules=[
            {
                "apply_server_side_encryption_by_default": {
                    "sse_algorithm": "aws:kms",
                    "kms_master_key_id": kms_key_arn,
                },
                "bucket_key_enabled": True,  # one call of KMS for many objects
            }
        ],
        opts=opts(),
    )
    # It takes a minute to settle, and nothing waits for it.
    aws.s3.BucketLifecycleConfiguration(
        f"{name}-lifecycle",
        bucket=bucket.bucket,
        rules=[
            {
                "id": "old-versions",
                "status": "Enabled",
                "filter": {"prefix": ""},
                "noncurrent_version_expiration": {"noncurrent_days": noncurrent_days},
                "abort_incomplete_multipart_upload": {"days_after_initiation": _UNFINISHED_DAYS},
            }
        ],
        opts=opts(versions),
    )
    return bucket, [private, policy, owner, versions, encryption]


def tls_only(bucket_arn: str) -> Mapping[str, Any]:
    """The bucket's policy: nobody reaches it without TLS. What it does not refuse, roles grant."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "RefuseWithoutTls",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [bucket_arn, f"{bucket_arn}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ],
    }
