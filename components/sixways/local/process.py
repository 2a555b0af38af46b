"""The server process of a local endpoint: start detached, wait for ready, tell apart, stop.

A folder a endpoint holds what belongs to it: `process.json` (who runs), `server.log`, and for
each start a numbered configuration, key file and status file.
"""

from __future__ import annotations

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

from sixways_bundle import BundleError, Problem
from sixways_bundle.cache import write_atomically

START_SECONDS = 120
"""How long a server may take until it is ready; a large model is read from disk first."""
DRAIN_SECONDS = 30
"""How long a server may take to answer what it has accepted."""
_PROCESS = "process.json"
_HANDOVER = "handover.sock"


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model of the server: the name requests use, its bundle's folder, the variant."""

    name: str
    path: str
    variant: str | None = None


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """Who serves. A pid alone proves nothing, since it is used again; pid and start time do."""

    pid: int
    started_at: float
    generation: int
    url: str

    def process(self) -> psutil.Process | None:
        """The live process, or None when it ended or the pid now belongs to another."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_at) < 1.0
            alive = process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if same and alive else None


class _Status(msgspec.Struct):
    state: str
    message: str = ""
    error: str = ""
    url: str = ""


def load(folder: Path) -> Running | None:
    """Who was started last in that folder, alive or not."""
    path = folder / _PROCESS
    return msgspec.json.decode(path.read_bytes(), type=Running) if path.is_file() else None


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

    What runs in the folder is not touched: on any failure it goes on, and the new process is
    gone again. Call `stop` on the old one afterwards.

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
    before = load(folder)
    generation = before.generation + 1 if before else 1
    status = folder / f"status-{generation}.json"
    status.unlink(missing_ok=True)
    keys = {"keys": [{"name": "default", "sha256": hashlib.sha256(api_key.encode()).hexdigest()}]}
    write_atomically(folder / f"keys-{generation}.json", msgspec.json.encode(keys))
    config = folder / f"server-{generation}.json"
    write_atomically(
        config,
        msgspec.json.format(
            msgspec.json.encode(
                {
                    "models": models,
                    "host": host,
                    "port": port,
                    "keys_file": f"keys-{generation}.json",
                    # Relative, since the path of a Unix socket may have 107 bytes only.
                    "handover": _HANDOVER,
                    "status_file": status.name,
                    "drain_seconds": DRAIN_SECONDS,
                }
            )
        ),
    )
    with (folder / "server.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "sixways_server", "--config", config.name],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # it outlives the update, and Ctrl-C is not for it
            # The server needs nothing of Pulumi, least of all the passphrase.
            env={k: v for k, v in os.environ.items() if not k.startswith("PULUMI_")},
        )
    try:
        started_at = psutil.Process(child.pid).create_time()
        url = _wait_until_ready(child, status, folder, cancelled, report)
    except BaseException:
        child.kill()
        child.wait()
        raise
    running = Running(pid=child.pid, started_at=started_at, generation=generation, url=url)
    write_atomically(folder / _PROCESS, msgspec.json.encode(running))
    if before:
        for name in ("server", "keys", "status"):
            (folder / f"{name}-{before.generation}.json").unlink(missing_ok=True)
    # The child is not ours to wait for: it outlives this process.
    child.returncode = 0
    return running


def stop(running: Running) -> None:
    """Ends the process with time to answer what it accepted; does nothing when it is gone."""
    process = running.process()
    if process is None:
        return
    process.terminate()
    try:
        process.wait(DRAIN_SECONDS + 10)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(10)


def remove(folder: Path) -> None:
    """Stops what runs in the folder and removes it."""
    if running := load(folder):
        stop(running)
    shutil.rmtree(folder, ignore_errors=True)


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
        if status.is_file():
            now = msgspec.json.decode(status.read_bytes(), type=_Status)
            if now.state == "ready":
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


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
