"""Inputs that every component on a host of your own shares: how the host is reached."""

import re
from typing import Any, NotRequired, TypedDict

import pulumi

from sixways.checks import Checks, is_plain

_ADDRESS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,252}[A-Za-z0-9])?")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_HOST_KEY = re.compile(
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]{40,}={0,3}( .*)?"
)


class AccessArgs(TypedDict):
    """How a host is reached over ssh."""

    address: pulumi.Input[str]
    """IP address or name of the host."""
    host_key: pulumi.Input[str]
    """The host's public key, as in its `/etc/ssh/ssh_host_ed25519_key.pub`. No other host is talked
    to: `ssh-keyscan ADDRESS` shows it, to be compared with what the host's console says."""
    port: NotRequired[pulumi.Input[int]]
    """Port of its sshd. Default: 22."""
    user: NotRequired[pulumi.Input[str]]
    """Who logs in: root, or a user whose sudo asks for no password. Default: `root`."""
    private_key: NotRequired[pulumi.Input[str]]
    """The key that logs in, OpenSSH or PEM without a passphrase; a secret. Default: those of the
    ssh agent, or in `~/.ssh`, of whoever runs the update."""


def check_access(checks: Checks, access: Any, prefix: str) -> None:
    """Checks one host's access; the types are told by `shapes.misfits`.

    Args:
        checks: collects the problems.
        access: `AccessArgs` as given, perhaps among other fields.
        prefix: what stands before the fields' names in messages: `hosts[0].`.
    """
    if not isinstance(access, dict):
        return
    checks.required(access, "address", "host_key", prefix=prefix)
    checks.matches(f"{prefix}address", access.get("address"), _ADDRESS, "an IP address or a name")
    checks.matches(f"{prefix}user", access.get("user"), _USER, "a user of the host, e.g. root")
    host_key, form = access.get("host_key"), "a line like `ssh-ed25519 AAAA…`"
    if isinstance(host_key, str) and "PRIVATE" in host_key:
        checks.add(f"{prefix}host_key", "(not shown)", f"{form}, and no private key",
                   "take it from /etc/ssh/ssh_host_ed25519_key.pub of the host")  # fmt: skip
    else:
        checks.matches(f"{prefix}host_key", host_key, _HOST_KEY, form,
                       "take it from /etc/ssh/ssh_host_ed25519_key.pub of the host")  # fmt: skip
    checks.number(f"{prefix}port", access.get("port"), 1, 65535, whole=True)
    key = access.get("private_key")
    if isinstance(key, str) and is_plain(key) and "PRIVATE KEY-----" not in key:
        checks.add(f"{prefix}private_key", "(not shown)", "the text of a private key, OpenSSH or "
                   "PEM", "give the file's content, not its name")  # fmt: skip
