"""`ServerImage`: the model server's image in ECR, built and pushed by digest, or an existing one.

Limits and patterns are those of AWS' own description of the API (botocore, `ecr`, `service-2`).
"""

import json
import re
from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_aws as aws
import pulumi_docker_build as docker_build

from sixways.checks import Checks, InputsRefused
from sixways.image import BuildContext, check_build_inputs
from sixways.image_build import by_digest, check_plain, image_tag, is_by_digest, project_context
from sixways.shapes import misfits
from sixways_bundle import Problem

_REPOSITORY = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_KEY = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:(key|alias)/\S+")
_ENCRYPTION = ("KMS", "AES256")
_KEEP = 20
_UNTAGGED_DAYS = 14
_LONGEST_NAME = 256
_OF_A_BUILD = ("package", "extras", "build_args", "dockerfile", "platforms", "cache",
               "repository_name", "existing_repository", "encryption", "kms_key_arn",
               "untagged_days", "keep_images")  # fmt: skip
_OF_A_NEW_REPOSITORY = (
    "repository_name", "encryption", "kms_key_arn", "untagged_days", "keep_images"
)  # fmt: skip


class ServerImageArgs(TypedDict):
    """Inputs of a `ServerImage`: none at all builds the server that runs here."""

    image_uri: NotRequired[pulumi.Input[str]]
    """An existing image by digest, `REPOSITORY@sha256:…`; then nothing is built. SageMaker takes
    images from ECR in its own region. Default: an image is built."""
    package: NotRequired[str]
    """What is installed in the image: `sixways==VERSION` from a package index, or the path of a
    wheel. Default: what runs here; from a checkout that is a wheel of the checkout."""
    extras: NotRequired[list[str]]
    """Parts of the server beyond the usual ones: `graphql`, `gpu`, `litert`, `otel`, `sign`.
    Default: none."""
    build_args: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Arguments of the build, e.g. `BASE` (a Python image, best by digest) or `PIP_INDEX_URL`. They
    stay readable in the image: never a secret. Default: none."""
    dockerfile: NotRequired[str]
    """Path of another Dockerfile, which gets the same context and arguments. Default: ours."""
    platforms: NotRequired[list[str]]
    """`linux/amd64`, `linux/arm64` or both. Several make an index of images, which is built
    without the registry's cache. Default: `linux/amd64`."""
    cache: NotRequired[bool]
    """Whether layers are kept in a second repository, so that machines without them build
    quickly. Default: true."""
    repository_name: NotRequired[pulumi.Input[str]]
    """Name of the repository that is created; another name replaces it. Default: made from the
    resource's name."""
    existing_repository: NotRequired[pulumi.Input[str]]
    """Name of a repository of this account and region to push to. Default: one is created."""
    encryption: NotRequired[pulumi.Input[str]]
    """`KMS` or `AES256` (S3's own keys) for the repositories created. A change replaces them.
    Default: `KMS`."""
    kms_key_arn: NotRequired[pulumi.Input[str]]
    """The KMS key. A change replaces the repositories. Default: AWS' key for ECR."""
    untagged_days: NotRequired[pulumi.Input[int]]
    """Days after which an image without a tag is removed. Default: 14."""
    keep_images: NotRequired[pulumi.Input[int]]
    """How many images are kept: a new one removes the oldest beyond. What an endpoint runs or may
    roll back to must be among them. Default: 20."""
    dev: NotRequired[bool]
    """Whether a destroy removes the repository with all its images. Default: false, and then AWS
    refuses to remove a repository that still holds images."""
    tags: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """AWS tags of the repositories. Default: none."""


def problems(name: str, args: ServerImageArgs) -> list[Problem]:
    """What is wrong with the inputs, as far as they are known; reads no file."""
    checks = Checks()
    checks.known(args, ServerImageArgs)
    if wrong := [*misfits(args, ServerImageArgs)]:
        return [*checks.problems, *wrong]  # more would be guesses
    check_plain(checks, args)
    _check_image_uri(checks, args)
    _check_repository(checks, name, args)
    check_build_inputs(
        checks,
        package=args.get("package"),
        extras=args.get("extras"),
        build_args=args.get("build_args"),
        platforms=args.get("platforms"),
    )
    checks.number("untagged_days", args.get("untagged_days"), 1, 3650, whole=True)
    checks.number("keep_images", args.get("keep_images"), 2, 10_000, whole=True,
                  fix="keep at least what runs and what came before it")  # fmt: skip
    return checks.problems


