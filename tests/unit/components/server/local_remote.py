"""A host that is this machine: the same commands, below a folder of the test and as its user."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sixways.server import layout
from sixways.server.ssh import Access, ConnectionLost, Done, HostError, Remote

_SHIMS = {
    "chown": "exit 0",
    "runuser": 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
    "install": 'for path; do :; done; exec mkdir -p "$path"',
}
_FOLDERS = ("HOME", "BUNDLES", "VENVS", "WHEELS", "SUPERVISOR", "RELEASES", "INCOMING")


class LocalRemote(Remote):
    """Runs what a host would run. `cut_after`: bytes of an upload after which it breaks."""

    def __init__(self, folder: Path) -> None:
        self.access = Access(address="host", host_key="ssh-ed25519 AAAA")
        self.cut_after: int | None = None
        self.uploads: list[str] = []
        shims = folder / "shims"
        shims.mkdir()
        for name, text in _SHIMS.items():
            (shims / name).write_text(f"#!/bin/sh\n{text}\n")
            (shims / name).chmod(0o755)
        self._environment = {**os.environ, "PATH": f"{shims}:{os.environ['PATH']}"}

    def run(
        self,
        *command: str,
        given: bytes = b"",
        check: bool = True,
        seconds: float = 60,
        on_line: Callable[[str], None] | None = None,
    ) -> Done:
        done = subprocess.run(
            command, input=given, capture_output=True, timeout=seconds, env=self._environment,
            check=False,
        )  # fmt: skip
        said = Done(done.returncode, done.stdout.decode(), done.stderr.decode())
        if on_line is not None:
            for line in said.stdout.splitlines():
                on_line(line)
        if check and not said.ok:
            raise HostError(f"{command}: {said.stderr}")
        return said

    def read(self, path: str) -> bytes | None:
        return Path(path).read_bytes() if Path(path).is_file() else None

    def send(self, local: Path, path: str, *, on_bytes: Callable[[int], None] | None = None) -> int:
        self.uploads.append(local.name)
        target = Path(path)
        there = target.stat().st_size if target.exists() else 0
        data = local.read_bytes()[there:]
        cut, self.cut_after = self.cut_after, None
        with target.open("ab") as file:
            file.write(data[:cut])
        if on_bytes is not None:
            on_bytes(there + len(data[:cut]))
        if cut is not None:
            raise ConnectionLost("the connection broke")
        return len(data)


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalRemote:
    """A host below the test's folder."""
    for name in _FOLDERS:
        inside = getattr(layout, name).replace("/opt/sixways", str(tmp_path / "opt"))
        monkeypatch.setattr(layout, name, inside)
    assert shutil.which("sha256sum")
    return LocalRemote(tmp_path)
