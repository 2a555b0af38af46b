"""Where an Nginx gateway runs: its files, and how it is tried, started, reloaded and stopped.

Below one folder: `conf` is a link to `conf-ID`, whose name is the digest of the files in it, so a
new configuration is whole or not there, and one that somebody else wrote shows.
"""

from __future__ import annotations

import hashlib
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from sixways.api.nginx_files import LOG_FOLDER, Machine
from sixways_bundle import BundleError, Problem

RELOAD_SECONDS = 20.0
STOP_SECONDS = 30.0
CONF = "conf"
_BEGUN, _LEAVING = re.compile(r"start worker process \d+"), re.compile(r"gracefully shutting down")
_LEAVE_SECONDS = 2.0
# Not "alert": so an old worker says that it closed what did not end in time.
_FAILED = re.compile(r"\[emerg\] (.*)")
_VERSION = re.compile(r"nginx/(\d+)\.(\d+)\.(\d+)")
Report = Callable[[str], None]


def configuration_id(files: Mapping[str, str]) -> str:
    """The digest of the files, as part of a folder's name."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name].encode())}\0{files[name]}".encode())
    return digest.hexdigest()[:24]


class Place(ABC):
    """A machine, and the folder of one gateway on it.

    Attributes:
        folder: the gateway's folder, absolute.
    """

    folder: str

    @abstractmethod
    def machine(self) -> Machine:
        """What the files must know of the machine.

        Raises:
            BundleError: it has no Nginx.
        """

    @abstractmethod
    def require_free(self, listen: str, port: int) -> None:
        """Raises `BundleError` where somebody else listens there."""

    @abstractmethod
    def prepare(self) -> None:
        """Makes the folder be there, readable by the gateway alone."""

    @abstractmethod
    def running(self) -> bool:
        """Whether the gateway's own process lives."""

    @abstractmethod
    def start(self) -> None:
        """Starts it; raises `BundleError` with Nginx's words where it does not."""

    @abstractmethod
    def reload(self) -> None:
        """Asks it to read `conf` again."""

    @abstractmethod
    def stop(self) -> None:
        """Lets it answer what it has accepted, and ends it. Not running is success."""

    @abstractmethod
    def remove(self) -> None:
        """Stops it and takes away everything of it."""

    @abstractmethod
    def link(self) -> str | None:
        """The ID that `conf` leads to."""

    @abstractmethod
    def point(self, configuration: str) -> None:
        """Makes `conf` lead to that ID, atomically."""

    @abstractmethod
    def stage(self, configuration: str, files: Mapping[str, str]) -> None:
        """Writes the files of an ID, for the gateway alone."""

    @abstractmethod
    def staged(self, configuration: str) -> dict[str, str] | None:
        """The files of an ID as they are; None where there are none."""

    @abstractmethod
    def drop(self, *, but: str | None) -> None:
        """Removes the files of every ID but one."""

    @abstractmethod
    def test(self, configuration: str) -> str | None:
        """What Nginx says against the files of an ID; None: nothing."""

    @abstractmethod
    def said(self, after: int) -> str:
        """The error log from that byte on."""

    @abstractmethod
    def said_bytes(self) -> int:
        """The length of the error log."""

    @abstractmethod
    def expire_logs(self, days: int) -> None:
        """Removes daily logs older than that; where the machine can, it does so by itself."""

    def live(self) -> str | None:
        """The ID that is configured; None where its files are not those that its name says."""
        configuration = self.link()
        files = self.staged(configuration) if configuration else None
        if files is None or configuration_id(files) != configuration:
            return None
        return configuration

    def deploy(self, files: Mapping[str, str], report: Report) -> str:
        """Makes the gateway run with these files, or changes nothing.

        Args:
            files: its configuration.
            report: told what is being done.

        Returns:
            The configuration's ID.

        Raises:
            BundleError: Nginx refuses them, or does not start or reload with them.
        """
        new, old = configuration_id(files), self.link()
        self.prepare()
        self.stage(new, files)
        report("nginx -t")
        refused = self.test(new)
        if refused is not None:
            self.drop(but=old)
            raise BundleError(
                f"Nginx refuses the gateway's configuration: {_hidden(refused, files)}"
            )
        self.point(new)
        try:
            if self.running():
                report("reload")
                self._reload()
            else:
                report("start")
                self.start()
        except BundleError as error:
            # A reload that fails leaves the old configuration at work; now the files say so again.
            if old is not None:
                self.point(old)
            self.drop(but=old)
            raise BundleError(_hidden(error.message, files), error.problems) from None
        self.drop(but=new)
        return new

    def _reload(self) -> None:
        before = self.said_bytes()
        self.reload()
        end = time.monotonic() + RELOAD_SECONDS
        while time.monotonic() < end:
            said = self.said(before)
            failed = _FAILED.search(said)
            if failed:
                raise BundleError(f"Nginx does not take the new configuration: {failed[1]}")
            # The old workers accept for a moment longer, by the old rules.
            begun, leaving = len(_BEGUN.findall(said)), len(_LEAVING.findall(said))
            if leaving:
                end = min(end, time.monotonic() + _LEAVE_SECONDS)
            if begun and leaving >= begun:
                return
            time.sleep(0.02)
        if _LEAVING.search(self.said(before)):
            return  # fewer left than came: one had ended before
        raise BundleError(f"Nginx did not reload within {RELOAD_SECONDS:g} s; see its error.log "
                          f"in {self.folder}")  # fmt: skip


def version_of(said: str) -> tuple[int, ...]:
    """The version in what `nginx -v` says.

    Raises:
        BundleError: there is none.
    """
    found = _VERSION.search(said)
    if found is None:
        raise BundleError(f"`nginx -v` says no version: {said.strip()!r}")
    return tuple(map(int, found.groups()))


def no_nginx(where: str) -> BundleError:
    """There is no Nginx on that machine."""
    return BundleError(
        f"{where} has no Nginx",
        [Problem("nginx", "", "Nginx 1.18 or newer on the PATH",
                 "apt install nginx-light, or dnf install nginx")],
    )  # fmt: skip


def log_path(folder: str) -> str:
    """The daily access logs."""
    return f"{folder}/{LOG_FOLDER}/access-*.json"


def _hidden(words: str, files: Mapping[str, str]) -> str:
    """Nginx's words without what stands in quotes in the keys' file."""
    for secret in re.findall(r'"(?:\S+ )?([^"\s]{16,})"', files["keys.conf"]):
        words = words.replace(secret.lstrip("\\"), "…")
    return words
