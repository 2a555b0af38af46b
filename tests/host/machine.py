"""Debian 12 machines that boot: systemd-nspawn, each in a network namespace of its own.

The bases are made once by `.ci/hosts.sh` and unpacked for each machine (3 s), so nothing of one
test is there in the next. Several tests may run at a time, in processes of their own too.

A cloud's bare machine, with user data:

    with machine(folder) as made:
        made.boot(script)
        made.wait_for_user_data(500)

Machines of one's own, with sshd, Nginx and Python, booted and let in by a key (5 s each). They
reach each other and this side by their addresses, and the internet where this side does:

    with own_machine(folder / "a") as first, own_machine(folder / "b") as second:
        first.access()            # AccessArgs: address, host_key, user, private_key
        first.access("deploy")    # a user whose sudo asks for no password; `guest` has no sudo
        first.run("systemctl", "is-active", "nginx")
        first.kill()              # as if its power were cut; `start()` boots it again
        second.unplug()           # its network cable; `plug()` puts it back

`own_machine(folder, systemd=False)` runs sshd below a small process 1, and no systemd. `share`
puts a folder of this side into a machine by hard links: a wheelhouse costs no time and no space.
The fixture `wheelhouse` has every wheel of `sixways[server]` for a machine's Python.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sixways.server.args import AccessArgs

T = TypeVar("T")
BASE = Path(
    os.environ.get("SIXWAYS_HOST_BASE")
    or Path.home() / ".cache" / "sixways" / "hosts" / "debian-12.tar"
)
"""As a cloud hands it out."""
OWN = BASE.with_name(f"{BASE.stem}-ssh.tar")
"""As somebody's own server is."""
TOOLS = ("systemd-nspawn", "ip", "iptables", "nsenter", "tar", "ssh-keygen",
         "prometheus", "promtool")  # fmt: skip
_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
_USERS = {"root": "/root", "deploy": "/home/deploy", "guest": "/home/guest"}
_USER_DATA = """[Unit]
Description=What cloud-init does with user data
After=network-online.target
[Service]
Type=oneshot
ExecStart=/user-data
StandardOutput=file:/var/log/cloud-init-output.log
StandardError=inherit
[Install]
WantedBy=multi-user.target
"""


def missing() -> str | None:
    """What this machine lacks for the tier; None: nothing."""
    if os.geteuid() != 0:
        return "root is needed for network namespaces and systemd-nspawn"
    absent = [tool for tool in TOOLS if not shutil.which(tool)]
    if absent:
        return f"{', '.join(absent)} not on PATH; see .ci/hosts.sh"
    for base in (BASE, OWN):
        if not base.is_file():
            return f"{base} is not there; .ci/hosts.sh makes it"
    return None