def _check_image_uri(checks: Checks, args: ServerImageArgs) -> None:
    uri = args.get("image_uri")
    if uri is None:
        return
    for field in _OF_A_BUILD:
        if args.get(field) is not None:
            checks.add(field, "given", "no such input beside image_uri, which builds nothing",
                       f"remove image_uri or {field}")  # fmt: skip
    if isinstance(uri, str) and not is_by_digest(uri):
        repository, _, tag = uri.partition("@")[0].rpartition("/")[2].partition(":")
        checks.add("image_uri", uri, "REPOSITORY@sha256:… : a tag can be moved to another image",
                   "aws ecr describe-images --query 'imageDetails[0].imageDigest' "
                   f"--repository-name {repository or 'NAME'} "
                   f"--image-ids imageTag={tag or 'latest'}")  # fmt: skip


def _check_repository(checks: Checks, name: str, args: ServerImageArgs) -> None:
    existing = args.get("existing_repository")
    for field in ("repository_name", "existing_repository"):
        given = args.get(field)
        if isinstance(given, str) and not _is_repository(given):
            checks.add(field, given, "2 to 256 of a-z, 0-9, '.', '_', '-' and '/'", "rename it")
    if existing is not None:
        for field in _OF_A_NEW_REPOSITORY:
            if args.get(field) is not None:
                checks.add(field, "given", "no such input beside existing_repository",
                           f"remove existing_repository or {field}")  # fmt: skip
    elif not args.get("image_uri") and not args.get("repository_name") and not _is_repository(name):
        checks.add("repository_name", None, "a name, since the resource's own is none for ECR",
                   f"add repository_name, or call the resource {name.lower()}")  # fmt: skip
    encryption, key = args.get("encryption"), args.get("kms_key_arn")
    checks.one_of("encryption", encryption, _ENCRYPTION)
    if encryption == "AES256" and key is not None:
        checks.add("kms_key_arn", key, "no key beside encryption AES256", "remove one of them")
    if isinstance(key, str) and not _KEY.fullmatch(key):
        checks.add("kms_key_arn", key, "arn:aws:kms:REGION:ACCOUNT:key/ID", "aws kms list-keys")


def _is_repository(name: str) -> bool:
    return 2 <= len(name) <= _LONGEST_NAME and _REPOSITORY.fullmatch(name) is not None


