"""The server process of a local endpoint: start detached, wait for ready, tell apart, stop.

A folder an endpoint holds what belongs to it: `process.json` (who runs), `server.log`, and for
each start a numbered configuration, key file and status file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import psutil

import sixways
from sixways_bundle import BundleError, Problem
from sixways_bundle.cache import write_atomically
from sixways_bundle.manifest import MANIFEST

START_SECONDS = 120
"""How long a server may take until it is ready; a large model is read from disk first."""
DRAIN_SECONDS = 30
"""How long a server may take to answer what it has accepted."""
_PROCESSES = "process.json"
_HANDOVER = "handover.sock"
_SHARED = {"PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV",
           "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}  # fmt: skip
_SHARED_PREFIXES = ("LC_", "OMP_", "OV_", "CUDA_", "NVIDIA_")


class ServedModel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model of the server: the name requests use, its bundle's folder, digest and variant."""

    name: str
    path: str
    digest: str
    variant: str | None = None

    def stamp(self) -> str:
        """Changes when the bundle is written anew, be it with the same content."""
        try:
            stat = (Path(self.path) / MANIFEST).stat()
        except OSError:
            return ""
        return f"{stat.st_ino}-{stat.st_mtime_ns}"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A server process and what it was told.

    A pid alone proves nothing, since it is used again; `birth` tells the process apart: the
    kernel's boot and the clock tick of its start, which setting the clock does not change.
    """

    pid: int
    birth: str
    generation: int
    host: str
    port: int
    url: str
    models: tuple[ServedModel, ...]
    stamps: tuple[str, ...]
    key_sha256: str
    version: str

    @property
    def alive(self) -> bool:
        """Whether the process lives; False when the pid now belongs to another."""
        return birth(self.pid) == self.birth

    @property
    def current(self) -> bool:
        """Whether the bundles on disk are still the files that it opened."""
        return self.stamps == tuple(model.stamp() for model in self.models)


class _Processes(msgspec.Struct, kw_only=True):
    """`process.json`. Whoever was started is named here until it is known to be gone, so that
    an interrupted update leaves nobody behind."""

    serving: Running | None = None
    starting: Running | None = None
    leaving: Running | None = None


class _Status(msgspec.Struct):
    state: str
    pid: int = 0
    message: str = ""
    error: str = ""
    url: str = ""


def load(folder: Path) -> Running | None:
    """Who serves from that folder, or did so last."""
    return _load(folder).serving


def lives(folder: Path) -> bool:
    """Whether any server of that folder lives, be it one that an interrupted update left."""
    return any(running.alive for running in _all(_load(folder)))


def start(
    folder: Path,
    models: Sequence[ServedModel],
    *,
    host: str,
    port: int,
    api_key: str,
    cancelled: threading.Event,
    report: Callable[[str], None],
) -> Running:
    """Starts a server and waits until it answers; one that runs already hands its socket over.

    What serves from the folder is not touched: on any failure it goes on, and the new process is
    gone again. Call `stop_old` afterwards.

    Args:
        folder: the endpoint's folder; made if it is not there.
        models: what to serve.
        host: address to listen on.
        port: TCP port.
        api_key: the key that requests must carry; only its hash is written to disk.
        cancelled: set when the start is no longer wanted.
        report: told what the server is doing.

    Raises:
        BundleError: it did not become ready; says why in the server's words.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    before = _load(folder)
    for left in (before.starting, before.leaving):  # of an update that was interrupted
        _stop(left)
    old = before.serving
    generation = old.generation + 1 if old else 1
    status = folder / f"status-{generation}.json"
    status.unlink(missing_ok=True)
    key_sha256 = hashlib.sha256(api_key.encode()).hexdigest()
    keys = {"keys": [{"name": "default", "sha256": key_sha256}]}
    write_atomically(folder / f"keys-{generation}.json", msgspec.json.encode(keys))
    config = {
        "models": models,
        "host": host,
        "port": port,
        "keys_file": f"keys-{generation}.json",
        "handover": _HANDOVER,
        "status_file": status.name,
        "drain_seconds": DRAIN_SECONDS,
    }
    path = folder / f"server-{generation}.json"
    write_atomically(path, msgspec.json.format(msgspec.json.encode(config)))
    stamps = tuple(model.stamp() for model in models)
    with (folder / "server.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "sixways_server", "--config", path.name],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # it outlives the update, and Ctrl-C is not for it
            env=_environment(),
        )
    try:
        running = Running(
            pid=child.pid,
            birth=birth(child.pid) or "",
            generation=generation,
            host=host,
            port=port,
            url="",
            models=tuple(models),
            stamps=stamps,
            key_sha256=key_sha256,
            version=sixways.__version__,
        )
        _save(folder, _Processes(serving=old, starting=running))
        url = _wait_until_ready(child, status, folder, cancelled, report)
    except BaseException:
        child.kill()
        child.wait()
        _save(folder, _Processes(serving=old))
        raise
    running = msgspec.structs.replace(running, url=url)
    _save(folder, _Processes(serving=running, leaving=old))
    # The child is not ours to wait for: it outlives this process.
    child.returncode = 0
    return running


