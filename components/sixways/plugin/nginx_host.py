"""An Nginx gateway on a host over ssh: the systemd unit `sixways-gateway.service`."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sixways.api.nginx_files import MAIN, Machine
from sixways.plugin.nginx_place import CONF, STOP_SECONDS, Place, no_nginx, version_of
from sixways.server.files import template
from sixways.server.ssh import Remote
from sixways_bundle import BundleError, Problem

UNIT = "sixways-gateway.service"
USER = "sixways-gateway"
FOLDER = "/var/lib/sixways-gateway"
LOGS = "/var/log/sixways-gateway"
_UNIT_FILE = f"/etc/systemd/system/{UNIT}"
_EXPIRY = "/etc/tmpfiles.d/sixways-gateway.conf"
_OWNER = f"{FOLDER}/owner"
_FILES = 8192
_AUTHORITIES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
# Enough to bind a low port in the trial, and nothing more.
_AS_USER = (
    "setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups",
    "--bounding-set=-all,+net_bind_service", "--inh-caps=-all,+net_bind_service",
    "--ambient-caps=-all,+net_bind_service", "--",
)  # fmt: skip


class OnHost(Place):
    """The one gateway of a host.

    Args:
        remote: the host.
        owner: the resource's URN; a host has one gateway, and that of another stack is not touched.
    """

    folder = FOLDER

    def __init__(self, remote: Remote, owner: str) -> None:
        self._remote = remote
        self._owner = owner

    def machine(self) -> Machine:
        """See `Place`."""
        done = self._remote.run("sh", "-c", "command -v systemctl && command -v nginx", check=False)
        if not done.ok:
            raise no_nginx(f"{self._remote.access}")
        found = [path for path in _AUTHORITIES if self._remote.exists(path)]
        return Machine(
            version=version_of(self._remote.run("nginx", "-v").stderr),
            user=None,
            authorities=(found or list(_AUTHORITIES))[0],
            files=_FILES,
        )

    def require_free(self, listen: str, port: int) -> None:
        """See `Place`."""
        done = self._remote.run("ss", "-Hltnp", f"sport = :{port}", check=False)
        if done.ok and done.stdout.strip():
            raise BundleError(
                f"port {port} of {self._remote.access.address} cannot be used",
                [Problem("port", str(port), f"a port that nobody uses ({done.stdout.split()[-1]} "
                         "listens there)", "stop that program, or choose another port")],
            )  # fmt: skip

    def prepare(self) -> None:
        """See `Place`."""
        remote = self._remote
        known = remote.read(_OWNER)
        if known is not None and known.decode() != self._owner:
            raise BundleError(
                f"{remote.access.address} has a gateway already",
                [Problem("host", remote.access.address, f"a host without the gateway of "
                         f"{known.decode()}", "choose another host, or destroy that one")],
            )  # fmt: skip
        if known is None:  # before anything else: an interrupted update must know its own
            remote.folder(FOLDER, mode=0o700)
            remote.write(_OWNER, self._owner)
        if not remote.run("id", USER, check=False).ok:
            options = ("--system", "--user-group", "--no-create-home", "--home-dir", FOLDER)
            remote.run("useradd", *options, "--shell", "/usr/sbin/nologin", USER)
        # The gateway may write there, but put no link in the place of what root writes.
        remote.folder(FOLDER, mode=0o1770, owner=f"root:{USER}")
        remote.folder(f"{FOLDER}/tmp", mode=0o770, owner=f"root:{USER}")  # noqa: S108 - of its own
        remote.folder(LOGS, mode=0o700, owner=f"{USER}:{USER}")
        remote.run("ln", "-sfn", LOGS, f"{FOLDER}/logs")
        unit = template("sixways.api", "files", UNIT).render(
            folder=FOLDER,
            logs=LOGS,
            user=USER,
            nginx=remote.run("sh", "-c", "command -v nginx").stdout.strip(),
            stop_seconds=math.ceil(STOP_SECONDS),
        )
        if remote.write(_UNIT_FILE, unit):
            remote.run("systemctl", "daemon-reload")

    def running(self) -> bool:
        """See `Place`."""
        return self._remote.run("systemctl", "is-active", "-q", UNIT, check=False).ok

    def start(self) -> None:
        """See `Place`."""
        done = self._remote.run("systemctl", "enable", "--now", UNIT, check=False)
        if not done.ok:
            said = self._remote.run("journalctl", "-u", UNIT, "-n", "15", "-o", "cat", check=False)
            self._remote.run("systemctl", "disable", "--now", UNIT, check=False)
            raise BundleError(f"Nginx does not start on {self._remote.access.address}: "
                              f"{said.stdout.strip() or done.stderr.strip()}")  # fmt: skip

    def reload(self) -> None:
        """See `Place`."""
        self._remote.run("systemctl", "reload", UNIT)

    def stop(self) -> None:
        """See `Place`."""
        self._remote.run("systemctl", "disable", "--now", UNIT, check=False)

    def remove(self) -> None:
        """See `Place`. That of another stack stays."""
        known = self._remote.read(_OWNER)
        if known is None or known.decode() != self._owner:
            return
        self.stop()
        self._remote.remove(_UNIT_FILE, _EXPIRY, FOLDER, LOGS)
        self._remote.run("systemctl", "daemon-reload")
        self._remote.run("userdel", USER, check=False)

    def link(self) -> str | None:
        """See `Place`."""
        done = self._remote.run("readlink", f"{FOLDER}/{CONF}", check=False)
        return done.stdout.strip().removeprefix(f"{CONF}-") if done.ok else None

    def point(self, configuration: str) -> None:
        """See `Place`."""
        fresh = f"{FOLDER}/{CONF}.new"
        self._remote.run("ln", "-sfn", f"{CONF}-{configuration}", fresh)
        self._remote.run("mv", "-T", fresh, f"{FOLDER}/{CONF}")

    def stage(self, configuration: str, files: Mapping[str, str]) -> None:
        """See `Place`; the gateway may read its files, and write none of them."""
        folder = f"{FOLDER}/{CONF}-{configuration}"
        self._remote.remove(folder)
        self._remote.folder(folder, mode=0o750, owner=f"root:{USER}")
        for name, text in files.items():
            self._remote.write(f"{folder}/{name}", text, mode=0o640, owner=f"root:{USER}")

    def staged(self, configuration: str) -> dict[str, str] | None:
        """See `Place`."""
        folder = f"{FOLDER}/{CONF}-{configuration}"
        if not self._remote.exists(f"{folder}/{MAIN}"):
            return None
        names = self._remote.run("ls", "-A", folder).stdout.split()
        found = {name: self._remote.read(f"{folder}/{name}") for name in names}
        return {name: data.decode(errors="replace") for name, data in found.items() if data}

    def drop(self, *, but: str | None) -> None:
        """See `Place`."""
        listed = self._remote.run(
            "sh", "-c", f'cd "$1" && ls -d {CONF}-*', "in", FOLDER, check=False
        )
        names = [name for name in listed.stdout.split() if name != f"{CONF}-{but}"]
        self._remote.remove(*(f"{FOLDER}/{name}" for name in names))

    def test(self, configuration: str) -> str | None:
        """See `Place`."""
        done = self._remote.run(
            *_AS_USER, "nginx", "-t", "-q", "-p", f"{FOLDER}/", "-e", f"{FOLDER}/error.log",
            "-c", f"{CONF}-{configuration}/{MAIN}", check=False,
        )  # fmt: skip
        return None if done.ok else done.stderr.strip()

    def said(self, after: int) -> str:
        """See `Place`."""
        return self._remote.run("tail", "-c", f"+{after + 1}", f"{FOLDER}/error.log").stdout

    def said_bytes(self) -> int:
        """See `Place`."""
        done = self._remote.run("stat", "-c", "%s", f"{FOLDER}/error.log", check=False)
        return int(done.stdout) if done.ok else 0

    def expire_logs(self, days: int) -> None:
        """See `Place`; here systemd-tmpfiles does it, each day."""
        self._remote.write(_EXPIRY, f"e {LOGS} - - - {days}d\n")
