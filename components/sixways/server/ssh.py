"""A Linux host over ssh: commands as lists of words, and files that are whole or not there.

Everything is done as root: the login is root's, or that of a user whose sudo asks for no password.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import asyncssh

from sixways_bundle import BundleError, Problem

T = TypeVar("T")
_LOST = (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)
CONNECT_SECONDS = 15.0
COMMAND_SECONDS = 120.0
# Whole or not at all: written beside its place, given its rights, moved there. A connection that
# breaks looks like the data's end, so the bytes are counted.
_PUT = (
    'umask 077; cat >"$1.new" && [ "$(wc -c <"$1.new")" -eq "$4" ] || { rm -f "$1.new"; exit 1; }; '
    'chmod "$2" "$1.new" && chown "$3" "$1.new" && mv -T "$1.new" "$1"'
)


class HostError(BundleError):
    """Something could not be done on a host; the message names it."""


class ConnectionLost(HostError):
    """The connection broke in the middle of something: trying again may go on from there."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """How a host is reached.

    Attributes:
        address: IP address or name.
        port: of sshd.
        user: who logs in: root, or somebody whose sudo asks for no password.
        host_key: the host's public key as in its `/etc/ssh/ssh_host_*_key.pub`.
        private_key: the key that logs in, OpenSSH or PEM; None: the agent's, or those in `~/.ssh`.
    """

    address: str
    host_key: str
    port: int = 22
    user: str = "root"
    private_key: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, inputs: dict[str, Any]) -> Self:
        """That of a resource's inputs or state; names as on the wire, see `INPUTS`."""
        return cls(
            address=inputs["address"],
            port=inputs["port"],
            user=inputs["user"],
            host_key=inputs["hostKey"],
            private_key=inputs.get("privateKey"),
        )

    def __str__(self) -> str:
        port = "" if self.port == 22 else f":{self.port}"
        return f"{self.user}@{self.address}{port}"


@dataclass(frozen=True)
class Done:
    """What a command left.

    Attributes:
        status: its exit status; negative: the signal that ended it.
        stdout: what it wrote.
        stderr: what it complained of.
    """

    status: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.status == 0


