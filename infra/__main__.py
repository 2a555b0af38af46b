"""The program: reads the stack's settings and calls its way."""

import pulumi

from settings import SettingsError, load_settings
from ways import deploy

try:
    settings = load_settings()
except SettingsError as error:
    # RunError prints the message alone: the user's settings are wrong, not the program.
    raise pulumi.RunError(str(error)) from None

endpoint = deploy(settings)

pulumi.export("url", endpoint.url)
pulumi.export("health_url", endpoint.health_url)
pulumi.export("api_key", endpoint.api_key)
pulumi.export("bundle_digest", endpoint.bundle_digest)
pulumi.export("dashboard", endpoint.dashboard)
