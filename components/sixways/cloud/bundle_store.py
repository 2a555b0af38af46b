"""`BundleStore`: bundles in S3, encrypted, versioned, private and under their digests."""

import re
from typing import Any, NotRequired, TypedDict, cast

import pulumi
import pulumi_aws as aws

from sixways.checks import DIGEST, MODEL_NAME, Checks, InputsRefused, is_plain
from sixways.cloud.bucket import NONCURRENT_DAYS, private_bucket
from sixways.cloud.formats import KMS_KEY
from sixways.cloud.regions import check_region, configured_region
from sixways.naming import PluginResource
from sixways.shapes import misfits
from sixways_bundle import Problem

_BUCKET = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*")
_UPLOAD_OUTPUTS = ("uri", "archive_uri", "size", "variants")


class BundleStoreBundleArgs(TypedDict):
    """One bundle to upload."""

    name: str
    """The model's name in the bucket: letters, digits, `.`, `_` and `-`. Each name once."""
    path: pulumi.Input[str]
    """The bundle's folder (`Bundle.path`)."""
    digest: pulumi.Input[str]
    """The bundle's digest (`Bundle.digest`); what lies at `path` must have it."""
    archive: NotRequired[pulumi.Input[bool]]
    """Whether a `model.tar.gz` is stored too, which serverless endpoints need. Default: False."""


