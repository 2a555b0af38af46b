"""Bundles on a host: `layout.BUNDLES/HEX`, each whole and verified, or not there.

A file that another bundle on the host has is linked, not sent: a new version of a model shares its
tokenizer with the old one, and often more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sixways.server import layout
from sixways.server.ssh import HostError, Remote
from sixways.server.transfer import Item, deliver, good_copies, link, missing_bytes, texts
from sixways.server.work import Sending, Work
from sixways_bundle import BundleError, Manifest, Problem
from sixways_bundle.manifest import MANIFEST
from sixways_bundle.verify import BUILD_REPORT, SIGNATURE

_VERIFY_SECONDS = 3600.0
_VERIFY = """
import sys
from pathlib import Path
from sixways_bundle import BundleError
from sixways_bundle.verify import verify
try:
    verify(Path(sys.argv[1]), digest=sys.argv[2])
except BundleError as error:
    sys.exit(str(error))
"""


@dataclass(frozen=True)
class Wanted:
    """A bundle that the host shall have: its digest, and its folder on this machine."""

    digest: str
    path: Path

    @property
    def hex(self) -> str:
        """The digits of its digest."""
        return self.digest.removeprefix("sha256:")

    @property
    def place(self) -> str:
        """Its folder on the host."""
        return f"{layout.BUNDLES}/{self.hex}"


@dataclass
class Plan:
    """What the host has of the bundles, and what must be sent.

    Attributes:
        manifests: of each bundle, by digest.
        missing: the bundles that are not whole.
        copies: SHA-256 of a file to a path on the host with those bytes.
        send: the files to send.
        bytes: what they still take.
    """

    manifests: dict[str, Manifest]
    missing: list[Wanted]
    copies: dict[str, str]
    send: dict[str, Item]
    bytes: int


def plan(remote: Remote, bundles: Iterable[Wanted], work: Work) -> Plan:
    """Looks at every byte that the host has of these bundles; changes nothing.

    Raises:
        BundleError: a bundle is neither on the host nor on this machine.
    """
    wanted = list({bundle.digest: bundle for bundle in bundles}.values())
    there = _on_host(remote)
    manifests = {bundle.digest: _manifest(bundle, there) for bundle in wanted}
    files = {e.sha256 for manifest in manifests.values() for e in manifest.files}
    candidates: dict[str, list[str]] = {}
    for place, manifest in there.items():
        for entry in manifest.files:
            if entry.sha256 in files:
                candidates.setdefault(entry.sha256, []).append(f"{place}/{entry.path}")
    if candidates:
        work.say("verify", f"{len(candidates)} files that the host has")
    copies = good_copies(remote, candidates, work.go_on)
    good = set(copies.values())
    missing = [
        bundle
        for bundle in wanted
        if bundle.place not in there
        or not _whole(remote, bundle.place, manifests[bundle.digest], copies, good)
    ]
    send: dict[str, Item] = {}
    for bundle in missing:
        for entry in manifests[bundle.digest].files:
            if entry.sha256 not in copies:
                send[entry.sha256] = Item(bundle.path / entry.path, entry.sha256, entry.size)
    if send:
        for bundle in missing:
            _require(bundle)
    return Plan(manifests, missing, copies, send, missing_bytes(remote, send.values()))


def install(remote: Remote, todo: Plan, python: str, work: Work) -> None:
    """Makes every missing bundle whole.

    Args:
        remote: the host.
        todo: what `plan` found.
        python: interpreter of the environment whose code verifies.
        work: who hears of it.

    Raises:
        HostError: a bundle is not what its digest says, or the host cannot hold it.
    """
    sending = Sending(work, "upload", todo.bytes)
    for bundle in todo.missing:
        manifest = todo.manifests[bundle.digest]
        staging = f"{layout.BUNDLES}/.{bundle.hex}.new"
        remote.remove(staging)
        remote.folder(staging)
        for entry in manifest.files:
            path = f"{staging}/{entry.path}"
            if entry.sha256 in todo.copies:
                link(remote, todo.copies[entry.sha256], path)
            else:
                deliver(remote, todo.send[entry.sha256], path, sending)
                todo.copies[entry.sha256] = path
        remote.write(f"{staging}/{MANIFEST}", manifest.to_bytes())
        for name in (BUILD_REPORT, SIGNATURE):
            if (bundle.path / name).is_file():
                remote.write(f"{staging}/{name}", (bundle.path / name).read_bytes())
        work.say("verify", f"{manifest.name} on the host")
        verify(remote, staging, bundle.digest, python)
        _name(remote, staging, bundle.place)
        for entry in manifest.files:
            todo.copies[entry.sha256] = f"{bundle.place}/{entry.path}"


def verify(remote: Remote, folder: str, digest: str, python: str) -> None:
    """The server's own check of a bundle, as the server's user.

    Raises:
        HostError: says which file differs.
    """
    done = remote.run("runuser", "-u", layout.USER, "--", python, "-I", "-c", _VERIFY, folder,
                      digest, check=False, seconds=_VERIFY_SECONDS)  # fmt: skip
    if not done.ok:
        raise HostError(f"{remote.access}: the bundle is not served: {done.stderr.strip()}")


def _name(remote: Remote, staging: str, place: str) -> None:
    """One that is damaged makes way first; who has its files open goes on reading them."""
    old = f"{layout.BUNDLES}/.{place.rsplit('/', 1)[-1]}.old"
    remote.remove(old)
    if remote.exists(place):
        remote.run("mv", "-T", place, old)
    remote.run("mv", "-T", staging, place)
    remote.remove(old)


def _on_host(remote: Remote) -> dict[str, Manifest]:
    """The bundles on the host, by their folder; whether their files are right is not known."""
    found = {}
    for path, text in texts(remote, layout.BUNDLES, MANIFEST).items():
        try:
            manifest = msgspec.json.decode(text, type=Manifest)
        except msgspec.DecodeError:  # of another version, or damaged: of no use
            continue
        place = path.removesuffix(f"/{MANIFEST}")
        if place.endswith(f"/{manifest.digest.removeprefix('sha256:')}"):
            found[place] = manifest
    return found


def _manifest(bundle: Wanted, there: Mapping[str, Manifest]) -> Manifest:
    """The host's, where it has one: then this machine need not have the bundle any more."""
    return there[bundle.place] if bundle.place in there else _require(bundle)


def _require(bundle: Wanted) -> Manifest:
    """The manifest of the bundle on this machine, which must be the one that is meant."""
    manifest = Manifest.load(bundle.path)
    if manifest.digest != bundle.digest:
        raise BundleError(
            f"{bundle.path} is another bundle",
            [Problem("digest", bundle.digest, f"{manifest.digest}, which is what lies there",
                     "take path and digest from the same bundle")],
        )  # fmt: skip
    return manifest


def _whole(
    remote: Remote, place: str, manifest: Manifest, copies: dict[str, str], good: set[str]
) -> bool:
    """Whether every file of a bundle on the host has its bytes."""
    paths = {f"{place}/{entry.path}": entry.sha256 for entry in manifest.files}
    unread = {sha256: [path] for path, sha256 in paths.items() if path not in good}
    if any(sha256 not in copies for sha256 in unread):
        return False
    # The copy that was read is another bundle's: this one's own may still be damaged.
    return len(good_copies(remote, unread)) == len(unread)
