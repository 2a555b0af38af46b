"""The machines that the tests on hosts run on are what those tests take them for."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sixways.server.ssh import Access, HostError, connected
from tests.host.machine import Machine, own_machine

pytestmark = pytest.mark.host


def _access(made: Machine, user: str = "root") -> Access:
    return Access(**made.access(user))  # type: ignore[arg-type]


def _answers(made: Machine, port: int) -> bool:
    try:
        socket.create_connection((made.address, port), 2).close()
    except OSError:
        return False
    return True


def test_machines_reach_each_other_and_can_lose_power(tmp_path: Path) -> None:
    with own_machine(tmp_path / "a") as first, own_machine(tmp_path / "b") as second:
        for user in ("root", "deploy"):
            with connected(_access(first, user)) as remote:
                assert remote.run("id", "-un").stdout == "root\n"
        with (
            pytest.raises(HostError, match="cannot become root"),
            connected(_access(first, "guest")),
        ):
            pass
        first.run("systemctl", "is-active", "nginx")
        seen = second.run("curl", "-s", f"http://{first.address}/", "-o", "/dev/null", "-w",
                          "%{http_code} %{local_ip}")  # fmt: skip
        assert seen == f"200 {second.address}"
        assert second.address in first.read("/var/log/nginx/access.log")

        first.unplug()
        assert not _answers(first, 80)
        first.plug()
        assert _answers(first, 80)

        first.write("/srv/kept", "")
        first.kill()
        assert not _answers(first, 22)
        first.start()
        with connected(_access(first)) as remote:
            assert remote.exists("/srv/kept")


def test_a_machine_may_have_no_systemd(tmp_path: Path) -> None:
    with own_machine(tmp_path, systemd=False) as made, connected(_access(made)) as remote:
        assert not remote.exists("/run/systemd/system")
        assert remote.run("ps", "-o", "comm=", "-p", "1").stdout != "systemd\n"
