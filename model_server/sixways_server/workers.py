"""Several workers under Gunicorn.

Gunicorn is the master: it forks the workers, replaces one that dies or hangs, and passes SIGTERM
on. What serves in each worker is the same as without Gunicorn (see `serving`, `drain`). The
master holds the listening socket and gives it to a successor, writes the status file, and opens
no model: it stays small, and a fork of it is a clean start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from sixways_bundle.errors import BundleError, Problem
from sixways_server import handover, sizing
from sixways_server.auth import KeyStore
from sixways_server.board import Board, State
from sixways_server.config import ServerConfig
from sixways_server.status import StatusFile

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from sixways_server.serve import EarlySignals, Listener
    from sixways_server.worker_server import WorkerServer

_HUNG_SECONDS = 60.0
"""A worker whose event loop stood still for so long is ended and replaced."""
_CLOSE_SECONDS = 10.0
"""What a worker may take beyond its drain to close its engines."""
_RETRY_SECONDS = 30.0
"""Until the next try, after a replacement that did not become ready."""
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made there
_log = logging.getLogger("sixways.server")


def run_workers(
    config: ServerConfig,
    keys: KeyStore,
    listener: Listener,
    status: StatusFile,
    early: EarlySignals,
) -> None:
    """Serves with `config.workers` workers until SIGTERM or SIGINT, then drains.

    Raises:
        BundleError: a worker could not start; says why.
    """
    with _folder() as folder:
        application = _Application(config, keys, listener, status, early, folder)
        application.run()


@contextlib.contextmanager
def _folder() -> Generator[Path, None, None]:
    """A folder for the workers' metrics, in memory where there is such a file system.

    Raises:
        BundleError: nothing may be written anywhere.
    """
    usable = _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK)
    try:
        parent = _SHARED_MEMORY if usable else None
        folder = Path(tempfile.mkdtemp(prefix=f"sixways-{os.getpid()}-", dir=parent))
    except OSError as error:
        raise BundleError(
            "several workers need a folder to count in together",
            [Problem("TMPDIR", os.environ.get("TMPDIR", ""), "a folder to write to",
                     f"mount a tmpfs at {_SHARED_MEMORY} ({error})")],
        ) from None  # fmt: skip
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Application(BaseApplication):  # type: ignore[misc]
    """What Gunicorn is told, and what its master and workers need to know of us."""

    def __init__(
        self,
        config: ServerConfig,
        keys: KeyStore,
        listener: Listener,
        status: StatusFile,
        early: EarlySignals,
        folder: Path,
    ) -> None:
        self.config, self.keys, self.listener = config, keys, listener
        self.status, self.early, self.folder = status, early, folder
        self.board = Board(config.workers)
        super().__init__()

    def load_config(self) -> None:
        """Settings of Gunicorn; none of its files or variables is read."""
        settings = {
            "workers": self.config.workers,
            "worker_class": _Worker,
            "logger_class": _Logger,
            "timeout": int(_HUNG_SECONDS),
            "graceful_timeout": int(self.config.drain_seconds + _CLOSE_SECONDS),
            "control_socket_disable": True,
            # Gunicorn watches each worker through a file, which no disk should delay.
            "worker_tmp_dir": str(self.folder),
            "child_exit": _child_exit,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> object:
        """Gunicorn asks for an application; the workers make theirs once they have models."""
        return None

    def run(self) -> None:
        """Runs the master.

        Raises:
            BundleError: a worker could not start.
        """
        self.master = _Master(self)
        try:
            self.master.run()
        except SystemExit as ended:
            if ended.code:
                reason = self.board.reason or "a worker ended before it was ready; see the log"
                raise BundleError(reason) from None


class _Logger(Logger):  # type: ignore[misc]
    """Gunicorn's lines go where ours go."""

    def setup(self, cfg: Any) -> None:
        """Leaves the handlers to `logs.configure`."""
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)


