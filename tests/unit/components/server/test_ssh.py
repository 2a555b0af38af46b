import asyncio
import time
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from sixways.checks import Checks
from sixways.server import ssh
from sixways.server.args import check_access
from sixways.server.ssh import Access, ConnectionLost, HostError, Remote
from tests.unit.components.server.local_remote import LocalRemote, remote

__all__ = ["remote"]
HOST = Access(address="host", host_key="ssh-ed25519 AAAA")


class Silent:
    """A process of a host that says one line and never ends."""

    returncode = None

    def __init__(self) -> None:
        self.stdin = self
        self.closed = False

    @property
    def stdout(self) -> Any:
        async def lines() -> Any:
            yield "working\n"
            await asyncio.sleep(60)

        return lines()

    stderr = stdout

    def write(self, data: str) -> None: ...

    def write_eof(self) -> None: ...

    async def drain(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    async def wait_closed(self) -> None:
        await asyncio.sleep(60)

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await self.wait_closed()

    def __await__(self) -> Any:
        yield from ()
        return self


class Link:
    """A connection whose every command is that process, and whose uploads fail with that error."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.process = Silent()
        self._fails = fails

    def create_process(self, *_: object, **__: object) -> Silent:
        return self.process

    def start_sftp_client(self) -> Any:
        assert self._fails is not None
        raise self._fails


@pytest.fixture
def loop() -> Any:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def test_a_command_that_never_ends_is_not_waited_for(loop: asyncio.AbstractEventLoop) -> None:
    link: Any = Link()
    begun = time.monotonic()
    with pytest.raises(HostError, match=r"sleep 60 took longer than 0\.2 s"):
        Remote(HOST, loop, link).run("sleep", "60", seconds=0.2)
    assert link.process.closed
    assert time.monotonic() - begun < 10


def test_an_interrupted_command_is_not_waited_for(loop: asyncio.AbstractEventLoop) -> None:
    def stop(line: str) -> None:
        raise HostError(f"stopped at {line}")

    link: Any = Link()
    begun = time.monotonic()
    with pytest.raises(HostError, match="stopped at working"):
        Remote(HOST, loop, link).run("sleep", "60", on_line=stop)
    assert link.process.closed
    assert time.monotonic() - begun < 10


def test_a_full_disk_is_no_broken_connection(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    full: Any = Link(asyncssh.SFTPFailure("No space left on device"))
    with pytest.raises(HostError, match="cannot be sent: No space left") as refused:
        Remote(HOST, loop, full).send(tmp_path / "file", "/there")
    assert not isinstance(refused.value, ConnectionLost)
    lost: Any = Link(asyncssh.SFTPConnectionLost("gone"))
    with pytest.raises(ConnectionLost):
        Remote(HOST, loop, lost).send(tmp_path / "file", "/there")


def test_a_file_that_arrives_in_part_takes_nobodys_place(
    remote: LocalRemote, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    remote.write(str(path), b"whole")
    # What sshd does when its connection breaks: the command sees the end of its input.
    put = ("sh", "-c", ssh._PUT, "put", str(path), "644", "root:root", "9")
    assert not remote.run(*put, given=b"half", check=False).ok
    assert path.read_bytes() == b"whole"
    assert not Path(f"{path}.new").exists()
    assert remote.run(*put, given=b"123456789").ok
    assert path.read_bytes() == b"123456789"


def test_a_private_key_in_the_wrong_place_is_not_shown() -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret"
    with (
        pytest.raises(HostError, match=r"hostKey: '\(not shown\)'") as refused,
        ssh.connected(Access(address="127.0.0.1", host_key=key)),
    ):
        pass
    assert "secret" not in str(refused.value)
    checks = Checks()
    check_access(checks, {"address": "10.0.0.1", "host_key": key}, "hosts[0].")
    (problem,) = checks.problems
    assert (problem.field, "secret" in str(problem)) == ("hosts[0].host_key", False)