@dataclass
class Machine:
    """A machine that can be booted: its folder, and its addresses."""

    root: Path
    namespace: str
    address: str
    gateway: str
    """This side: the machine reaches it there, and everything else through it."""
    systemd: bool = True
    """Whether systemd is its process 1."""
    nspawn: subprocess.Popen[bytes] | None = None

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file of the machine."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def read(self, path: str) -> str:
        """A file of the machine; empty where there is none."""
        target = self.root / path.lstrip("/")
        return target.read_text(errors="replace") if target.is_file() else ""

    def share(self, source: Path, path: str) -> None:
        """The folder `source` at `path` of the machine, by hard links: only to be read there."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copytree(source, target, copy_function=os.link)
        except shutil.Error:  # another file system
            shutil.copytree(source, target, dirs_exist_ok=True)

    def mask(self, unit: str) -> None:
        """Lets systemd never start it."""
        (self.root / "etc/systemd/system" / unit).symlink_to("/dev/null")

    def access(self, user: str = "root") -> AccessArgs:
        """How it is reached over ssh as root, `deploy` (sudo without password) or `guest`."""
        return {
            "address": self.address,
            "host_key": self.read(f"{_HOST_KEY}.pub").strip(),
            "user": user,
            "private_key": (self.root.parent / "login_key").read_text(),
        }

    def boot(self, user_data: str) -> None:
        """Starts it with that script as cloud-init would run it."""
        self.write("/user-data", user_data, 0o755)
        self.write("/etc/systemd/system/user-data.service", _USER_DATA)
        wants = self.root / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / "user-data.service").symlink_to("/etc/systemd/system/user-data.service")
        self._spawn()

    def start(self) -> None:
        """Boots a machine of one's own and waits until its sshd answers."""
        self.plug()
        self._spawn()
        self.wait_until(self._sshd_answers, 60, "sshd does not answer")

    def run(self, *command: str, check: bool = True, seconds: float = 240) -> str:
        """Runs a command in the machine, as root and not over ssh; returns what it said."""
        done = subprocess.run(
            ["nsenter", "--target", str(self._leader()), "--all", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=seconds,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stdout}")
        return done.stdout

    @staticmethod
    def wait_until(question: Callable[[], T], seconds: float, otherwise: str) -> T:
        """Asks until the answer is true, and returns it; fails after so many seconds."""
        end = time.monotonic() + seconds
        while not (answer := question()):
            assert time.monotonic() < end, f"{otherwise} within {seconds} s"
            time.sleep(0.1)
        return answer

    def wait_for_user_data(self, seconds: float) -> str:
        """Waits until the script has ended; returns what it wrote.

        Raises:
            AssertionError: it failed, or took too long.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(AssertionError, IndexError, FileNotFoundError):
                active = self.run("systemctl", "show", "-P", "ActiveState", "user-data").strip()
                log = self.read("/var/log/cloud-init-output.log")
                if active == "failed":
                    raise _Ended(f"the user data failed:\n{log[-4000:]}")
                if active == "inactive" and log:
                    return log
            time.sleep(1)
        log = self.read("/var/log/cloud-init-output.log")
        raise AssertionError(f"not done after {seconds} s:\n{log[-4000:]}")

    def unplug(self) -> None:
        """Pulls its network cable: nobody hears that it is gone, packets are just lost."""
        _ip(f"-n {self.namespace} link set host0 down")

    def plug(self) -> None:
        """Puts the cable back."""
        _ip(f"-n {self.namespace} link set host0 up")
        _ip(f"-n {self.namespace} route replace default via {self.gateway}")

    def kill(self) -> None:
        """Cuts its power: nothing is flushed, closed or said to anybody. `start` boots it again."""
        if self.nspawn is not None:
            self.unplug()
            with contextlib.suppress(OSError, IndexError):
                os.kill(self._leader(), 9)
            self.nspawn.kill()
            self.nspawn.wait(10)
            self.nspawn = None

    def stop(self) -> None:
        """Shuts it down as a poweroff would."""
        if self.nspawn is None:
            return
        if not self.systemd:
            self.kill()
            return
        self.nspawn.terminate()
        try:
            self.nspawn.wait(60)
        except subprocess.TimeoutExpired:
            self.nspawn.kill()
            self.nspawn.wait(10)
        self.nspawn = None

    def _spawn(self) -> None:
        assert self.nspawn is None, "it runs already"
        how = ["--boot"] if self.systemd else ["--as-pid2"]
        sshd = ["/bin/sh", "-c", "mkdir -p /run/sshd && exec /usr/sbin/sshd -D"]
        what = [] if self.systemd else sshd
        self.nspawn = subprocess.Popen(
            ["systemd-nspawn", "-q", "-D", str(self.root), *how, "--register=no", "--keep-unit",
             f"--network-namespace-path=/run/netns/{self.namespace}", "--console=pipe",
             "--capability=CAP_NET_ADMIN", *what],  # its network is its own, firewall included
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # The network is its own, and so are the kernel's settings of it.
            env={**os.environ, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"},
        )  # fmt: skip

    def _leader(self) -> int:
        """The machine's process 1, as seen from here."""
        assert self.nspawn is not None, "it does not run"
        children = Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").read_text()
        return int(children.split()[0])

    def _sshd_answers(self) -> bool:
        assert self.nspawn is not None
        assert self.nspawn.poll() is None, "systemd-nspawn ended"
        try:
            with socket.create_connection((self.address, 22), 1) as link:
                return link.recv(4) == b"SSH-"
        except OSError:
            return False


class _Ended(Exception):
    """The script failed."""


@contextlib.contextmanager
def machine(folder: Path, base: Path = BASE, *, systemd: bool = True) -> Iterator[Machine]:
    """An unpacked Debian with a network, not yet started; stopped and removed at the end.

    Args:
        folder: its root becomes `folder/root`.
        base: what is unpacked.
        systemd: whether systemd will be its process 1.
    """
    root = folder / "root"
    root.mkdir(parents=True)
    subprocess.run(["tar", "-C", str(root), "-xf", str(base)], check=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    # Where packages come through a proxy with a certificate of its own, the machine trusts it too.
    certificates = root / "etc/ssl/certs/ca-certificates.crt"
    if Path("/etc/ssl/certs/ca-certificates.crt").is_file():
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", certificates)
    with _claimed() as number:
        namespace = f"sixways{os.getpid()}x{number}"
        network = f"10.213.{number}"
        made = Machine(root, namespace, f"{network}.2", f"{network}.1", systemd)
        with _network(namespace, number, network):
            try:
                yield made
            finally:
                made.kill()  # an orderly end would take half a minute
                shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def own_machine(
    folder: Path, *, systemd: bool = True, before: Callable[[Machine], None] | None = None
) -> Iterator[Machine]:
    """A machine of one's own: it runs, and its sshd answers; see this module.

    Args:
        folder: its root becomes `folder/root`.
        systemd: whether systemd is its process 1; else sshd is all that runs.
        before: called before it boots, to put files there.
    """
    with machine(folder, OWN, systemd=systemd) as made:
        name = f"host-{made.address.replace('.', '-')}"
        made.write("/etc/hostname", f"{name}\n")
        made.write("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost\n")
        made.write("/etc/pip.conf", _pip_settings())
        # Nobody tells systemd in here that a user's manager has ended: a login would wait for its
        # timeout, a minute and more.
        made.mask("user@.service")
        _make_key(made.root / _HOST_KEY.lstrip("/"))
        _make_key(folder / "login_key")
        public = (folder / "login_key.pub").read_text()
        for user, home in _USERS.items():
            made.write(f"{home}/.ssh/authorized_keys", public)
            owner = (made.root / home.lstrip("/")).stat()
            for path in (f"{home}/.ssh", f"{home}/.ssh/authorized_keys"):
                os.chown(made.root / path.lstrip("/"), owner.st_uid, owner.st_gid)
            assert user in made.read("/etc/passwd")
        if before is not None:
            before(made)
        made.start()
        yield made


def _make_key(path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True
    )


def _pip_settings() -> str:
    """A machine's pip looks for packages where this side's does."""
    settings = ["[global]", "cert = /etc/ssl/certs/ca-certificates.crt"]
    if "PIP_INDEX_URL" in os.environ:
        settings.append(f"index-url = {os.environ['PIP_INDEX_URL']}")
    return "\n".join(settings) + "\n"


@contextlib.contextmanager
def _claimed() -> Iterator[int]:
    """A number from 1 to 254 that no other machine has, whichever process it is of."""
    with socket.socket(socket.AF_UNIX) as held:
        yield next(number for number in range(1, 255) if _binds(held, number))


def _binds(held: socket.socket, number: int) -> bool:
    try:
        held.bind(f"\0sixways-machine-{number}")  # free again when the process ends
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _network(namespace: str, number: int, network: str) -> Iterator[None]:
    here, there = f"sw{os.getpid()}h{number}", f"sw{os.getpid()}m{number}"
    forward = Path("/proc/sys/net/ipv4/ip_forward")
    # The machines see each other's own addresses; outside they all have this side's.
    nat = ["-t", "nat", "POSTROUTING", "-s", f"{network}.0/24", "!", "-d", "10.213.0.0/16",
           "-j", "MASQUERADE"]  # fmt: skip
    _remove_leftovers(number)
    unwanted = ["iptables", *nat[:2], "-D", *nat[2:]]
    while subprocess.run(unwanted, check=False, capture_output=True).returncode == 0:
        pass
    try:
        for command in (
            f"netns add {namespace}",
            f"link add {here} type veth peer name {there}",
            f"link set {there} netns {namespace}",
            f"addr add {network}.1/24 dev {here}",
            f"link set {here} up",
            f"-n {namespace} link set {there} name host0",
            f"-n {namespace} addr add {network}.2/24 dev host0",
            f"-n {namespace} link set host0 up",
            f"-n {namespace} link set lo up",
            f"-n {namespace} route add default via {network}.1",
        ):
            _ip(command)
        forward.write_text("1")  # and stays: another process may have machines
        subprocess.run(["iptables", *nat[:2], "-A", *nat[2:]], check=True)
        yield
    finally:
        subprocess.run(["iptables", *nat[:2], "-D", *nat[2:]], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", here], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)


def _remove_leftovers(number: int) -> None:
    """Ends what a run that was killed left: the number is ours by now, so nobody else uses it."""
    for link in Path("/sys/class/net").glob(f"sw*h{number}"):
        subprocess.run(["ip", "link", "del", link.name], check=False, capture_output=True)
    for namespace in Path("/run/netns").glob(f"sixways*x{number}"):
        pids = subprocess.run(
            ["ip", "netns", "pids", namespace.name], capture_output=True, text=True, check=False
        )
        for pid in pids.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        subprocess.run(["ip", "netns", "del", namespace.name], check=False, capture_output=True)


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True)
