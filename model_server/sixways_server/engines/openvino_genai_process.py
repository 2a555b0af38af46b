"""The server's side of the decoding process: starts it, talks to it, notices its end."""

from __future__ import annotations

import logging
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO

import msgspec

from sixways_bundle.errors import BundleError
from sixways_server.engines.openvino_genai_worker import (
    Answer,
    Failed,
    Frames,
    Item,
    Items,
    Ready,
    Settings,
)

_MODULE = "sixways_server.engines.openvino_genai_worker"
_READ = 1 << 16
_LOAD_SECONDS = 300.0
_END_SECONDS = 10.0
_log = logging.getLogger("sixways.engine")


class DecodingProcess:
    """One run of the worker.

    Args:
        settings: what it opens.
        on_items: called in a thread of this object with what each step brought.
        on_end: called in that thread when the process ended without being closed, with why.
    """

    def __init__(
        self,
        settings: Settings,
        on_items: Callable[[list[Item]], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._on_items, self._on_end = on_items, on_end
        self._orders: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._ready = threading.Event()
        self._failure = ""
        self._loaded = self._closing = False
        self._child = subprocess.Popen(
            [sys.executable, "-m", _MODULE, msgspec.json.encode(settings).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        if self._child.stdin is None or self._child.stdout is None:
            raise RuntimeError("the child has no pipes")
        self._threads = [
            threading.Thread(target=self._read, args=(self._child.stdout,), daemon=True),
            threading.Thread(target=self._write, args=(self._child.stdin,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """The process id of the child."""
        return self._child.pid

    def wait_ready(self) -> None:
        """Returns when the model is open.

        Raises:
            BundleError: it cannot be opened, or took longer than five minutes.
        """
        if not self._ready.wait(_LOAD_SECONDS):
            self._failure = f"the model did not open in {_LOAD_SECONDS:.0f} seconds"
        if not self._loaded:
            self.close()
            raise BundleError(self._failure)

    def send(self, order: bytes) -> None:
        """Hands over an order that `frame` made; never blocks and never fails."""
        self._orders.put(order)

    def close(self) -> None:
        """Ends the process and waits for it. What still runs in it is dropped."""
        self._closing = True
        self._orders.put(None)
        try:
            self._child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _write(self, pipe: IO[bytes]) -> None:
        try:
            with pipe:
                while (data := self._orders.get()) is not None:
                    pipe.write(data)
                    if self._orders.empty():
                        pipe.flush()
        except BrokenPipeError:
            pass  # the reader sees the end of the process too, and says why

    def _read(self, pipe: IO[bytes]) -> None:
        frames, decoder = Frames(), msgspec.msgpack.Decoder(Answer)
        try:
            with pipe:
                while data := pipe.read1(_READ):  # type: ignore[attr-defined]
                    for message in frames.feed(data):
                        self._take(decoder.decode(message))
        except Exception:  # whatever it is: nobody would hear the process any more
            _log.exception("the answers of the decoding process cannot be handled; it is ended")
            self._child.kill()
        self._orders.put(None)
        code = self._child.wait()
        self._failure = self._failure or f"the decoding process ended with exit code {code}"
        loaded = self._loaded
        self._ready.set()
        if loaded and not self._closing:
            self._on_end(self._failure)

    def _take(self, answer: Ready | Failed | Items) -> None:
        if isinstance(answer, Items):
            self._on_items(answer.items)
        elif isinstance(answer, Ready):
            self._loaded = True
            self._ready.set()
        else:
            self._failure = answer.message
