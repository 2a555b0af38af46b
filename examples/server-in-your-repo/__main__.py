"""An embeddings endpoint on hosts of your own, in an infrastructure repository of your own.

The bundle was built and measured by your CI (`sixways bundle build`); this program brings it to the
hosts over ssh, one after the other, and no request fails meanwhile.
"""

import pulumi

from sixways.server import PrivateServer

config = pulumi.Config()
addresses = config.require_object("hosts")
host_keys = config.require_object("host_keys")
email = config.get("email")

search = PrivateServer(
    "search",
    {
        "hosts": [
            {"name": name, "address": address, "host_key": host_keys[name], "user": "deploy"}
            for name, address in addresses.items()
        ],
        "models": [
            {
                "name": "minilm",
                "path": config.require("bundle"),
                "digest": config.require("digest"),
            }
        ],
        "domain": config.require("domain"),
        "tls": {"acme": {"email": email, "agree_tos": True}} if email else {"self_signed": True},
        "limits": {"requests_per_minute": 600, "burst": 60},
    },
)

pulumi.export("url", search.url)
pulumi.export("urls", search.urls)
pulumi.export("api_key", search.api_key)
pulumi.export("digest", search.bundle_digest)
pulumi.export("certificate", search.certificate)