class BundleStoreArgs(TypedDict):
    """Inputs of a `BundleStore`. Another bucket or prefix replaces the uploads, the new ones
    first; bundles come and go one by one."""

    bundles: pulumi.Input[list[pulumi.Input[BundleStoreBundleArgs]]]
    """What to upload, at least one bundle; a list known before the update."""
    bucket_name: NotRequired[pulumi.Input[str]]
    """An existing bucket, whose settings stay as they are. Default: an own bucket is created."""
    prefix: NotRequired[pulumi.Input[str]]
    """Key prefix above `bundles/`, without slashes at its ends. Stacks that share a bucket need
    one each: a destroy removes what it uploaded. Default: none."""
    kms_key_arn: NotRequired[pulumi.Input[str]]
    """The KMS key that encrypts the bundles. Default: an own key, rotated every year."""
    noncurrent_days: NotRequired[pulumi.Input[int]]
    """Days until a replaced or deleted version is gone for good, 1 to 36500. Default: 30."""
    dev: NotRequired[bool]
    """For development: a destroy deletes the bucket with everything in it, and its key after 7
    days instead of 30. Default: False."""
    region: NotRequired[pulumi.Input[str]]
    """The bucket's region, for the upload. Default: `aws:region` of the stack, else AWS_REGION."""
    profile: NotRequired[pulumi.Input[str]]
    """Profile of the AWS configuration files, for the upload. Default: `aws:profile` of the
    stack, else boto3's usual chain. Keys in the stack's settings are not used: set them in the
    environment."""
    tags: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Tags of the bucket and the key. Default: none."""


class BundleUpload(PluginResource):
    """The objects of one bundle. A lost or changed one shows on refresh, and the next update
    sends it again."""

    uri: pulumi.Output[str]
    """`s3://BUCKET/[PREFIX/]bundles/NAME/HEX/`."""
    archive_uri: pulumi.Output[str]
    """`s3://BUCKET/[PREFIX/]archives/NAME/HEX/model.tar.gz`; empty without an archive."""
    size: pulumi.Output[int]
    """Bytes of all its variants."""
    variants: pulumi.Output[list[dict[str, Any]]]
    """For each variant: `name`, `engine`, `precision`, `size` in bytes."""

    def __init__(
        self, name: str, args: dict[str, Any], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        outputs = dict.fromkeys(_UPLOAD_OUTPUTS)
        super().__init__("sixways:cloud:BundleUpload", name, {**outputs, **args}, opts)


class BundleStore(pulumi.ComponentResource):
    """Bundles in S3, each under its digest; whoever reads one verifies it against that digest.

    A destroy removes every version of what was uploaded. If others stored something in the bucket,
    it fails and keeps the bucket, unless `dev` is set.
    """

    bucket_name: pulumi.Output[str]
    """The bucket."""
    bucket_arn: pulumi.Output[str]
    """Its ARN."""
    kms_key_arn: pulumi.Output[str]
    """The key that encrypts the bundles; readers need `kms:Decrypt` on it."""
    uris: pulumi.Output[dict[str, str]]
    """By name: `s3://BUCKET/[PREFIX/]bundles/NAME/HEX/`, with every file of the bundle below."""
    archive_uris: pulumi.Output[dict[str, str]]
    """By name: `s3://BUCKET/[PREFIX/]archives/NAME/HEX/model.tar.gz`, of those with an archive."""
    digests: pulumi.Output[dict[str, str]]
    """By name: the bundle's digest."""
    variants: pulumi.Output[dict[str, list[dict[str, Any]]]]
    """By name: its variants, each with `name`, `engine`, `precision` and `size` in bytes."""

    def __init__(
        self, name: str, args: BundleStoreArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Creates the bucket and uploads the bundles.

        Args:
            name: the resource's name.
            args: see `BundleStoreArgs`.
            opts: the usual resource options.

        Raises:
            InputsRefused: an input cannot be used; nothing was created.
        """
        if found := problems(name, args):
            raise InputsRefused(f"BundleStore {name}", found)
        super().__init__("sixways:cloud:BundleStore", name, {}, opts)
        dev = args.get("dev", False)
        tags = args.get("tags") or {}
        key = args.get("kms_key_arn") or self._key(name, dev, tags).arn
        ready: list[pulumi.Resource] = []
        if given := args.get("bucket_name"):
            bucket = aws.s3.get_bucket_output(bucket=given, opts=pulumi.InvokeOptions(parent=self))
            self.bucket_name, self.bucket_arn = bucket.bucket, bucket.arn
        else:
            if dev:
                pulumi.log.info("dev: a destroy deletes the bucket with all that is in it", self)
            days = args.get("noncurrent_days", NONCURRENT_DAYS)
            own, ready = private_bucket(
                f"{name}-bucket", self, kms_key_arn=key, noncurrent_days=days, dev=dev, tags=tags
            )
            self.bucket_name, self.bucket_arn = own.bucket, own.arn
        self.kms_key_arn = pulumi.Output.from_input(key)
        bundles = cast(list[BundleStoreBundleArgs], args["bundles"])
        uploads = {bundle["name"]: self._upload(name, bundle, args, ready) for bundle in bundles}
        self.uris = pulumi.Output.all(**{n: u.uri for n, u in uploads.items()})
        self.archive_uris = pulumi.Output.all(
            **{n: u.archive_uri for n, u in uploads.items()}
        ).apply(_without_empty)
        self.digests = pulumi.Output.all(**{b["name"]: b["digest"] for b in bundles})
        self.variants = pulumi.Output.all(**{n: u.variants for n, u in uploads.items()})
        self.register_outputs(
            {
                "bucket_name": self.bucket_name,
                "bucket_arn": self.bucket_arn,
                "kms_key_arn": self.kms_key_arn,
                "uris": self.uris,
                "archive_uris": self.archive_uris,
                "digests": self.digests,
                "variants": self.variants,
            }
        )

    def _key(self, name: str, dev: bool, tags: Any) -> aws.kms.Key:
        return aws.kms.Key(
            f"{name}-key",
            description=f"Bundles of {name}",
            enable_key_rotation=True,
            deletion_window_in_days=7 if dev else 30,
            tags=tags,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _upload(
        self,
        name: str,
        bundle: BundleStoreBundleArgs,
        args: BundleStoreArgs,
        ready: list[pulumi.Resource],
    ) -> BundleUpload:
        inputs = {
            "bucket": self.bucket_name,
            "prefix": args.get("prefix"),
            "name": bundle["name"],
            "path": bundle["path"],
            "digest": bundle["digest"],
            "kms_key_arn": self.kms_key_arn,
            "archive": bundle.get("archive"),
            "region": args.get("region") or configured_region(),
            "profile": args.get("profile") or pulumi.Config("aws").get("profile"),
        }
        # Nothing is stored before the bucket encrypts, keeps versions and is private.
        opts = pulumi.ResourceOptions(parent=self, depends_on=ready)
        return BundleUpload(f"{name}-{bundle['name']}", inputs, opts)


def problems(name: str, args: BundleStoreArgs) -> list[Problem]:
    """Everything that is wrong with the plain inputs; outputs are passed over.

    Bucket names: "General purpose bucket naming rules" of the S3 user guide; key prefixes: the
    safe characters of its "Naming Amazon S3 objects".
    """
    checks = Checks()
    checks.known(args, BundleStoreArgs)
    if wrong := [*misfits(args, BundleStoreArgs)]:
        return [*checks.problems, *wrong]  # more would be guesses
    checks.required(args, "bundles")
    checks.matches("bucket_name", args.get("bucket_name") or None, _BUCKET, "the name of a bucket")
    accepted = "a key prefix without slashes at its ends, e.g. teams/shop"
    checks.matches("prefix", args.get("prefix") or None, _PREFIX, accepted)
    checks.matches("kms_key_arn", args.get("kms_key_arn") or None, KMS_KEY, "the ARN of a KMS key")
    days = args.get("noncurrent_days")
    checks.number("noncurrent_days", days, 1, 36500, whole=True)
    if days is not None and args.get("bucket_name") is not None:
        checks.add("noncurrent_days", days, "nothing where bucket_name is given",
                   "remove it: the rules of that bucket hold")  # fmt: skip
    check_region(checks, args.get("region"), "s3")
    _flag(checks, "dev", args.get("dev"))
    bundles: Any = args.get("bundles")
    if bundles is not None and not isinstance(bundles, list):
        checks.add("bundles", type(bundles).__name__, "a list that is known before the update")
        return checks.problems
    names: list[object] = []
    for index, bundle in enumerate(bundles or []):
        _check_bundle(checks, f"bundles[{index}]", bundle, names)
    return checks.problems


def _check_bundle(checks: Checks, field: str, bundle: Any, names: list[object]) -> None:
    if not isinstance(bundle, dict):
        checks.add(field, type(bundle).__name__, "name, path and digest of a bundle")
        return
    checks.known(bundle, BundleStoreBundleArgs, f"{field}.")
    checks.required(bundle, "name", "path", "digest", prefix=f"{field}.")
    name = bundle.get("name")
    if name is not None and not is_plain(name):
        checks.add(f"{field}.name", "an output", "a text that is known before the update")
    checks.matches(f"{field}.name", name, MODEL_NAME, "letters, digits, '.', '_' and '-'")
    if isinstance(name, str) and name in names:
        checks.add(f"{field}.name", name, "each name once", "rename one of the bundles")
    names.append(name)
    checks.matches(
        f"{field}.digest",
        bundle.get("digest"),
        DIGEST,
        "sha256: and 64 hexadecimal digits",
        "take it from Bundle.digest",
    )
    _flag(checks, f"{field}.archive", bundle.get("archive"))


def _flag(checks: Checks, field: str, value: object) -> None:
    if value is not None and is_plain(value) and not isinstance(value, bool):
        checks.add(field, value, "True or False")


def _without_empty(values: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}