class Remote:
    """A connection to a host; use `connected`. For one thread at a time."""

    def __init__(
        self, access: Access, loop: asyncio.AbstractEventLoop, link: asyncssh.SSHClientConnection
    ) -> None:
        self.access = access
        self._loop = loop
        self._link = link
        self._prefix = () if access.user == "root" else ("sudo", "-n", "--")

    def run(
        self,
        *command: str,
        given: bytes = b"",
        check: bool = True,
        seconds: float = COMMAND_SECONDS,
        on_line: Callable[[str], None] | None = None,
    ) -> Done:
        """Runs a command as root.

        Args:
            command: program and arguments; no shell sees them as anything else. Whoever may list
                processes sees them too: a secret goes through `given`.
            given: its standard input.
            check: whether a failure is an error.
            seconds: longest time it may take.
            on_line: called with each line of its output as it comes.

        Raises:
            HostError: it failed, took too long, or the connection broke.
        """
        line = shlex.join([*self._prefix, *command])
        try:
            done = self._await(self._run(line, given, on_line), seconds)
        except TimeoutError:
            raise HostError(
                f"{self.access}: {shlex.join(command)} took longer than {seconds:g} s"
            ) from None
        if check and not done.ok:
            said = (done.stderr.strip() or done.stdout.strip())[-2000:]
            raise HostError(f"{self.access}: {shlex.join(command)}: status {done.status}: {said}")
        return done

    def read(self, path: str) -> bytes | None:
        """A file's bytes, up to some MB; None where there is no such file."""
        done = self._await(self._run(shlex.join([*self._prefix, "cat", "--", path]), b"", None))
        if done.ok:
            return done.stdout.encode("utf-8", "surrogateescape")
        if not self.run("test", "-e", path, check=False).ok:
            return None
        raise HostError(f"{self.access}: {path} cannot be read: {done.stderr.strip()}")

    def write(
        self, path: str, data: bytes | str, *, mode: int = 0o644, owner: str = "root:root"
    ) -> bool:
        """Makes a file be that, atomically; its folder must be there.

        Returns:
            Whether its bytes were others before.
        """
        wanted = data.encode() if isinstance(data, str) else data
        changed = self.read(path) != wanted
        self.run("sh", "-c", _PUT, "put", path, f"{mode:o}", owner, str(len(wanted)), given=wanted)
        return changed

    def folder(self, path: str, *, mode: int = 0o755, owner: str = "root:root") -> None:
        """Makes a folder be there, with these rights; those above it are made too.

        An owner without a group is given root's: not every user has one of its own name.
        """
        user, _, group = owner.partition(":")
        self.run("install", "-d", "-m", f"{mode:o}", "-o", user, "-g", group or "root", path)

    def remove(self, *paths: str) -> None:
        """Removes files and folders with all in them; what is not there is no error."""
        if paths:
            self.run("rm", "-rf", "--one-file-system", "--", *paths)

    def exists(self, path: str) -> bool:
        """Whether there is something, a dangling link included."""
        return self.run("sh", "-c", '[ -e "$1" ] || [ -L "$1" ]', "is", path, check=False).ok

    def send(self, local: Path, path: str, *, on_bytes: Callable[[int], None] | None = None) -> int:
        """Sends a file to where the login's user may write; a part that is there is not sent again.

        What lies there already is taken for the file's beginning: whoever calls this compares a
        digest afterwards, and begins anew where it differs.

        Args:
            local: the file.
            path: where to, absolute.
            on_bytes: called with the number of bytes that are there so far.

        Returns:
            The number of bytes that were sent.
        """
        return self._await(self._send(local, local.stat().st_size, path, on_bytes))

    def _await(self, work: Coroutine[Any, Any, T], seconds: float | None = None) -> T:
        async def within() -> T:
            async with asyncio.timeout(seconds):
                return await work

        try:
            return self._loop.run_until_complete(within())
        except _LOST as error:
            raise ConnectionLost(f"{self.access}: the connection broke: {error}") from None
        except asyncssh.SFTPError as error:  # the host's own word: its disk, or its rights
            raise HostError(f"{self.access}: a file cannot be sent: {error.reason}") from None
        except (asyncssh.Error, ConnectionError) as error:
            raise ConnectionLost(f"{self.access}: the connection broke: {error}") from None

    async def _run(self, line: str, given: bytes, on_line: Callable[[str], None] | None) -> Done:
        process = await self._link.create_process(line, encoding="utf-8", errors="surrogateescape")

        async def feed() -> None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(given.decode("utf-8", "surrogateescape"))
                await process.stdin.drain()
            process.stdin.write_eof()

        async def listen(stream: Any) -> str:
            lines = []
            async for text in stream:
                lines.append(text)
                if on_line is not None:
                    on_line(text.rstrip("\n"))
            return "".join(lines)

        heard = [asyncio.ensure_future(listen(end)) for end in (process.stdout, process.stderr)]
        try:
            await asyncio.gather(feed(), *heard)
            stdout, stderr = (task.result() for task in heard)
            await process.wait_closed()
            status = process.returncode
        finally:
            # Not waited for: sshd closes its side only when the command has ended.
            process.close()
            for task in heard:
                task.cancel()
            await asyncio.gather(*heard, return_exceptions=True)
        if status is None:  # nobody said how it ended
            raise ConnectionLost(f"{self.access}: the connection broke in the middle of a command")
        return Done(status, stdout, stderr)

    async def _send(
        self, local: Path, size: int, path: str, on_bytes: Callable[[int], None] | None
    ) -> int:
        async with self._link.start_sftp_client() as sftp:
            there = 0
            with contextlib.suppress(asyncssh.SFTPNoSuchFile):
                there = int((await sftp.stat(path)).size or 0)
            if there > size:
                there = 0
            async with sftp.open(path, "r+b" if there else "wb", encoding=None) as target:
                sent = there
                with local.open("rb") as source:
                    source.seek(there)
                    while data := source.read(1 << 20):
                        await target.write(data, sent)
                        sent += len(data)
                        if on_bytes is not None:
                            on_bytes(sent)
        return sent - there


