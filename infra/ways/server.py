"""Way `server`: the models on hosts of your own, over ssh.

`sixways:server` holds the inputs of `PrivateServer` (`server_settings.py`).
"""

from __future__ import annotations

import pulumi

from settings import Settings
from sixways.server import PrivateServer
from ways.bundles import bundle_of
from ways.server_settings import Parts


def deploy(settings: Settings) -> PrivateServer:
    """One bundle a model, and the hosts that serve them all.

    Raises:
        InputsRefused: settings are wrong; carries every problem, and nothing was created.
    """
    parts = Parts(settings)
    parts.refuse()

    bundles = {model.name: bundle_of(model) for model in settings.models}
    endpoint = PrivateServer(
        "server", parts.server({n: (b.path, b.digest) for n, b in bundles.items()})
    )
    pulumi.export("urls", endpoint.urls)
    pulumi.export("certificate", endpoint.certificate)
    pulumi.export("slots", endpoint.slots)
    return endpoint
