"""What the plugin's resources on a host share: the inputs that reach it, and the way there."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

from sixways.plugin.resource import Call, Values
from sixways.plugin.values import UNKNOWN, is_unknown
from sixways_bundle import Problem
from sixways_bundle.errors import MissingExtra

if TYPE_CHECKING:
    from sixways.server.ssh import Remote

ACCESS = ("address", "port", "user", "hostKey", "privateKey")
"""The inputs of every resource on a host. `address` is what the host is: another is another one."""
ACCESS_DEFAULTS: Values = {"port": 22, "user": "root"}
SECRETS = frozenset({"privateKey"})


def check_access(inputs: Values) -> list[Problem]:
    """What is wrong with the inputs that reach a host; the component checks their forms too."""
    problems = []
    for field in ("address", "hostKey", "user"):
        value = inputs.get(field)
        if value is not UNKNOWN and not (isinstance(value, str) and value):
            problems.append(Problem(field, str(value or ""), "a text", f"give the host's {field}"))
    port = inputs.get("port")
    whole = isinstance(port, int) and not isinstance(port, bool)
    if port is not UNKNOWN and not (whole and 1 <= int(str(port)) <= 65535):
        problems.append(Problem("port", str(port), "a whole number from 1 to 65535", "e.g. 22"))
    return problems


def reachable(inputs: Values) -> bool:
    """Whether all that reaches the host is known: a preview may then look at it."""
    return not is_unknown([inputs[name] for name in ACCESS if name in inputs])


_MODULES = ("ssh", "acme", "facts", "firewall", "ground", "host_site", "nginx", "packages",
            "holder", "releasing")  # fmt: skip


@functools.cache
def load() -> None:
    """Imports what works on a host, before the first call for one and not in its thread.

    Calls run side by side: two that import the same libraries, each beginning elsewhere, would wait
    for each other. Where a library is missing, the call that needs it says so.
    """
    with contextlib.suppress(ImportError):
        for module in _MODULES:
            import_module(f"sixways.server.{module}")
        import_module("cryptography.x509")


@contextlib.contextmanager
def ssh_library() -> Iterator[None]:
    """Around an import of what works on a host.

    Raises:
        MissingExtra: the ssh library is not installed.
    """
    try:
        yield
    except ImportError:
        raise MissingExtra("a host over ssh", "ssh") from None


@contextlib.contextmanager
def leaving(call: Call) -> Iterator[None]:
    """Around a delete on a host: one that is gone for good would keep it from ever ending.

    Raises:
        HostError: the host cannot be reached; says how it is forgotten.
    """
    with ssh_library():
        from sixways.server.ssh import ConnectionLost
    try:
        yield
    except ConnectionLost as error:
        raise ConnectionLost(
            f"{error.message}, and what is on it is to be removed. If the host is gone for good, "
            f"have this resource forgotten, and what else was on it: pulumi state delete "
            f"'{call.urn}'",
            error.problems,
        ) from None


@contextlib.contextmanager
def host(values: Values) -> Iterator[Remote]:
    """A connection to the host of these inputs, or of this state.

    Raises:
        HostError: it cannot be reached.
        MissingExtra: the ssh library is not installed.
    """
    with ssh_library():
        from sixways.server.ssh import Access, connected
    with connected(Access.of(values)) as remote:
        yield remote
