"""`BundleImage`: a bundle as an OCI image of its files alone, which a cluster mounts read-only."""

from typing import NotRequired, TypedDict

import pulumi
import pulumi_docker_build as docker_build

from sixways.checks import DIGEST, Checks, InputsRefused
from sixways.container.registry import check_repository, logins
from sixways.image import check_build_inputs
from sixways_bundle import Problem

DOCKERFILE = "FROM scratch\nCOPY --chmod=0555 . /\n"
"""Readable by every user: the server's is not the one that built it."""


class BundleImageArgs(TypedDict):
    """Inputs of a `BundleImage`."""

    path: pulumi.Input[str]
    """The bundle's folder (`Bundle.path`)."""
    digest: pulumi.Input[str]
    """The bundle's digest (`Bundle.digest`), from which the tag is made."""
    repository: pulumi.Input[str]
    """The repository that it is pushed to: `ghcr.io/shop/sixways-bundles`."""
    username: NotRequired[pulumi.Input[str]]
    """Who pushes. Default: the login that `docker login` left on the machine that builds."""
    password: NotRequired[pulumi.Input[str]]
    """Password or token of `username`, a secret."""
    platforms: NotRequired[list[str]]
    """Those of the nodes, which take no image made for another: `linux/amd64`, `linux/arm64` or
    both. The files are the same. Default: `linux/amd64`."""


def problems(name: str, args: BundleImageArgs) -> list[Problem]:
    """What is wrong with the inputs, as far as they are known; reads no file."""
    checks = Checks()
    checks.known(args, BundleImageArgs)
    checks.required(args, "path", "digest", "repository")
    digest = args.get("digest")
    if isinstance(digest, str) and digest and not DIGEST.fullmatch(digest):
        checks.add("digest", digest, "sha256:… with 64 hexadecimal digits", "take Bundle.digest")
    check_repository(checks, args)
    check_build_inputs(checks, platforms=args.get("platforms"))
    return checks.problems


class BundleImage(pulumi.ComponentResource):
    """A bundle in a registry. It holds no program: a pod mounts it beside the server's image, so a
    new server pulls no model again and a new model no server.

    Any machine with the same bundle makes the same tag. The image's own digest covers the files'
    times too and may differ from machine to machine; the server trusts the bundle's digest alone.
    """

    image_uri: pulumi.Output[str]
    """`REPOSITORY@sha256:…`, what `ModelDeployment` takes as a model's `image`."""
    digest: pulumi.Output[str]
    """`sha256:…` of the image; not the bundle's."""

    def __init__(
        self, name: str, args: BundleImageArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Builds and pushes the image.

        Args:
            name: the resource's name.
            args: see `BundleImageArgs`.
            opts: the usual resource options.

        Raises:
            InputsRefused: the inputs are wrong.
        """
        found = problems(name, args)
        if found:
            raise InputsRefused(f"BundleImage {name}", found)
        super().__init__("sixways:container:BundleImage", name, None, opts)
        repository = pulumi.Output.from_input(args["repository"])
        tag = pulumi.Output.from_input(args["digest"]).apply(
            lambda digest: digest.removeprefix("sha256:")
        )
        image = docker_build.Image(
            f"{name}-image",
            context=docker_build.BuildContextArgs(location=args["path"]),
            dockerfile=docker_build.DockerfileArgs(inline=DOCKERFILE),
            platforms=[
                docker_build.Platform(one) for one in args.get("platforms") or ["linux/amd64"]
            ],
            tags=[pulumi.Output.concat(repository, ":", tag)],
            push=True,
            build_on_preview=False,
            registries=logins(args),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.digest = image.digest
        self.image_uri = pulumi.Output.concat(repository, "@", image.digest)
        self.register_outputs({"image_uri": self.image_uri, "digest": self.digest})
