"""Which resource something on a host belongs to: the one that made it last.

A host that gets another name in its stack, or another address, gets new resources, and the old ones
are deleted when those stand. What they would take away is the new ones' by then.
"""

from __future__ import annotations

import secrets

from sixways.server import layout
from sixways.server.ssh import Remote

HOST = f"{layout.ETC}/host.holder"
RELEASE = f"{layout.ETC}/release.holder"
SITE = f"{layout.ETC}/site.holder"


def new() -> str:
    """What a resource is known by on its host."""
    return secrets.token_hex(8)


def take(remote: Remote, path: str, holder: str) -> None:
    """From now on it is this resource's."""
    remote.folder(path.rpartition("/")[0])
    remote.write(path, f"{holder}\n")


def is_anothers(remote: Remote, path: str, holder: str) -> bool:
    """Whether another resource has taken it over; nobody's is not another's."""
    there = remote.read(path)
    return there is not None and there.decode(errors="replace").strip() != holder
