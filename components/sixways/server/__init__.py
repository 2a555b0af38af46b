"""Way `server`: bundles on Linux hosts of your own, the server under systemd, Nginx in front of it.

`private_server.py` is the component; its parts are resources of our own plugin, which talk to a
host over ssh. `files.py` writes what such a host needs from the templates in `files/`: every way
that ends on a host with systemd uses the same ones.

Names are loaded when they are first used: `files.py` is for machines without Pulumi's SDK too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sixways.server.certificate import SelfSignedCertificate, SelfSignedCertificateArgs
    from sixways.server.host import Host, HostArgs
    from sixways.server.monitoring import Monitoring, MonitoringArgs
    from sixways.server.private_server import PrivateServer, PrivateServerArgs
    from sixways.server.release import Release, ReleaseArgs
    from sixways.server.site import Site, SiteArgs

_WHERE = {
    "Host": "host",
    "Monitoring": "monitoring",
    "PrivateServer": "private_server",
    "Release": "release",
    "SelfSignedCertificate": "certificate",
    "Site": "site",
}
_WHERE |= {f"{name}Args": module for name, module in _WHERE.items()}

__all__ = [
    "Host",
    "HostArgs",
    "Monitoring",
    "MonitoringArgs",
    "PrivateServer",
    "PrivateServerArgs",
    "Release",
    "ReleaseArgs",
    "SelfSignedCertificate",
    "SelfSignedCertificateArgs",
    "Site",
    "SiteArgs",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
