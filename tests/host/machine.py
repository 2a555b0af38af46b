"""A Debian 12 that boots: systemd-nspawn in a network namespace of its own, with a way out.

The base is made once by `.ci/hosts.sh` and unpacked for each machine, so nothing of one test is
there in the next.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BASE = Path(
    os.environ.get("SIXWAYS_HOST_BASE")
    or Path.home() / ".cache" / "sixways" / "hosts" / "debian-12.tar"
)
TOOLS = ("systemd-nspawn", "ip", "iptables", "nsenter", "tar")
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
    if not BASE.is_file():
        return f"{BASE} is not there; .ci/hosts.sh makes it"
    return None


@dataclass
class Machine:
    """A machine that can be booted: its folder, and its addresses."""

    root: Path
    namespace: str
    address: str
    gateway: str
    """This side: the machine reaches it there, and everything else through it."""
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

    def boot(self, user_data: str) -> None:
        """Starts it with that script as cloud-init would run it."""
        self.write("/user-data", user_data, 0o755)
        self.write("/etc/systemd/system/user-data.service", _USER_DATA)
        wants = self.root / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / "user-data.service").symlink_to("/etc/systemd/system/user-data.service")
        self.nspawn = subprocess.Popen(
            ["systemd-nspawn", "-q", "-D", str(self.root), "--boot", "--register=no",
             "--keep-unit", f"--network-namespace-path=/run/netns/{self.namespace}",
             "--console=pipe"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def run(self, *command: str, check: bool = True) -> str:
        """Runs a command in the machine; returns what it said."""
        assert self.nspawn is not None
        children = Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").read_text()
        leader = children.split()[0]
        done = subprocess.run(
            ["nsenter", "--target", leader, "--all", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=240,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stdout}")
        return done.stdout

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

    def stop(self) -> None:
        """Shuts it down as a poweroff would."""
        if self.nspawn is None:
            return
        self.nspawn.terminate()
        try:
            self.nspawn.wait(60)
        except subprocess.TimeoutExpired:
            self.nspawn.kill()
            self.nspawn.wait(10)


class _Ended(Exception):
    """The script failed."""


@contextlib.contextmanager
def machine(folder: Path, number: int = 1) -> Iterator[Machine]:
    """An unpacked Debian with a network; stopped and removed at the end.

    Args:
        folder: its root becomes `folder/root`.
        number: 1 to 254, another for each machine at a time.
    """
    root = folder / "root"
    root.mkdir(parents=True)
    subprocess.run(["tar", "-C", str(root), "-xf", str(BASE)], check=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    # Where packages come through a proxy with a certificate of its own, the machine trusts it too.
    certificates = root / "etc/ssl/certs/ca-certificates.crt"
    if Path("/etc/ssl/certs/ca-certificates.crt").is_file():
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", certificates)
    namespace = f"sixways{os.getpid() % 10000}x{number}"
    network = f"10.213.{number}"
    made = Machine(root, namespace, f"{network}.2", f"{network}.1")
    with _network(namespace, number, network):
        try:
            yield made
        finally:
            made.stop()
            shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def _network(namespace: str, number: int, network: str) -> Iterator[None]:
    here, there = f"sw{os.getpid() % 10000}h{number}", f"sw{os.getpid() % 10000}m{number}"
    forward = Path("/proc/sys/net/ipv4/ip_forward")
    before = forward.read_text()
    nat = ["-t", "nat", "POSTROUTING", "-s", f"{network}.0/24", "-j", "MASQUERADE"]
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
            subprocess.run(["ip", *command.split()], check=True, capture_output=True)
        forward.write_text("1")
        subprocess.run(["iptables", *nat[:2], "-A", *nat[2:]], check=True)
        yield
    finally:
        subprocess.run(["iptables", *nat[:2], "-D", *nat[2:]], check=False, capture_output=True)
        forward.write_text(before)
        subprocess.run(["ip", "link", "del", here], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)