def stop_old(folder: Path) -> None:
    """Ends the server that the last `start` replaced, with time to answer what it accepted."""
    processes = _load(folder)
    if processes.leaving:
        _stop(processes.leaving)
        for name in ("server", "keys", "status"):
            (folder / f"{name}-{processes.leaving.generation}.json").unlink(missing_ok=True)
        _save(folder, _Processes(serving=processes.serving))


def remove(folder: Path) -> None:
    """Stops every server of the folder and removes it. Finding nothing is success."""
    for running in _all(_load(folder)):
        _stop(running)
    shutil.rmtree(folder, ignore_errors=True)


def remove_all(run_folder: Path) -> None:
    """Stops every server of every endpoint of every stack below `.sixways/run`."""
    for path in run_folder.glob(f"*/*/{_PROCESSES}"):
        remove(path.parent)


def _load(folder: Path) -> _Processes:
    path = folder / _PROCESSES
    if not path.is_file():
        return _Processes()
    return msgspec.json.decode(path.read_bytes(), type=_Processes)


def _save(folder: Path, processes: _Processes) -> None:
    write_atomically(folder / _PROCESSES, msgspec.json.encode(processes))


def _all(processes: _Processes) -> list[Running]:
    found = (processes.leaving, processes.starting, processes.serving)
    return [running for running in found if running is not None]


def birth(pid: int) -> str | None:
    """Boot and start tick of a process that lives; None when there is none (proc(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else f"{boot}:{fields[18]}"


def _stop(running: Running | None) -> None:
    if running is None or not running.alive:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(running.pid)
        process.terminate()
        try:
            process.wait(DRAIN_SECONDS + 10)
        except psutil.TimeoutExpired:
            process.kill()
            try:
                process.wait(10)
            except psutil.TimeoutExpired:
                raise BundleError(
                    f"process {running.pid} of the old server does not end, not even when killed; "
                    "look at what holds it (ps, dmesg) and run the update again"
                ) from None


def _environment() -> dict[str, str]:
    """What the server needs, and none of the secrets a shell may hold."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _SHARED or name.startswith(_SHARED_PREFIXES)
    }


def require_free(host: str, port: int) -> None:
    """Checks that nobody listens there.

    Raises:
        BundleError: somebody does; names the process where that can be seen.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            return
        except OSError as error:
            reason = error.strerror or str(error)
    raise BundleError(
        f"port {port} of {host} cannot be used: {reason}",
        [Problem("port", str(port), f"a port that nobody uses{_holder(port)}",
                 "stop that process, or choose another port: pulumi config set sixways:port PORT")],
    )  # fmt: skip


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            here = (connection.laddr or (None, None))[1] == port
            if here and connection.status == psutil.CONN_LISTEN and connection.pid:
                command = " ".join(psutil.Process(connection.pid).cmdline())[:80]
                return f" (pid {connection.pid} listens there: {command})"
    except psutil.Error:
        pass  # not ours to see; the message does without
    return ""


def _wait_until_ready(
    child: subprocess.Popen[bytes],
    status: Path,
    folder: Path,
    cancelled: threading.Event,
    report: Callable[[str], None],
) -> str:
    deadline = time.monotonic() + START_SECONDS
    shown = ""
    while time.monotonic() < deadline:
        ended = child.poll() is not None
        now = _read_status(status, child.pid)
        if now is not None:
            if now.state == "ready" and not ended:
                return now.url
            if now.state == "failed":
                raise BundleError(f"the server did not start: {now.error}")
            if now.message != shown:
                shown = now.message
                report(shown)
        if ended:
            raise BundleError(
                f"the server ended with exit code {child.returncode} before it was ready:\n"
                f"{_tail(folder / 'server.log')}"
            )
        if cancelled.wait(0.05):
            raise BundleError("the start was cancelled")
    raise BundleError(
        f"the server was not ready after {START_SECONDS} s:\n{_tail(folder / 'server.log')}"
    )


def _read_status(status: Path, pid: int) -> _Status | None:
    """What that process wrote of itself; another one's words are not for us."""
    if not status.is_file():
        return None
    now = msgspec.json.decode(status.read_bytes(), type=_Status)
    return now if now.pid in (0, pid) else None


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
