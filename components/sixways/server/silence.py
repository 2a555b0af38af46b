"""When a host takes a connection for dead whose other end says nothing any more.

A host that loses its power closes no connection, so a request that was sent to it waits until the
kernel gives up: after two hours, or a quarter of one. Nginx has no setting for that; the kernel's
counts for the whole host, so it is set on the hosts of a fleet alone.
"""

from __future__ import annotations

from sixways.server import layout
from sixways.server.nginx import File
from sixways.server.ssh import Remote

_SETTINGS = {
    # A request that has arrived: asked after 5 s, and given up after 3 questions, 2 s apart.
    "net.ipv4.tcp_keepalive_time": (5, 7200),
    "net.ipv4.tcp_keepalive_intvl": (2, 75),
    "net.ipv4.tcp_keepalive_probes": (3, 9),
    # One that is on its way: sent again for 13 s, where the hosts are near each other.
    "net.ipv4.tcp_retries2": (5, 15),
}
"""Each with what it is here, and the kernel's own (tcp(7))."""
FILE = File(
    "# Sixways: soon enough for the requests of a host that is gone to be answered by another.\n"
    + "".join(f"{name} = {ours}\n" for name, (ours, _) in _SETTINGS.items())
)


def heed(remote: Remote) -> bool:
    """Has the kernel take up what the file says.

    Returns:
        Whether it did; in some containers nobody may.
    """
    return remote.run("sysctl", "-q", "-p", layout.FLEET_SYSCTL, check=False).ok


def forget(remote: Remote) -> None:
    """Takes the file away; the kernel has its own settings again, or what others have set."""
    if remote.exists(layout.FLEET_SYSCTL):
        remote.remove(layout.FLEET_SYSCTL)
        own = [f"{name}={kernels}" for name, (_, kernels) in _SETTINGS.items()]
        remote.run("sysctl", "-q", "-w", *own, check=False)
        remote.run("sysctl", "-q", "--system", check=False)
