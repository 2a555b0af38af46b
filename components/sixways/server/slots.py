"""The two slots of a host: which serves, which is free, and the switch between them."""

from __future__ import annotations

import re

from sixways.server import layout
from sixways.server.ssh import HostError, Remote
from sixways_bundle import Problem

_PROCESS = re.compile(r'\("([^"]*)",pid=(\d+)')


def live(remote: Remote) -> str:
    """The slot that Nginx sends requests to."""
    return "green" if remote.exists(layout.GREEN_IS_LIVE) else "blue"


def other(slot: str) -> str:
    """The other slot."""
    return "green" if slot == "blue" else "blue"


def is_taken(remote: Remote, slot: str) -> bool:
    """Whether a release was put into the slot."""
    return remote.exists(layout.config(slot))


def switch(remote: Remote, slot: str) -> None:
    """From the next request on, Nginx sends them to this slot."""
    folder = layout.GREEN_IS_LIVE.rpartition("/")[0]
    remote.folder(folder)
    if slot == "green":
        remote.run("touch", layout.GREEN_IS_LIVE)
    else:
        remote.remove(layout.GREEN_IS_LIVE)


def require_free_port(remote: Remote, slot: str) -> None:
    """Nobody listens where this slot's server will; the slot is empty.

    Raises:
        HostError: somebody does; names the process.
    """
    port = layout.PORTS[slot]
    said = remote.run("ss", "-H", "-l", "-t", "-n", "-p", f"sport = :{port}").stdout.strip()
    if not said:
        return
    who = ", ".join(f"{name} (pid {pid})" for name, pid in _PROCESS.findall(said))
    raise HostError(
        f"{remote.access}: slot {slot} cannot be used",
        [Problem("port", str(port), f"a port of the host that is free; {who or 'a process'} "
                 "listens on it", f"end it, or let it listen elsewhere: Sixways uses "
                 f"{' and '.join(map(str, layout.PORTS.values()))} on loopback")],
    )  # fmt: skip
