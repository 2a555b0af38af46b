"""`ContainerImage`: the server's image in any registry, or in this machine's Docker engine."""

from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_docker_build as docker_build

from sixways.checks import Checks, InputsRefused
from sixways.container.registry import check_repository, logins
from sixways.image import check_build_inputs
from sixways.image_build import by_digest, check_plain, image_tag, is_by_digest, project_context
from sixways_bundle import Problem

LOCAL_REPOSITORY = "localhost/sixways-server"
"""What the image is called in the Docker engine, where it is not pushed."""
_WHERE = ("image_uri", "repository", "load")
_OF_A_BUILD = ("repository", "username", "password", "load", "package", "extras", "build_args",
               "dockerfile", "platforms")  # fmt: skip


class ContainerImageArgs(TypedDict):
    """Inputs of a `ContainerImage`: one of `image_uri`, `repository` and `load`."""

    image_uri: NotRequired[pulumi.Input[str]]
    """An existing image by digest, `REPOSITORY@sha256:…`; then nothing is built."""
    repository: NotRequired[pulumi.Input[str]]
    """The repository that the image is built for and pushed to: `ghcr.io/shop/sixways-server`."""
    load: NotRequired[bool]
    """Builds it for this machine's Docker engine alone, without a registry. Default: false."""
    username: NotRequired[pulumi.Input[str]]
    """Who pushes. Default: the login that `docker login` left on the machine that builds."""
    password: NotRequired[pulumi.Input[str]]
    """Password or token of `username`, a secret."""
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
    """`linux/amd64`, `linux/arm64` or both; with `load` one alone. Default: `linux/amd64`."""


def problems(name: str, args: ContainerImageArgs) -> list[Problem]:
    """What is wrong with the inputs, as far as they are known; reads no file."""
    checks = Checks()
    checks.known(args, ContainerImageArgs)
    check_plain(checks, args)
    uri, load = args.get("image_uri"), args.get("load")
    given = [field for field in _WHERE if args.get(field)]
    if len(given) != 1 and uri is None:
        checks.add("repository", None if not given else ", ".join(given),
                   "one of image_uri, repository and load",
                   "say where the image is, or where it is pushed to")  # fmt: skip
    if uri is not None:
        for field in _OF_A_BUILD:
            if args.get(field) is not None:
                checks.add(field, "given", "no such input beside image_uri, which builds nothing",
                           f"remove image_uri or {field}")  # fmt: skip
    if isinstance(uri, str) and not is_by_digest(uri):
        checks.add("image_uri", uri, "REPOSITORY@sha256:… : a tag can be moved to another image",
                   f"docker buildx imagetools inspect {uri or 'IMAGE'}")  # fmt: skip
    if load is not None and not isinstance(load, bool | pulumi.Output):
        checks.add("load", load, "true or false")
    check_repository(checks, args)
    platforms = args.get("platforms")
    check_build_inputs(
        checks,
        package=args.get("package"),
        extras=args.get("extras"),
        build_args=args.get("build_args"),
        platforms=platforms,
    )
    if load and isinstance(platforms, list) and len(platforms) > 1:
        checks.add("platforms", ", ".join(map(str, platforms)), "one platform beside load",
                   "name this machine's")  # fmt: skip
    return checks.problems


class ContainerImage(pulumi.ComponentResource):
    """The model server's image, built with BuildKit and named by its digest.

    Each tag is made from what went into the build, so a tag never means two images, and an
    unchanged source builds nothing.
    """

    image_uri: pulumi.Output[str]
    """`REPOSITORY@sha256:…`; with `load` the image's name and tag in the Docker engine."""
    digest: pulumi.Output[str]
    """`sha256:…` of the image."""

    def __init__(
        self, name: str, args: ContainerImageArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Builds and pushes the image; or takes the one given.

        Args:
            name: the resource's name.
            args: see `ContainerImageArgs`.
            opts: the usual resource options.

        Raises:
            InputsRefused: the inputs are wrong, or a file they name is missing.
        """
        found = problems(name, args)
        if found:
            raise InputsRefused(f"ContainerImage {name}", found)
        super().__init__("sixways:container:ContainerImage", name, None, opts)
        given = args.get("image_uri")
        if given is not None:
            self.image_uri = pulumi.Output.from_input(given)
            self.digest = self.image_uri.apply(
                lambda known: by_digest("ContainerImage", known)["digest"]
            )
        else:
            self._build(name, args)
        self.register_outputs({"image_uri": self.image_uri, "digest": self.digest})

    def _build(self, name: str, args: ContainerImageArgs) -> None:
        context = project_context("ContainerImage", name, args)
        load = args.get("load") is True
        repository = pulumi.Output.from_input(LOCAL_REPOSITORY if load else args["repository"])
        platforms = args.get("platforms") or ["linux/amd64"]
        given: pulumi.Output[Any] = pulumi.Output.from_input(args.get("build_args") or {})
        build_args = given.apply(lambda own: {**context.build_args, **own})
        tag = build_args.apply(lambda known: image_tag(f"{name}-image", context, known, platforms))
        image = docker_build.Image(
            f"{name}-image",
            context=docker_build.BuildContextArgs(location=str(context.folder)),
            build_args=build_args,
            platforms=[docker_build.Platform(platform) for platform in platforms],
            tags=[pulumi.Output.concat(repository, ":", tag)],
            push=not load,
            load=load,
            build_on_preview=False,
            registries=None if load else logins(args),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.digest = image.digest
        by_tag = pulumi.Output.concat(repository, ":", tag)
        # The engine knows an image that came from no registry by no digest.
        self.image_uri = (
            pulumi.Output.all(by_tag, image.id).apply(lambda known: str(known[0]))
            if load
            else pulumi.Output.concat(repository, "@", image.digest)
        )
