"""The server's Python environment on a host: pinned, under the digest of what was asked for.

Its wheels come from an index, held to the versions that this release of sixways was tried with, or
from a folder on this machine: then each is sent once, by its digest, and pip sees no network.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from sixways.server import layout
from sixways.server.ssh import HostError, Remote
from sixways.server.transfer import Item, deliver, hashes, link, missing_bytes
from sixways.server.work import Sending, Work
from sixways_bundle import BundleError, Problem
from sixways_bundle.cache import file_sha256, key_of, root

_INSTALL_SECONDS = 3600.0
_MARK = "whole.json"
_TOLD = ("Collecting ", "Downloading ", "Using cached ", "Installing ", "Processing ")
_UNPACKED = {"server": 0.9e9, "torch": 6e9, "tensorflow": 2.2e9, "vllm": 14e9}
"""Bytes that an extra takes with all it needs, from an index; others take some MB."""
_SMALLEST = 0.1e9
# What pip reads from an index, or unpacks, must not fill a small /tmp. The index's address may
# hold a password, so it is no argument, which everybody on the host could read.
_PIP = (
    'umask 022; mkdir -p "$1/unpacked"; read -r PIP_INDEX_URL; TMPDIR=$1/unpacked; export TMPDIR; '
    '[ -z "$PIP_INDEX_URL" ] || export PIP_INDEX_URL; shift; exec "$@" 2>&1'
)


@dataclass(frozen=True)
class Wheel:
    """A wheel of the folder: as it is sent, and the bytes it takes once installed."""

    item: Item
    unpacked: int

    @property
    def place(self) -> str:
        """Where it lies on a host."""
        return f"{layout.WHEELS}/{self.item.sha256}/{self.item.local.name}"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What an environment is made of.

    Attributes:
        requirement: what pip is asked for: `sixways[server]==0.1.0`.
        python: the interpreter on the host.
        wheels: all that may be installed; None: an index has them.
        index_url: another index than the host's own.
        constraints: versions that are held to, where they come from an index.
        extras: those of the requirement, for the estimate of its size.
    """

    requirement: str
    python: str
    wheels: tuple[Wheel, ...] | None = None
    index_url: str | None = field(default=None, repr=False)
    constraints: str = ""
    extras: tuple[str, ...] = ()

    def id(self, remote: Remote) -> str:
        """The digest of all that decides what is installed; the interpreter's version too."""
        done = remote.run(self.python, "-c", "import sys; print(*sys.version_info[:2])",
                          check=False)  # fmt: skip
        if not done.ok or tuple(map(int, done.stdout.split())) < (3, 11):
            raise HostError(
                f"{remote.access} has no Python for the server",
                [Problem("python", self.python, "an interpreter of Python 3.11 or newer on the "
                         "host", "install one, or name it")],
            )  # fmt: skip
        wheels = sorted((w.item.local.name, w.item.sha256) for w in self.wheels or ())
        return key_of(
            requirement=self.requirement,
            python=[self.python, done.stdout.strip()],
            wheels=wheels,
            constraints=self.constraints if self.wheels is None else "",
        )[:16]

    @property
    def unpacked(self) -> int:
        """Bytes it takes, about."""
        if self.wheels is not None:
            return sum(wheel.unpacked for wheel in self.wheels)
        return int(_SMALLEST + sum(_UNPACKED.get(extra, 0.0) for extra in self.extras))


def wheels_of(folder: Path) -> tuple[Wheel, ...]:
    """The wheels of a folder on this machine.

    Raises:
        BundleError: it is none, or one of its wheels is damaged.
    """
    paths = sorted(folder.glob("*.whl"))
    if not paths:
        raise BundleError(
            "there are no wheels for the host",
            [Problem("wheelhouse", str(folder), "a folder with wheels of sixways[server] and all "
                     "it depends on, for the host's Python and processor",
                     "fill it: pip download --only-binary=:all: --dest FOLDER 'sixways[server]'")],
        )  # fmt: skip
    return tuple(_wheel(path) for path in paths)


