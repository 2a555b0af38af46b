"""`Bundle`: a quantized, measured and content-addressed model, built by `pulumi up`."""

from typing import Any, NotRequired, TypedDict

import pulumi

from sixways.naming import PluginResource

_OUTPUTS = (
    "name",
    "digest",
    "path",
    "size",
    "reference_size",
    "quality",
    "built_variants",
    "source_sha256",
)


class BundleArgs(TypedDict):
    """Inputs of a `Bundle`. Changing any of them makes a new bundle."""

    source: pulumi.Input[str]
    """Where the model is: `package:<installed Python package>`, `file:<path>` or
    `hf:<org>/<name>@<revision>`."""
    name: NotRequired[pulumi.Input[str]]
    """The bundle's name, which is also the model's name in requests. Default: the resource's."""
    variants: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Variants to build. `auto` stands for the fastest on this machine that holds its quality
    threshold. Default: `["auto"]`."""
    quality_threshold: NotRequired[pulumi.Input[float]]
    """Replaces the variants' own thresholds: the least mean cosine (encoders) or the largest
    perplexity ratio (LLMs). A variant that misses it fails the update."""


class Bundle(PluginResource):
    """A bundle in this machine's cache. An unchanged one is no work; its id is its digest."""

    digest: pulumi.Output[str]
    """`sha256:` and the SHA-256 of the bundle's manifest."""
    path: pulumi.Output[str]
    """The bundle's folder."""
    size: pulumi.Output[int]
    """Bytes of all its variants."""
    reference_size: pulumi.Output[int]
    """Bytes of the source's weights."""
    quality: pulumi.Output[list[dict[str, Any]]]
    """For each variant: `variant`, `metric`, `value`, `worst`, `threshold`, `samples`."""
    built_variants: pulumi.Output[list[str]]
    """The names of its variants; what `auto` chose is among them."""
    name: pulumi.Output[str]
    """The bundle's name."""

    def __init__(
        self, name: str, args: BundleArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Builds the bundle.

        Args:
            name: the resource's name.
            args: see `BundleArgs`.
            opts: the usual resource options.
        """
        outputs = dict.fromkeys(_OUTPUTS)
        super().__init__("sixways:index:Bundle", name, {**outputs, **args}, opts)
