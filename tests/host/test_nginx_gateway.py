"""`NginxGateway` on a real host: unit, user and files of its own, and nothing left behind."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest

from sixways.api.nginx_gateway import problems
from tests.conftest import private_pulumi
from tests.engine.gateway import fleet
from tests.engine.pulumi_stack import Stack
from tests.host.machine import own_machine

pytestmark = [pytest.mark.host, pytest.mark.engine]
_PROGRAM = """
import json
import pulumi
from sixways.api import NginxGateway

gateway = NginxGateway("gateway", json.loads(pulumi.Config().require("gateway")))
for name in ("url", "api_key", "certificate"):
    pulumi.export(name, getattr(gateway, name))
"""


def test_a_host_gets_a_gateway_and_gives_it_back(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "Pulumi.yaml").write_text("name: shop\nruntime: python\n")
    (project / "__main__.py").write_text(_PROGRAM)
    with (
        own_machine(tmp_path / "host") as made,
        fleet(tmp_path, [{"name": "e", "path": "dummy:embeddings"}], 2, made.gateway) as servers,
        Stack(project, private_pulumi(tmp_path / "pulumi")) as stack,
    ):
        before = made.run("sh", "-c", "cat /etc/passwd /etc/group; ls /etc/systemd/system /var/lib")
        args: dict[str, Any] = {
            "upstream": {
                "instances": [{"url": one.url} for one in servers.instances],
                "health_path": "/readyz",
                "api_key": servers.key,
            },
            "plans": [{"name": "free", "requests_per_second": 100}],
            "keys": [{"name": "ann", "plan": "free"}],
            "tls": {"self_signed": True, "names": [made.address]},
            "host": made.access("deploy"),
        }
        assert problems("gateway", args) == []  # type: ignore[arg-type]
        stack.config(gateway=json.dumps(args))
        stack.up("--skip-preview")
        outputs = stack.outputs()
        assert outputs["url"] == f"https://{made.address}"
        trusted = ssl.create_default_context(cadata=outputs["certificate"])
        with httpx.Client(base_url=outputs["url"], verify=trusted) as caller:
            text = {"model": "e", "input": "a"}
            assert caller.post("/v1/embeddings", json=text).status_code == 401
            caller.headers["x-api-key"] = outputs["api_key"]
            assert caller.post("/v1/embeddings", json=text).status_code == 200

            stack.up("--refresh", "--expect-no-changes")
            # The trial is not needed by the unit; both run as a user who may do nothing else.
            workers = made.run("ps", "-o", "user:20=", "-C", "nginx").split()
            assert "sixways-gateway" in workers
            mode = "stat -c '%a %U %G' /var/lib/sixways-gateway/conf/keys.conf"
            assert made.run("sh", "-c", mode).split() == ["640", "root", "sixways-gateway"]
            # Else a gateway that was taken over could lead what root writes there to elsewhere.
            mode = "cd /var/lib/sixways-gateway && stat -c '%a %U' . tmp owner"
            assert made.run("sh", "-c", mode).split("\n")[:3] == [
                "1770 root", "770 root", "644 root",
            ]  # fmt: skip
            verdict = made.run("systemd-analyze", "security", "sixways-gateway.service")
            exposure = float(verdict.split("level for sixways-gateway.service: ")[1].split()[0])
            assert exposure <= 3.0, verdict

            master = made.run("cat", "/var/lib/sixways-gateway/nginx.pid")
            stack.config(
                gateway=json.dumps(
                    {**args, "plans": [{"name": "free", "requests_per_second": 1, "burst": 1}]}
                )
            )
            stack.up("--skip-preview")
            assert made.run("cat", "/var/lib/sixways-gateway/nginx.pid") == master
            statuses = [caller.post("/v1/embeddings", json=text).status_code for _ in range(3)]
            assert 429 in statuses
            line = json.loads(
                made.run("sh", "-c", "tail -qn1 /var/log/sixways-gateway/access-*.json")
            )
            assert (line["key"], line["status"]) == ("ann", 429)

        made.run("systemctl", "stop", "sixways-gateway.service")
        shown = stack.up("--refresh", "--skip-preview").stdout
        assert "does not run; the next update starts it" in shown
        assert httpx.get(f"{outputs['url']}/readyz", verify=trusted).status_code == 200

        stack.destroy()
        after = made.run("sh", "-c", "cat /etc/passwd /etc/group; ls /etc/systemd/system /var/lib")
        assert after == before
        assert made.run("ls", "/var/log/sixways-gateway", check=False).endswith(
            "No such file or directory\n"
        )