def _wheel(path: Path) -> Wheel:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
    except (OSError, zipfile.BadZipFile) as error:
        raise BundleError(
            f"{path} cannot be read: {error}",
            [Problem("wheelhouse", path.name, "whole wheels", "download it again")],
        ) from None
    return Wheel(Item(path, file_sha256(path, root()), path.stat().st_size), unpacked)


def is_whole(remote: Remote, place: str) -> bool:
    """Whether the environment at `place` was made to its end and its interpreter still runs."""
    return (
        remote.exists(f"{place}/{_MARK}")
        and remote.run(f"{place}/bin/python", "-c", "", check=False).ok
    )


def wheels_to_send(remote: Remote, environment: Environment) -> tuple[list[Wheel], int]:
    """The wheels that the host lacks, and the bytes of them that did not arrive yet."""
    wheels = environment.wheels or ()
    there = hashes(remote, [wheel.place for wheel in wheels]) if wheels else {}
    missing = [wheel for wheel in wheels if there.get(wheel.place) != wheel.item.sha256]
    return missing, missing_bytes(remote, [wheel.item for wheel in missing])


def make(remote: Remote, environment: Environment, place: str, work: Work) -> None:
    """Makes the environment at `place`, whole or not at all.

    Raises:
        HostError: pip could not install it; says why in pip's words.
    """
    if is_whole(remote, place):
        return
    remote.remove(place)
    missing, size = wheels_to_send(remote, environment)
    sending = Sending(work, "upload wheels", size)
    for wheel in missing:
        remote.remove(wheel.place)  # a damaged one
        deliver(remote, wheel.item, wheel.place, sending)
    try:
        _install(remote, environment, place, work)
    except BaseException:
        remote.remove(place)
        raise


def wheels_in(remote: Remote, places: Sequence[str]) -> set[str]:
    """The SHA-256 of the wheels that these environments were made of."""
    found: set[str] = set()
    for place in places:
        mark = remote.read(f"{place}/{_MARK}")
        if mark is not None:
            found.update(msgspec.json.decode(mark, type=dict[str, list[str]])["wheels"])
    return found


def _install(remote: Remote, environment: Environment, place: str, work: Work) -> None:
    work.say("environment", environment.requirement)
    remote.folder(layout.VENVS)
    _run(remote, environment, place, [environment.python, "-m", "venv", place], work)
    options = ["--no-index", "--find-links", f"{place}/wheels"]
    if environment.wheels is None:
        remote.write(f"{place}/constraints.txt", environment.constraints)
        options = ["--constraint", f"{place}/constraints.txt"]
    for wheel in environment.wheels or ():
        link(remote, wheel.place, f"{place}/wheels/{wheel.item.local.name}")
    pip = [f"{place}/bin/python", "-m", "pip", "install", "--no-input", "--no-cache-dir",
           "--disable-pip-version-check", "--only-binary=:all:", "--progress-bar", "off",
           *options, environment.requirement]  # fmt: skip
    _run(remote, environment, place, pip, work)
    remote.remove(f"{place}/wheels", f"{place}/unpacked")
    mark: Mapping[str, list[str]] = {
        "wheels": [wheel.item.sha256 for wheel in environment.wheels or ()]
    }
    remote.write(f"{place}/{_MARK}", msgspec.json.encode(mark))


def _run(
    remote: Remote, environment: Environment, place: str, command: list[str], work: Work
) -> None:
    said: list[str] = []

    def hear(line: str) -> None:
        said.append(line)
        if line.startswith(_TOLD):
            work.say("environment", line[:120])
        work.go_on()

    index = environment.index_url or ""
    done = remote.run("sh", "-c", _PIP, "pip", place, *command, given=f"{index}\n".encode(),
                      check=False, seconds=_INSTALL_SECONDS, on_line=hear)  # fmt: skip
    if not done.ok:
        lines = "\n  ".join(said[-12:])
        raise HostError(
            f"{remote.access}: {environment.requirement} cannot be installed:\n  {lines}"
        )
