"""What every host of ours has before anything is released to it: a mark of whose it is, a user,
folders. All of it can be taken away again, and nothing else is.
"""

from __future__ import annotations

import msgspec

from sixways.server import firewall, layout
from sixways.server.facts import Facts
from sixways.server.ssh import HostError, Remote
from sixways_bundle import Problem

_LOCAL_PORT_TYPE = "http_port_t"
# SELinux keeps Nginx from other servers and from ports that are not the web's.
_BOOLEAN = "httpd_can_network_connect"
# A disk that is mounted there is the user's: what is ours on it goes, and it stays mounted.
_EMPTY = r"""
for folder; do
    rm -rf --one-file-system -- "$folder" && continue
    [ "$(find "$folder" -type d -exec mountpoint -q {} \; -print -quit)" ] || exit 1
done
"""


class Mark(msgspec.Struct, kw_only=True, rename="camel"):
    """Whose a host is, and what was changed on it that has to be changed back: `layout.OWNER`.

    Attributes:
        owner: project and stack.
        address: under which the stack knows the host; another resource may take it over.
        user_made: whether the user is ours, and goes with us.
        selinux_boolean: whether it was us who let Nginx connect to servers.
        selinux_port: whether it was us who let Nginx listen on the fleet's port.
    """

    owner: str
    address: str
    user_made: bool = False
    selinux_boolean: bool = False
    selinux_port: bool = False


def load(remote: Remote) -> Mark | None:
    """The host's mark; None: it is nobody's.

    Raises:
        HostError: the file is damaged.
    """
    text = remote.read(layout.OWNER)
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=Mark)
    except msgspec.MsgspecError as error:
        raise HostError(f"{remote.access}: {layout.OWNER} cannot be read: {error}") from None


def save(remote: Remote, mark: Mark) -> None:
    """Marks the host."""
    remote.folder(layout.ETC)
    text = msgspec.json.format(msgspec.json.encode(mark)).decode()
    remote.write(layout.OWNER, f"{text}\n")


def require_ours(mark: Mark | None, owners: tuple[str, ...], host: str) -> None:
    """Refuses a host of somebody else.

    Raises:
        HostError: names whose it is.
    """
    if mark is not None and mark.owner not in owners:
        raise HostError(
            f"{host} serves for another stack",
            [Problem("owner", owners[0], f"{mark.owner}, whose host it is ({layout.OWNER})",
                     "use another host, or destroy that stack first")],
        )  # fmt: skip


def prepare(remote: Remote, facts: Facts, mark: Mark) -> None:
    """User, folders and SELinux. The mark says afterwards what was changed.

    Raises:
        HostError: something of it is in the way.
    """
    _make_user(remote, mark)
    _make_folders(remote)
    if facts.selinux:
        _relax(remote, mark)


def clear(remote: Remote, mark: Mark) -> None:
    """Takes away what `prepare` and the firewall left, the mark last."""
    firewall.remove(remote)
    if mark.user_made and _exists(remote, "passwd"):
        done = remote.run("/usr/sbin/userdel", layout.USER, check=False)
        if not done.ok:
            raise HostError(
                f"{remote.access}: user {layout.USER} cannot be removed: {done.stderr.strip()}",
                [Problem("userMade", layout.USER, "a user without processes",
                         f"end what `ps -u {layout.USER}` shows, and run this again")],
            )  # fmt: skip
    remote.run("sh", "-c", _EMPTY, "empty", layout.HOME, layout.STATE, layout.LOGS)
    if mark.selinux_boolean:
        remote.run("/usr/sbin/setsebool", "-P", _BOOLEAN, "off")
    if mark.selinux_port:
        remote.run("/usr/sbin/semanage", "port", "-d", "-p", "tcp", str(layout.FLEET_PORT),
                   check=False)  # fmt: skip
    remote.remove(layout.ETC)


def difference(remote: Remote) -> str:
    """What is missing of it; empty: nothing."""
    if not _exists(remote, "passwd"):
        return f"user {layout.USER} is gone"
    for folder in _FOLDERS:
        if not remote.exists(folder):
            return f"{folder} is gone"
    return ""


# Rights and owner of each folder; the user's own is where it may write.
_OURS = f"{layout.USER}:{layout.USER}"
_FOLDERS = {
    layout.HOME: (0o755, "root:root"),
    layout.BUNDLES: (0o755, "root:root"),
    layout.VENVS: (0o755, "root:root"),
    layout.RELEASES: (0o755, "root:root"),
    layout.GREEN_IS_LIVE.rpartition("/")[0]: (0o755, "root:root"),
    layout.TLS: (0o700, "root:root"),
    layout.LOGS: (0o750, "root:root"),
    layout.STATE: (0o750, _OURS),
}


def _make_user(remote: Remote, mark: Mark) -> None:
    if _exists(remote, "passwd"):
        return
    if _exists(remote, "group"):
        raise HostError(
            f"{remote.access}: there is a group {layout.USER} without a user of that name",
            [Problem("owner", layout.USER, "neither of them, or both",
                     f"`groupdel {layout.USER}` on the host, if nothing needs it")],
        )  # fmt: skip
    mark.user_made = True
    save(remote, mark)
    remote.run("/usr/sbin/useradd", "--system", "--user-group", "--no-create-home", "--home-dir",
               layout.STATE, "--shell", "/usr/sbin/nologin", layout.USER)  # fmt: skip


def _make_folders(remote: Remote) -> None:
    for folder, (mode, owner) in _FOLDERS.items():
        remote.folder(folder, mode=mode, owner=owner)
    remote.folder(layout.INCOMING, mode=0o700, owner=remote.access.user)


def _exists(remote: Remote, database: str) -> bool:
    return remote.run("getent", database, layout.USER, check=False).ok


def _relax(remote: Remote, mark: Mark) -> None:
    if remote.run("/usr/sbin/getsebool", _BOOLEAN).stdout.split()[-1:] != ["on"]:
        mark.selinux_boolean = True
        save(remote, mark)
        remote.run("/usr/sbin/setsebool", "-P", _BOOLEAN, "on")
    listed = remote.run("/usr/sbin/semanage", "port", "-l").stdout
    ports = {
        port.strip(",")
        for line in listed.splitlines()
        if line.startswith(_LOCAL_PORT_TYPE)
        for port in line.split()[2:]
    }
    if str(layout.FLEET_PORT) not in ports:
        mark.selinux_port = True
        save(remote, mark)
        remote.run("/usr/sbin/semanage", "port", "-a", "-t", _LOCAL_PORT_TYPE, "-p", "tcp",
                   str(layout.FLEET_PORT))  # fmt: skip