class _Master(Arbiter):  # type: ignore[misc]
    """Gunicorn's master, which also gives the socket away and tells how far the server is."""

    # Its other signals change workers and settings at run time: here a configuration does.
    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

    def __init__(self, app: _Application) -> None:
        super().__init__(app)
        self.LISTENERS = [app.listener.socket]
        self.ending = False
        self.not_before = 0.0
        self._donor: handover.Donor | None = None
        # Written by signals and by workers that are ready.
        self.wakes, self.wake = os.pipe()
        for end in (self.wakes, self.wake):
            os.set_blocking(end, False)

    def leave_to_parent(self) -> None:
        """In a worker: closes what is the master's alone."""
        os.close(self.wakes)
        if self._donor:
            self._donor.leave_to_parent()

    def init_signals(self) -> None:
        """From now on signals come here."""
        super().init_signals()
        signal.set_wakeup_fd(self.wake, warn_on_full_buffer=False)
        if self.app.early.asked:
            self.signal(signal.SIGTERM, None)

    def signal(self, sig: int, frame: FrameType | None) -> None:
        """The first SIGTERM or SIGINT drains; the second ends now."""
        self.SIG_QUEUE.put_nowait(signal.SIGQUIT if self.ending else signal.SIGTERM)
        self.ending = True
        if self.WORKERS:
            # At once and before they do: whoever closes it last must be one that accepts.
            for listener in self.LISTENERS:
                listener.close()
            self.LISTENERS = []

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        """Waits for signals, and does what else came in the meantime."""
        donor = self._donor
        watched = [self.wakes, donor.fileno()] if donor else [self.wakes]
        readable, _, _ = select.select(watched, [], [], timeout)
        if self.wakes in readable:
            os.read(self.wakes, 4096)
        if donor and donor.fileno() in readable:
            donor.give()
        board = self.app.board
        if not board.complete and board.all_ready:
            board.complete = True
            if self.app.config.handover is not None:
                self._donor = handover.Donor(self.app.config.handover, self.app.listener.socket)
            self.app.status.ready(*self.app.listener.address)
            _log.info("all workers are ready")
        signals: list[int] = super().wait_for_signals(timeout=0.001)
        return signals

    def manage_workers(self) -> None:
        """Replaces workers that ended; not at once if one could not start."""
        if time.monotonic() >= self.not_before:
            super().manage_workers()

    def spawn_worker(self) -> int:
        """Forks a worker. A signal in between must reach neither the wrong one nor nobody."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self.SIGNALS)
        try:
            # Asked to end a moment ago, there is nothing to serve from any more.
            pid: int = 0 if self.ending else super().spawn_worker()
            return pid
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        """Drains and ends; with a reason, ends now: nobody was told to come yet."""
        self.ending = True
        if exit_status:
            self.kill_workers(signal.SIGKILL)
        else:
            self.app.status.ended("draining")
        if self._donor:
            self._donor.close()
        super().halt(reason, exit_status)


def _child_exit(master: _Master, worker: _Worker) -> None:
    """A worker ended, for whatever reason (called by Gunicorn)."""
    from sixways_server.metrics import forget

    board = master.app.board
    became_ready = board.state(worker.row) is State.READY
    board.set_state(worker.row, State.ABSENT)
    forget(master.app.folder, worker.row)
    if master.ending:
        return
    if not board.complete:
        raise HaltServer("a worker ended before it was ready", 1)
    if not became_ready:
        _log.error("a new worker could not start; next try in %.0f s", _RETRY_SECONDS)
        master.not_before = time.monotonic() + _RETRY_SECONDS


class _Worker(Worker):  # type: ignore[misc]
    """One serving process."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        taken = {worker.row for worker in Arbiter.WORKERS.values()}
        self.row = min(set(range(self.app.config.workers)) - taken)
        # Before it lives, so that no other one takes it for absent.
        self.app.board.set_state(self.row, State.LOADING)
        self._server: WorkerServer | None = None
        self._asked_to_end = self._orphaned = False

    def init_process(self) -> NoReturn:
        """All that the process does. It ends here: what is above on the stack is the master's."""
        code = 1
        try:
            self.app.master.leave_to_parent()
            self.init_signals()
            code = self._serve()
        except Exception as error:
            _log.exception("a worker failed")
            self.app.board.reason = f"a worker failed: {type(error).__name__}: {error}"
        finally:
            self._tidy_up()
            os._exit(code)

    def _tidy_up(self) -> None:
        if self._orphaned:  # the last one does what the master cannot any more
            self.app.board.set_state(self.row, State.ABSENT)
            if self.app.board.all_absent:
                shutil.rmtree(self.app.folder, ignore_errors=True)
        sys.stdout.flush()
        sys.stderr.flush()

    def init_signals(self) -> None:
        """Until the server listens to signals. Ctrl-C reaches all processes; the master acts."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGQUIT, self._end)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _Master.SIGNALS)

    def _note(self, sig: int, frame: FrameType | None) -> None:
        self._asked_to_end = True

    def _end(self, sig: int, frame: FrameType | None) -> None:
        os._exit(1)

    def _serve(self) -> int:
        """Serves until told to end.

        Returns:
            The exit status; 1 when the models cannot be opened.
        """
        import uvloop

        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._run())
        except BundleError as error:
            _log.error("a worker cannot start: %s", error)
            self.app.board.reason = str(error)
            return 1
        return 0

    async def _run(self) -> None:
        from sixways_server.serving import Place, serve

        app = self.app
        sizing.limit_default_executor(asyncio.get_running_loop())
        place = Place(
            app.board,
            self._make_server,
            row=self.row,
            metrics_folder=app.folder,
            answer_early=not app.listener.shared and not app.board.complete,
            asked_to_end=lambda: self._asked_to_end,
            on_ready=self._ready,
            on_beat=self._beat,
        )
        await serve(app.config, app.keys, app.listener.socket, place)

    def _make_server(self, app: ASGIApp, **options: Any) -> WorkerServer:
        from sixways_server.worker_server import WorkerServer

        self._server = WorkerServer(app, self.app.board, self.row, **options)
        return self._server

    def _ready(self) -> None:
        self.app.board.set_state(self.row, State.READY)
        with contextlib.suppress(OSError):  # full: the master wakes up anyway; or it is gone
            os.write(self.app.master.wake, b"!")

    def _beat(self) -> None:
        """Once a second: tells the master that the event loop runs, and looks for the master."""
        self.notify()
        if self._server is not None:
            self._server.count_connections()
        if os.getppid() != self.ppid and not self._orphaned:
            _log.error("the master is gone; this worker ends too")
            self._orphaned = True
            if self._server is None or self._server.loading:
                self._tidy_up()
                os._exit(1)
            self._server.should_exit = True
