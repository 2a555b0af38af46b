"""An Nginx gateway on this machine: a process of whoever runs the update."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import psutil

from sixways.api.nginx_files import Machine
from sixways.local.process import birth, require_free
from sixways.plugin.nginx_place import CONF, STOP_SECONDS, Place, no_nginx, version_of
from sixways_bundle import BundleError
from sixways_bundle.cache import write_atomically

_PID, _PROCESS, _ERRORS = "nginx.pid", "process.json", "error.log"
_START_SECONDS = 15.0


class _Process(msgspec.Struct, frozen=True):
    """Which process is ours: a pid alone is used again."""

    pid: int
    birth: str


class Here(Place):
    """The gateway in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        # Absolute, but as it is spelled: the state must not differ by a link.
        self._folder = Path(os.path.abspath(folder))  # noqa: PTH100
        self.folder = str(self._folder)

    def machine(self) -> Machine:
        """See `Place`."""
        said = subprocess.run([_nginx(), "-v"], capture_output=True, text=True, check=False)
        paths = ssl.get_default_verify_paths()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        return Machine(
            version=version_of(said.stderr),
            # Else the workers were nobody, who may not enter the folder.
            user="root" if os.geteuid() == 0 else None,
            authorities=paths.cafile or paths.openssl_cafile,
            files=8192 if hard == resource.RLIM_INFINITY else min(hard, 8192),
        )

    def require_free(self, listen: str, port: int) -> None:
        """See `Place`."""
        require_free(listen, port)

    def prepare(self) -> None:
        """See `Place`."""
        for name in ("", "logs", "tmp"):
            (self._folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def running(self) -> bool:
        """See `Place`."""
        return self._process() is not None

    def start(self) -> None:
        """See `Place`."""
        # Workers outlive a master that was killed, and hold its port.
        self.stop()
        (self._folder / _PID).unlink(missing_ok=True)
        done = self._run("-c", f"{CONF}/nginx.conf")
        if done.returncode:
            raise BundleError(f"Nginx does not start: {done.stderr.strip()}")
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:  # the daemon writes its pid after its parent has ended
            with contextlib.suppress(OSError, ValueError):
                pid = int((self._folder / _PID).read_text())
                born = birth(pid)
                if born is not None:
                    found = msgspec.json.encode(_Process(pid, born))
                    write_atomically(self._folder / _PROCESS, found)
                    return
            time.sleep(0.02)
        raise BundleError(f"Nginx ended at once; see {self._folder / _ERRORS}")

    def reload(self) -> None:
        """See `Place`."""
        process = self._process()
        if process is not None:
            os.kill(process.pid, signal.SIGHUP)

    def stop(self) -> None:
        """See `Place`."""
        ours = self._all()
        for one in ours:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGQUIT)
        _, left = psutil.wait_procs(ours, timeout=STOP_SECONDS)
        for one in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(left, timeout=5)

    def remove(self) -> None:
        """See `Place`."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def link(self) -> str | None:
        """See `Place`."""
        try:
            return os.readlink(self._folder / CONF).removeprefix(f"{CONF}-")  # noqa: PTH115
        except OSError:
            return None

    def point(self, configuration: str) -> None:
        """See `Place`."""
        fresh = self._folder / f"{CONF}.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(f"{CONF}-{configuration}")
        fresh.replace(self._folder / CONF)

    def stage(self, configuration: str, files: Mapping[str, str]) -> None:
        """See `Place`."""
        folder = self._folder / f"{CONF}-{configuration}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        for name, text in files.items():
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)

    def staged(self, configuration: str) -> dict[str, str] | None:
        """See `Place`."""
        folder = self._folder / f"{CONF}-{configuration}"
        if not folder.is_dir():
            return None
        return {path.name: path.read_text(errors="replace") for path in folder.iterdir()}

    def drop(self, *, but: str | None) -> None:
        """See `Place`."""
        for folder in self._folder.glob(f"{CONF}-*"):
            if folder.name != f"{CONF}-{but}":
                shutil.rmtree(folder, ignore_errors=True)

    def test(self, configuration: str) -> str | None:
        """See `Place`."""
        done = self._run("-t", "-q", "-c", f"{CONF}-{configuration}/nginx.conf")
        return done.stderr.strip() if done.returncode else None

    def said(self, after: int) -> str:
        """See `Place`."""
        with (self._folder / _ERRORS).open("rb") as log:
            log.seek(after)
            return log.read().decode(errors="replace")

    def said_bytes(self) -> int:
        """See `Place`."""
        path = self._folder / _ERRORS
        return path.stat().st_size if path.is_file() else 0

    def expire_logs(self, days: int) -> None:
        """See `Place`; here each update does it."""
        for path in (self._folder / "logs").glob("access-*.json"):
            if time.time() - path.stat().st_mtime > days * 86_400:
                path.unlink(missing_ok=True)

    def _process(self) -> _Process | None:
        path = self._folder / _PROCESS
        if not path.is_file():
            return None
        process = msgspec.json.decode(path.read_bytes(), type=_Process)
        return process if birth(process.pid) == process.birth else None

    def _all(self) -> list[psutil.Process]:
        """Master and workers, told by the folder that they were started in."""
        found = []
        for one in psutil.process_iter(["name"]):
            with contextlib.suppress(psutil.Error):
                if one.info["name"] == "nginx" and one.cwd() == os.path.realpath(self.folder):
                    found.append(one)
        return found

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        # The daemon keeps what it inherits: files in the place of pipes, else we waited for it.
        errors = self._folder / "said.txt"
        with errors.open("w+") as said:
            done = subprocess.run(
                [_nginx(), "-p", f"{self.folder}/", "-e", f"{self.folder}/{_ERRORS}", *arguments],
                cwd=self._folder,
                env={"PATH": os.environ.get("PATH", os.defpath)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
                check=False,
                timeout=60,
            )
            said.seek(0)
            text = said.read()
        errors.unlink()
        return subprocess.CompletedProcess(done.args, done.returncode, "", text)


def _nginx() -> str:
    # Debian keeps it where only root's PATH leads.
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise no_nginx("this machine")
    return found
