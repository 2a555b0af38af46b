"""Nginx on a host: files that are taken back where Nginx refuses them, and reloads that count."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from sixways.server.ssh import HostError, Remote
from sixways_bundle import BundleError, Problem

_LISTEN_SECONDS = 10.0


@dataclass(frozen=True)
class File:
    """A file of the host, root's."""

    text: str
    mode: int = 0o644


def put(remote: Remote, files: Mapping[str, File]) -> bool:
    """Writes these files.

    Returns:
        Whether one was another before.
    """
    changed = False
    for path, file in files.items():
        changed |= remote.write(path, file.text, mode=file.mode)
    return changed


def differing(remote: Remote, files: Mapping[str, File]) -> list[str]:
    """Which of these files are not there, or hold something else."""
    return [path for path, file in files.items() if remote.read(path) != file.text.encode()]


@contextlib.contextmanager
def put_back_on_error(remote: Remote, paths: Collection[str]) -> Iterator[None]:
    """Where the block fails, these files are as they were before, for Nginx too.

    Raises:
        BundleError: the block's own.
    """
    before = {path: _kept(remote, path) for path in paths}
    try:
        yield
    except BundleError:
        with contextlib.suppress(BundleError):  # the first failure is the one to tell
            for path, kept in before.items():
                if kept is None:
                    remote.remove(path)
                else:
                    remote.write(path, kept[0], mode=kept[1])
            if runs(remote):
                reload(remote)
        raise


def _kept(remote: Remote, path: str) -> tuple[bytes, int] | None:
    data = remote.read(path)
    if data is None:
        return None
    return data, int(remote.run("stat", "-c", "%a", path).stdout, 8)


def check(remote: Remote) -> None:
    """Asks Nginx whether it accepts its configuration.

    Raises:
        HostError: it does not; says why.
    """
    done = remote.run("nginx", "-t", "-q", check=False)
    if not done.ok:
        why = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise HostError(f"{remote.access}: Nginx refuses its configuration: {why}")


def runs(remote: Remote) -> bool:
    """Whether Nginx runs."""
    if _systemd(remote):
        return remote.run("systemctl", "is-active", "--quiet", "nginx", check=False).ok
    return remote.run("pgrep", "-x", "nginx", check=False).ok


def start(remote: Remote) -> None:
    """Starts it, and with every boot of the host where systemd can."""
    if _systemd(remote):
        remote.run("systemctl", "enable", "--now", "--quiet", "nginx")
    else:
        remote.run("nginx")


def stop(remote: Remote) -> None:
    """Stops it, and no boot starts it."""
    if _systemd(remote):
        remote.run("systemctl", "disable", "--now", "--quiet", "nginx")
    else:
        remote.run("nginx", "-s", "quit", check=False)


def reload(remote: Remote) -> None:
    """Has it read its files anew; requests that are under way are answered by what was before.

    Raises:
        HostError: it refuses them.
    """
    check(remote)
    if _systemd(remote):
        remote.run("systemctl", "reload", "nginx")
    else:
        remote.run("nginx", "-s", "reload")


def require_free(remote: Remote, ports: Mapping[int, str]) -> None:
    """Nobody but Nginx listens at these ports; the values are the inputs that named them.

    Raises:
        HostError: somebody does; names the program.
    """
    found = listeners(remote)
    problems = [
        Problem(field, str(port), "a port that no other program listens at",
                f"stop {', '.join(sorted(found[port]))} on the host, or choose another port")
        for port, field in ports.items()
        if found.get(port) and "nginx" not in found[port]
    ]  # fmt: skip
    if problems:
        raise HostError(f"{remote.access}: a port is taken", problems)


def wait_until_it_listens(remote: Remote, ports: Collection[int]) -> None:
    """Until Nginx listens at all of them: a reload that cannot says so in its log alone.

    Raises:
        HostError: it does not; with what its log says.
    """
    end = time.monotonic() + _LISTEN_SECONDS
    while missing := sorted(set(ports) - listening(remote)):
        if time.monotonic() > end:
            said = remote.run("tail", "-n", "5", "/var/log/nginx/error.log", check=False).stdout
            raise HostError(
                f"{remote.access}: Nginx does not listen at {', '.join(map(str, missing))} "
                f"{_LISTEN_SECONDS:g} s after it was told to. Its log: {said.strip()[-1000:]}"
            )
        time.sleep(0.2)


def listening(remote: Remote) -> set[int]:
    """The ports at which Nginx listens."""
    return {port for port, programs in listeners(remote).items() if "nginx" in programs}


def listeners(remote: Remote) -> dict[int, set[str]]:
    """The programs that listen at each TCP port, on whichever of the host's addresses."""
    found: dict[int, set[str]] = {}
    for line in remote.run("ss", "-Hltnp").stdout.splitlines():
        words = line.split()
        port = int(words[3].rpartition(":")[2])
        found.setdefault(port, set()).update(re.findall(r'\("([^"]+)"', line))
    return found


def _systemd(remote: Remote) -> bool:
    return remote.exists("/run/systemd/system")
