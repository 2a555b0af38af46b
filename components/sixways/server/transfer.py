"""Files on their way to a host: named by their SHA-256, so that nothing is sent twice.

A file arrives below `layout.INCOMING` under its digest. What a broken connection left there is its
beginning, and only the rest is sent. It gets its place when the host has read every byte of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sixways.server import layout
from sixways.server.ssh import HostError, Remote
from sixways.server.work import Sending
from sixways_bundle import Problem

_HASH_SECONDS = 3600.0
_AT_ONCE = 200
"""Paths in one command, which sshd gives to a shell as one argument: Linux takes 128 KiB."""
# One line each; what lies there is JSON that has no line breaks.
_TEXTS = 'for f in "$1"/*/"$2"; do [ -f "$f" ] && printf "%s\\t" "$f" && cat "$f" && echo; done; :'
_PLACE = 'chown root:root "$1" && chmod 644 "$1" && install -d -m 755 "${2%/*}" && mv -T "$1" "$2"'


@dataclass(frozen=True)
class Item:
    """A file to send: where it is here, its SHA-256 in hex, and its bytes."""

    local: Path
    sha256: str
    size: int

    @property
    def part(self) -> str:
        """Where it arrives."""
        return f"{layout.INCOMING}/{self.sha256}"


def open_incoming(remote: Remote) -> None:
    """Makes the folder where uploads arrive; it is the login's user's."""
    remote.folder(layout.HOME)
    remote.folder(layout.INCOMING, mode=0o700, owner=remote.access.user)


def missing_bytes(remote: Remote, items: Iterable[Item]) -> int:
    """How many bytes must be sent, beside what arrived before."""
    parts = _parts(remote)
    return sum(item.size - min(parts.get(item.sha256, 0), item.size) for item in items)


def deliver(remote: Remote, item: Item, path: str, sending: Sending) -> None:
    """Sends the file, reads it on the host, and moves it to `path`, root's and never written again.

    Raises:
        HostError: what arrived is not what was meant.
        ConnectionLost: the connection broke; what was sent stays there.
    """
    for _ in range(2):
        there = min(_parts(remote).get(item.sha256, 0), item.size)

        def count(now: int) -> None:
            nonlocal there
            sending.add(now - there)
            there = now

        remote.send(item.local, item.part, on_bytes=count)
        found = hashes(remote, [item.part]).get(item.part, "")
        if found == item.sha256:
            remote.run("sh", "-c", _PLACE, "place", item.part, path)
            return
        remote.remove(item.part)  # its beginning was of another file
    raise HostError(
        f"{remote.access}: {item.local} did not arrive as it should",
        [Problem("sha256", found, item.sha256,
                 "the file was changed on this machine while it was sent, or a disk is faulty")],
    )  # fmt: skip


def link(remote: Remote, source: str, path: str) -> None:
    """The file under another name; it takes no space."""
    remote.run("sh", "-c", 'install -d -m 755 "${2%/*}" && ln -T "$1" "$2"', "link", source, path)


def hashes(
    remote: Remote, paths: Collection[str], on_file: Callable[[], None] | None = None
) -> dict[str, str]:
    """The SHA-256 of each of these files that can be read.

    Args:
        remote: the host.
        paths: absolute, without line breaks.
        on_file: called after each.
    """
    lines: list[str] = []

    def note(line: str) -> None:
        lines.append(line)
        if on_file is not None:
            on_file()

    every = list(paths)
    for start in range(0, len(every), _AT_ONCE):
        some = every[start : start + _AT_ONCE]
        remote.run("sha256sum", "-b", "--", *some, check=False, seconds=_HASH_SECONDS, on_line=note)
    found = (line.split(" *", 1) for line in lines if " *" in line)
    return {path: digest for digest, path in found if len(digest) == 64}


def good_copies(
    remote: Remote,
    candidates: Mapping[str, Collection[str]],
    on_file: Callable[[], None] | None = None,
) -> dict[str, str]:
    """A path for each SHA-256 of which the host really has the bytes.

    Args:
        remote: the host.
        candidates: for each SHA-256 the paths where such a file should be.
        on_file: called after each file that was read.
    """
    found: dict[str, str] = {}
    left = {digest: list(paths) for digest, paths in candidates.items()}
    while batch := {paths.pop(0): digest for digest, paths in left.items() if paths}:
        for path, digest in hashes(remote, list(batch), on_file).items():
            if digest == batch.get(path):
                found[digest] = path
                left[digest] = []
    return found


def texts(remote: Remote, folder: str, name: str) -> dict[str, str]:
    """The one line of each file `folder/*/name`, by its path."""
    said = remote.run("sh", "-c", _TEXTS, "texts", folder, name).stdout
    return dict(line.split("\t", 1) for line in said.splitlines() if "\t" in line)


def free_bytes(remote: Remote, path: str) -> int:
    """What may still be written at `path`, or at what is above it."""
    script = 'p=$1; while [ ! -e "$p" ]; do p=$(dirname "$p"); done; df -B1 --output=avail "$p"'
    return int(remote.run("sh", "-c", script, "free", path).stdout.split()[-1])


def _parts(remote: Remote) -> dict[str, int]:
    done = remote.run("find", layout.INCOMING, "-maxdepth", "1", "-type", "f",
                      "-printf", "%f %s\\n", check=False)  # fmt: skip
    pairs = (line.split(" ") for line in done.stdout.splitlines())
    return {name: int(size) for name, size in pairs}
