"""`NginxProcess`: the Nginx behind a `NginxGateway`, here or on a host."""

from pathlib import Path
from typing import Any

import pulumi

from sixways.naming import PluginResource

_OUTPUTS = ("url", "health_url", "log_path", "status", "folder", "version", "configuration")
_SECRETS = ["keys", "upstream_key", "certificate_key", "private_key"]


class NginxProcess(PluginResource):
    """An Nginx of its own, with a configuration of its own. Changes are tried (`nginx -t`) before
    they count, and take a graceful reload; place and address alone make another one."""

    url: pulumi.Output[str]
    """Base URL, without a trailing slash."""
    health_url: pulumi.Output[str]
    """The instances' health path through the gateway."""
    log_path: pulumi.Output[str]
    """The access log; where a day's date is part of its name, with `*` in its place."""
    status: pulumi.Output[str]
    """`running`; after a refresh `stopped` where the process is gone, or `changed` where somebody
    else wrote its files."""
    folder: pulumi.Output[str]
    """Where configuration, log and pid are."""

    def __init__(
        self, name: str, args: dict[str, Any], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Starts it.

        Args:
            name: the resource's name.
            args: what `NginxGateway` makes of its inputs.
            opts: the usual resource options.
        """
        if "host" not in args:
            folder = Path(pulumi.get_root_directory()) / ".sixways" / "run" / pulumi.get_stack()
            args = {"state_dir": str(folder), **args}
        # It owns its port, so there is never a second one beside it.
        own = pulumi.ResourceOptions(additional_secret_outputs=_SECRETS, delete_before_replace=True)
        super().__init__(
            "sixways:api:NginxProcess",
            name,
            {**dict.fromkeys(_OUTPUTS), **args},
            pulumi.ResourceOptions.merge(own, opts),
        )