@contextlib.contextmanager
def connected(access: Access) -> Iterator[Remote]:
    """A connection to the host, closed at the end.

    Raises:
        HostError: it does not answer, shows another key, or does not let the user in; says which.
    """
    loop = asyncio.new_event_loop()
    try:
        link = loop.run_until_complete(_connect(access))
        try:
            remote = Remote(access, loop, link)
            _require_root(remote)
            yield remote
        finally:
            link.close()
            loop.run_until_complete(link.wait_closed())
    finally:
        loop.close()


async def _connect(access: Access) -> asyncssh.SSHClientConnection:
    shown: list[str] = []

    class Client(asyncssh.SSHClient):
        """Remembers which key the host showed, for the message."""

        def validate_host_public_key(
            self, host: str, addr: str, port: int, key: asyncssh.SSHKey
        ) -> bool:
            shown.append(key.export_public_key().decode().strip())
            return False

    try:
        trusted = _host_key(access)
        options: dict[str, Any] = {}
        if access.private_key is not None:
            options["client_keys"] = [asyncssh.import_private_key(access.private_key)]
            options["agent_path"] = None
        return await asyncssh.connect(
            access.address,
            access.port,
            username=access.user,
            known_hosts=([trusted], [], []),
            server_host_key_algs=_algorithms(trusted),
            client_factory=Client,
            config=None,
            connect_timeout=CONNECT_SECONDS,
            login_timeout=CONNECT_SECONDS,
            keepalive_interval=15,
            preferred_auth=["publickey"],
            **options,
        )
    except asyncssh.HostKeyNotVerifiable:
        raise HostError(
            f"{access}: this is not the host that is meant",
            [Problem("hostKey", access.host_key, f"{shown[-1] if shown else 'another key'}, "
                     "which is what the host shows",
                     "look at /etc/ssh/ssh_host_*_key.pub on the host's console; only if it is the "
                     "same, set it")],
        ) from None  # fmt: skip
    except asyncssh.PermissionDenied as error:
        raise HostError(
            f"{access} is not let in: {error.reason}",
            [Problem("user", access.user, "a user of the host that has the key's public half in "
                     "its ~/.ssh/authorized_keys", "correct user or privateKey")],
        ) from None  # fmt: skip
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise HostError(f"{access}: a key cannot be used: {error}") from None
    except (OSError, asyncssh.Error, TimeoutError) as error:
        raise ConnectionLost(
            f"{access} does not answer: {error or 'no answer'}",
            [Problem("address", f"{access.address}, port {access.port}", "a host whose sshd "
                     f"answers within {CONNECT_SECONDS:g} s", "correct it, or start the host")],
        ) from None  # fmt: skip


def _host_key(access: Access) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_public_key(access.host_key)
    except asyncssh.KeyImportError as error:
        raise HostError(
            f"{access}: its key cannot be used: {error}",
            [Problem("hostKey", _shown(access.host_key), "a key as in "
                     "/etc/ssh/ssh_host_ed25519_key.pub of the host", "copy the whole line")],
        ) from None  # fmt: skip


def _shown(key: str) -> str:
    """Whoever mixes up the two keys finds the private one in no log."""
    return "(not shown)" if "PRIVATE" in key else key


def _algorithms(key: asyncssh.SSHKey) -> list[str]:
    """The key's own kind alone: a host has several keys, and this is the one that is known."""
    name = key.get_algorithm()
    return ["rsa-sha2-512", "rsa-sha2-256"] if name == "ssh-rsa" else [name]


def _require_root(remote: Remote) -> None:
    done = remote.run("id", "-u", check=False)
    if not done.ok or done.stdout.strip() != "0":
        raise HostError(
            f"{remote.access} cannot become root: {done.stderr.strip()}",
            [Problem("user", remote.access.user, "root, or a user whose sudo asks for no password",
                     "add `USER ALL=(ALL) NOPASSWD: ALL` to /etc/sudoers.d on the host")],
        )  # fmt: skip
