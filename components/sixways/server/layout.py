"""Where things lie on a host. Everything of ours is below these, and below nothing else.

Two slots stand beside each other, `blue` and `green`: one serves, the other is empty or is being
made ready. Nginx looks for one file to know which: no reload is needed to move the traffic, so no
connection of a caller is closed by it.
"""

from __future__ import annotations

USER = "sixways"
"""Whom the server runs as; also a group."""

HOME = "/opt/sixways"
BUNDLES = f"{HOME}/bundles"
"""`BUNDLES/HEX`: a bundle, under the digits of its digest; root's, never changed."""
VENVS = f"{HOME}/venvs"
"""`VENVS/ID`: an environment, under the digest of what was asked for; never changed once whole."""
WHEELS = f"{HOME}/wheels"
"""`WHEELS/SHA256/NAME`: wheels that were sent to a host without an index."""
SUPERVISOR = f"{HOME}/supervisor"
"""The environment of supervisord, on hosts without systemd."""
RELEASES = f"{HOME}/releases"
"""`RELEASES/ID/release.json`: what one release is made of, for the way back."""
INCOMING = f"{HOME}/incoming"
"""Where uploads of the login's user arrive, until they are verified and moved."""

ETC = "/etc/sixways"
OWNER = f"{ETC}/owner.json"
"""Which stack the host belongs to. Another one is refused."""
KEYS = f"{ETC}/keys.json"
"""The hashes of the keys; a change counts within a second."""
GREEN_IS_LIVE = f"{ETC}/live/green"
"""There: slot green serves. Not there: blue does."""
TLS = f"{ETC}/tls"
STATE = "/var/lib/sixways"
LOGS = "/var/log/sixways"
NGINX_SITE = "/etc/nginx/conf.d/sixways.conf"
FLEET_SYSCTL = "/etc/sysctl.d/60-sixways.conf"
"""How soon the hosts of a fleet take one for dead that has lost its power."""

SLOTS = ("blue", "green")
PORTS = {"blue": 5001, "green": 5002}
"""Where each slot listens, on loopback."""
FLEET_PORT = 5443
"""Where the hosts of one server reach each other, with a certificate on both sides."""


def unit(slot: str) -> str:
    """The systemd unit of a slot; each has a file of its own, so a release changes one alone."""
    return f"sixways-server@{slot}.service"


def config(slot: str) -> str:
    """The configuration of a slot's server."""
    return f"{ETC}/{slot}.json"
