"""`SelfSignedCertificate`: for tests, and for the hosts of one server among themselves."""

from typing import NotRequired, TypedDict

import pulumi

from sixways.naming import PluginResource


class SelfSignedCertificateArgs(TypedDict):
    """Inputs of a `SelfSignedCertificate`."""

    names: pulumi.Input[list[pulumi.Input[str]]]
    """DNS names and IP addresses that it is for; the first is its common name."""
    days: NotRequired[pulumi.Input[int]]
    """How long it is valid. In its last 30 days (in the last third, where that is less) the next
    update makes another one. Default: 3650."""
    generation: NotRequired[pulumi.Input[int]]
    """Count it up for another key. Default: 1."""


class SelfSignedCertificate(PluginResource):
    """A certificate that signs itself, with its key; both are in the stack's state alone."""

    certificate: pulumi.Output[str]
    """The certificate (PEM)."""
    private_key: pulumi.Output[str]
    """Its key (PEM, PKCS #8), a secret."""
    not_after: pulumi.Output[str]
    """When it ends, in UTC (RFC 3339)."""

    def __init__(
        self,
        name: str,
        args: SelfSignedCertificateArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Makes key and certificate.

        Args:
            name: the resource's name.
            args: see `SelfSignedCertificateArgs`.
            opts: the usual resource options.
        """
        own = pulumi.ResourceOptions(additional_secret_outputs=["private_key"])
        outputs = {"certificate": None, "private_key": None, "not_after": None}
        super().__init__(
            "sixways:server:SelfSignedCertificate",
            name,
            {**outputs, **args},
            pulumi.ResourceOptions.merge(own, opts),
        )