class ServerImage(pulumi.ComponentResource):
    """The model server's image, named by its digest.

    Tags are immutable and each is made from what went into the build, so a tag never means two
    images. An unchanged source builds nothing.
    """

    image_uri: pulumi.Output[str]
    """`REPOSITORY@sha256:…`, what SageMaker and Docker take."""
    digest: pulumi.Output[str]
    """`sha256:…` of the image."""
    repository_arn: pulumi.Output[str]
    """The repository that may be pulled from; empty for `image_uri`."""
    repository_name: pulumi.Output[str]
    """The repository's name."""

    def __init__(
        self, name: str, args: ServerImageArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Creates the repository, builds the image and pushes it; or takes the one given.

        Args:
            name: the resource's name.
            args: see `ServerImageArgs`.
            opts: the usual resource options.

        Raises:
            InputsRefused: the inputs are wrong, or a file they name is missing.
        """
        super().__init__("sixways:cloud:ServerImage", name, None, opts)
        found = problems(name, args)
        if found:
            raise InputsRefused(f"ServerImage {name}", found)
        given = args.get("image_uri")
        if given is not None:
            self._given(pulumi.Output.from_input(given))
        else:
            self._build(name, args)
        self.register_outputs(
            {
                "image_uri": self.image_uri,
                "digest": self.digest,
                "repository_arn": self.repository_arn,
                "repository_name": self.repository_name,
            }
        )

    def _given(self, uri: pulumi.Output[str]) -> None:
        self.image_uri = uri
        self.digest = uri.apply(lambda known: by_digest("ServerImage", known)["digest"])
        self.repository_name = uri.apply(
            lambda known: by_digest("ServerImage", known)["name"].partition("/")[2]
        )
        self.repository_arn = pulumi.Output.from_input("")

    def _build(self, name: str, args: ServerImageArgs) -> None:
        context = project_context("ServerImage", name, args)
        children = pulumi.ResourceOptions(parent=self)
        existing = args.get("existing_repository")
        if existing is not None:
            known = aws.ecr.get_repository_output(
                name=existing, opts=pulumi.InvokeOutputOptions(parent=self)
            )
            url, self.repository_arn, self.repository_name = (
                known.repository_url, known.arn, known.name
            )  # fmt: skip
        else:
            made = _repository(f"{name}-repository", args, children)
            url, self.repository_arn, self.repository_name = (
                made.repository_url, made.arn, made.name
            )  # fmt: skip
        platforms = args.get("platforms") or ["linux/amd64"]
        # Docker's exporter of caches does not work reliably for several platforms at once.
        cache = None
        if args.get("cache", True) and len(platforms) == 1:
            cache = _cache_repository(f"{name}-cache", args, children)
        image = _image(f"{name}-image", args, context, url, cache, children)
        self.digest = image.digest
        self.image_uri = pulumi.Output.concat(url, "@", image.digest)


def _repository(
    name: str, args: ServerImageArgs, opts: pulumi.ResourceOptions
) -> aws.ecr.Repository:
    if args.get("dev"):
        pulumi.log.warn(f"{name}: a destroy removes the repository with all its images (dev)")
    repository = aws.ecr.Repository(
        name,
        name=args.get("repository_name"),
        image_tag_mutability="IMMUTABLE",
        image_scanning_configuration={"scan_on_push": True},
        encryption_configurations=_encryption(args),
        force_delete=bool(args.get("dev")),
        tags=args.get("tags"),
        opts=opts,
    )
    policy = pulumi.Output.all(
        args.get("untagged_days", _UNTAGGED_DAYS), args.get("keep_images", _KEEP)
    ).apply(lambda numbers: lifecycle(*numbers))
    aws.ecr.LifecyclePolicy(
        f"{name}-lifecycle", repository=repository.name, policy=policy, opts=opts
    )
    return repository


def _cache_repository(
    name: str, args: ServerImageArgs, opts: pulumi.ResourceOptions
) -> aws.ecr.Repository:
    """Apart, since the cache's one tag moves with each build; it can be lost at any time."""
    repository = aws.ecr.Repository(
        name,
        image_tag_mutability="MUTABLE",
        image_scanning_configuration={"scan_on_push": False},
        encryption_configurations=_encryption(args),
        force_delete=True,
        tags=args.get("tags"),
        opts=opts,
    )
    aws.ecr.LifecyclePolicy(
        f"{name}-lifecycle", repository=repository.name, policy=lifecycle(1, 2), opts=opts
    )
    return repository


def _encryption(args: ServerImageArgs) -> list[aws.ecr.RepositoryEncryptionConfigurationArgs]:
    return [
        aws.ecr.RepositoryEncryptionConfigurationArgs(
            encryption_type=args.get("encryption", "KMS"), kms_key=args.get("kms_key_arn")
        )
    ]


def lifecycle(untagged_days: int, keep_images: int) -> str:
    """The lifecycle policy: what has no tag goes after some days, and the oldest over a number."""
    rules: list[tuple[str, dict[str, Any]]] = [
        ("images without a tag", {"tagStatus": "untagged", "countType": "sinceImagePushed",
                                  "countUnit": "days", "countNumber": int(untagged_days)}),
        ("the oldest images", {"tagStatus": "any", "countType": "imageCountMoreThan",
                               "countNumber": int(keep_images)}),
    ]  # fmt: skip
    return json.dumps(
        {
            "rules": [
                {
                    "rulePriority": priority,
                    "description": f"expire {what}",
                    "selection": selection,
                    "action": {"type": "expire"},
                }
                for priority, (what, selection) in enumerate(rules, 1)
            ]
        }
    )


def _image(
    name: str,
    args: ServerImageArgs,
    context: BuildContext,
    url: pulumi.Output[str],
    cache: aws.ecr.Repository | None,
    opts: pulumi.ResourceOptions,
) -> docker_build.Image:
    token = aws.ecr.get_authorization_token_output(
        opts=pulumi.InvokeOutputOptions(parent=opts.parent)
    )
    platforms = args.get("platforms") or ["linux/amd64"]
    given: pulumi.Output[Any] = pulumi.Output.from_input(args.get("build_args") or {})
    build_args = given.apply(lambda own: {**context.build_args, **own})
    tag = build_args.apply(lambda known: image_tag(name, context, known, platforms))
    cache_from, cache_to = None, None
    if cache is not None:
        ref = pulumi.Output.concat(cache.repository_url, ":cache")
        cache_from = [
            docker_build.CacheFromArgs(registry=docker_build.CacheFromRegistryArgs(ref=ref))
        ]
        cache_to = [
            docker_build.CacheToArgs(
                registry=docker_build.CacheToRegistryArgs(
                    ref=ref,
                    mode=docker_build.CacheMode.MAX,  # the stage that installs is what takes long
                    image_manifest=True,  # ECR takes no other form of a cache
                    oci_media_types=True,
                    ignore_error=True,
                )
            )
        ]
    return docker_build.Image(
        name,
        context=docker_build.BuildContextArgs(location=str(context.folder)),
        build_args=build_args,
        platforms=[docker_build.Platform(platform) for platform in platforms],
        tags=[pulumi.Output.concat(url, ":", tag)],
        push=True,
        build_on_preview=False,
        cache_from=cache_from,
        cache_to=cache_to,
        registries=[
            docker_build.RegistryArgs(
                address=url,
                username=token.user_name,
                password=pulumi.Output.secret(token.password),
            )
        ],
        opts=opts,
    )
