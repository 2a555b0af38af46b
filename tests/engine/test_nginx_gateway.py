"""`NginxGateway` from `up` to `destroy`: a real Nginx in front of three real servers.

The tests of this file share one deployment and run in order.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from sixways.api.nginx_files import render
from sixways.plugin.certificate import self_signed
from sixways.plugin.nginx_here import Here
from sixways_bundle.build import Request
from sixways_bundle.worker import build_in_child
from tests.conftest import private_pulumi, require
from tests.engine.deployment import MINILM
from tests.engine.gateway import CHAT_DELAY, Fleet, Instance, fleet, load
from tests.engine.pulumi_stack import Stack
from tests.nginx import MISSING
from tests.ports import free_port

pytestmark = pytest.mark.engine
_PROGRAM = """
import json
import pulumi
from sixways.api import NginxGateway

args = json.loads(pulumi.Config().require("gateway"))
for key in args["keys"]:
    for field in ("key", "previous_key"):
        if isinstance(key.get(field), str) and key.pop("secret", True):
            key[field] = pulumi.Output.secret(key[field])
gateway = NginxGateway("gateway", args)
for name in ("url", "health_url", "api_key", "api_keys", "dashboard", "certificate", "log_path"):
    pulumi.export(name, getattr(gateway, name))
pulumi.export("status", gateway.status)
"""
ANN, NEW, BOB = "ann-key-AbCdEfGhIjKlMnOp", "ann-new-AbCdEfGhIjKlMnOp", "bob-key-0123456789abcdef"
_FAST = {"name": "fast", "requests_per_second": 10_000, "burst": 10_000}
_SLOW = {"name": "slow", "requests_per_second": 0.5, "burst": 3}


@dataclass
class Deployed:
    """The stack with the gateway, and what stands behind it."""

    stack: Stack
    fleet: Fleet
    args: dict[str, Any]

    def set(self, **changes: Any) -> None:
        """Other inputs."""
        self.args = {**self.args, **changes}
        self.stack.config(gateway=json.dumps(self.args))

    def nginx(self) -> dict[str, Any]:
        """The process, as the state has it."""
        found = [r for r in self.stack.resources() if r["type"] == "sixways:api:NginxProcess"]
        assert len(found) == 1
        outputs: dict[str, Any] = found[0]["outputs"]
        return outputs

    def client(self, key: str | None = None, **options: Any) -> httpx.Client:
        """A caller with that key, who trusts the gateway's certificate."""
        outputs = self.stack.outputs()
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        trusted = self.trusted(outputs["certificate"])
        return httpx.Client(base_url=outputs["url"], headers=headers, verify=trusted, **options)

    @staticmethod
    def trusted(certificate: str) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=certificate)

    def log(self) -> list[dict[str, Any]]:
        """The access log."""
        pattern = Path(self.nginx()["logPath"])
        lines = [line for path in sorted(pattern.parent.glob(pattern.name))
                 for line in path.read_text().splitlines()]  # fmt: skip
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    require("engine", MISSING)
    folder = tmp_path_factory.mktemp("gateway")
    project = folder / "project"
    project.mkdir()
    (project / "Pulumi.yaml").write_text("name: shop\nruntime: python\n")
    (project / "__main__.py").write_text(_PROGRAM)
    bundle = build_in_child(
        Request(name=MINILM["name"], source=MINILM["source"], variants=(MINILM["variant"],))
    )
    models = [
        {"name": "e", "path": "dummy:embeddings"},
        {"name": "c", "path": f"dummy:chat?delay={CHAT_DELAY}"},
        {"name": "minilm", "path": str(bundle.path)},
    ]
    env = private_pulumi(folder / "pulumi")
    with fleet(folder, models) as instances, Stack(project, env) as stack:
        upstream = {
            "instances": [{"url": one.url} for one in instances.instances],
            "health_path": "/readyz",
            "api_key": instances.key,
        }
        yield Deployed(
            stack,
            instances,
            {
                "upstream": upstream,
                "plans": [_FAST, _SLOW],
                "keys": [
                    {"name": "ann", "plan": "fast", "key": ANN},
                    {"name": "bob", "plan": "slow", "key": BOB},
                    {"name": "carol", "plan": "fast"},
                ],
                "tls": {"self_signed": True},
                "port": free_port(),
                "metrics_port": free_port(),
            },
        )


def test_bad_inputs_are_told_at_once_and_nothing_is_made(gateway: Deployed) -> None:
    good = gateway.args
    gateway.set(
        upstream={"instances": good["upstream"]["instances"]},
        plans=[{**_SLOW, "burst": 0}, {"name": "free"}, {"name": "big", "quota": 5}],
        keys=[good["keys"][0], {**good["keys"][0], "secret": False}],
        listen="0.0.0.0",  # noqa: S104 - is refused
        tls=None,
    )
    done = gateway.stack.up("--skip-preview", check=False)
    assert done.returncode != 0
    for field in (
        "upstream.health_path: is missing",
        "plans[0].burst: '0'",
        "plans[1].requests_per_second: is missing",
        "plans[2].quota: '5' is not accepted; accepted: nothing: Nginx counts no requests",
        "keys[0].plan: 'fast'",
        "keys[1].name: 'ann' is not accepted; accepted: each name once",
        "tls: is missing; accepted: a certificate, since keys must not travel in clear text",
    ):
        assert field in done.stdout, field
    made = [r["type"] for r in gateway.stack.resources() if r["type"].startswith("sixways:")]
    assert made == []
    gateway.set(**good)
    gateway.set(listen="127.0.0.1")


def test_up_serves_those_with_a_key(gateway: Deployed) -> None:
    shown = gateway.stack.up("--skip-preview").stdout
    outputs = gateway.stack.outputs()
    state = json.dumps(gateway.stack.resources())
    for secret in (ANN, BOB, gateway.fleet.key, outputs["api_keys"]["carol"]):
        assert secret not in shown
        assert secret not in state
    assert (outputs["api_key"], set(outputs["api_keys"])) == (ANN, {"ann", "bob", "carol"})
    text = {"model": "minilm", "input": "The harbour was quiet."}
    with gateway.client() as stranger:
        refused = stranger.post("/v1/embeddings", json=text)
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "invalid_api_key"
        assert refused.headers["www-authenticate"] == 'Bearer realm="sixways"'
        assert isinstance(stranger.get("/v2/models/e").json()["error"], str)
        for wrong in (ANN.lower(), ANN + "x", f"ann {ANN}", "", "default", "~"):
            headers = {"x-api-key": wrong}
            assert stranger.get("/v1/models", headers=headers).status_code == 401, wrong
        assert stranger.get("/readyz").status_code == 200
        trusted = gateway.trusted(outputs["certificate"])
        assert httpx.get(outputs["health_url"], verify=trusted).status_code == 200
        for path in ("/metrics", "/console.json", "/nothing", "/v1"):
            assert stranger.get(path, headers={"x-api-key": ANN}).status_code == 404, path
        for path in ("/docs/..%2fmetrics", "//docs", "/v1/%2e%2e/metrics", "/docs%00"):
            odd = httpx.Request("GET", outputs["url"] + "/x")
            odd.url = odd.url.copy_with(raw_path=path.encode())
            assert stranger.send(odd).status_code == 400, path
    for key in (ANN, outputs["api_keys"]["carol"]):
        with gateway.client(key) as caller:
            answer = caller.post("/v1/embeddings", json=text)
            assert answer.status_code == 200
            assert len(answer.json()["data"][0]["embedding"]) == 384
            refused = caller.delete("/v1/models")
            assert (refused.status_code, refused.headers["allow"]) == (405, "GET, POST")
            body = "a" * (8 * 2**20 + 1)
            assert caller.post("/v1/embeddings", content=body).status_code == 413


def test_a_second_up_changes_nothing(gateway: Deployed) -> None:
    before, master = gateway.nginx()["configuration"], _master(gateway)
    gateway.stack.up("--refresh", "--expect-no-changes")
    assert (gateway.nginx()["configuration"], _master(gateway)) == (before, master)


def test_files_are_the_users_alone(gateway: Deployed) -> None:
    folder = Path(gateway.nginx()["folder"])
    assert folder.stat().st_mode & 0o777 == 0o700
    for path in (folder / "conf").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path
    argv = [str(p.info["cmdline"]) for p in psutil.process_iter(["cmdline"])]
    assert ANN not in "".join(argv)


def test_a_plan_holds_each_key_to_its_rate(gateway: Deployed) -> None:
    text = {"model": "e", "input": "a"}
    with gateway.client(BOB) as bob, gateway.client(ANN) as ann:
        answers = [bob.post("/v1/embeddings", json=text) for _ in range(4)]
        assert [one.status_code for one in answers] == [200, 200, 200, 429]
        assert answers[-1].headers["retry-after"] == "2"
        assert answers[-1].json()["error"] == {
            "message": "too many requests with this key: plan slow has 30 requests a minute",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        }
        assert ann.post("/v1/embeddings", json=text).status_code == 200
        assert bob.get("/readyz").status_code == 200


def test_the_log_names_the_key_and_never_shows_it(gateway: Deployed) -> None:
    with gateway.client(BOB) as bob:
        headers = {"x-request-id": "mine-1"}
        asked = {"model": "e", "input": "a"}
        while bob.post("/v1/embeddings?secret=word", json=asked, headers=headers).is_success:
            pass  # what his plan grants is used up, however long ago that was
    lines = gateway.log()
    assert {"ann", "bob", "carol", ""} == {line["key"] for line in lines}
    line = [line for line in lines if line["request_id"] == "mine-1"][-1]
    assert (line["key"], line["plan"], line["status"]) == ("bob", "slow", 429)
    assert line["path"] == "/v1/embeddings"
    served = next(line for line in lines if line["key"] == "ann" and line["status"] == 200)
    assert served["upstream"] in {f"127.0.0.1:{one.port}" for one in gateway.fleet.instances}
    assert float(served["upstream_seconds"]) >= 0
    written = json.dumps(lines)
    for word in (ANN, BOB, gateway.fleet.key, "secret=word", "harbour"):
        assert word not in written
    port = gateway.args["metrics_port"]
    assert "Active connections" in httpx.get(f"http://127.0.0.1:{port}/status").text


def test_the_first_token_is_not_held_back(gateway: Deployed) -> None:
    words = "one two three four five six seven eight"
    with gateway.client(ANN) as caller, _chat(caller, words) as answer:
        began, times = time.monotonic(), []
        for line in answer.iter_lines():
            if line.startswith("data: {") and '"content"' in line:
                times.append(time.monotonic() - began)
    assert len(times) >= 8
    # Held back, all of them came at the end together.
    assert times[-1] - times[0] > 4 * CHAT_DELAY
    assert times[0] < times[-1] / 2


def _chat(caller: httpx.Client, words: str) -> Any:
    body = {"model": "c", "stream": True, "messages": [{"role": "user", "content": words}]}
    return caller.stream("POST", "/v1/chat/completions", json=body)


async def test_a_killed_instance_fails_no_request_and_gets_traffic_again(gateway: Deployed) -> None:
    outputs = gateway.stack.outputs()
    victim = gateway.fleet.instances[1]
    async with load(outputs["url"], ANN, verify=gateway.trusted(outputs["certificate"])) as callers:
        await callers.more(100)
        await asyncio.to_thread(victim.kill)
        await callers.more(400)
        victim.start()
        await asyncio.to_thread(victim.wait)
        back = len(gateway.log())
        async with asyncio.timeout(60):
            while not _reached(gateway, victim, back):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    assert callers.failed == []
    assert set(callers.statuses) == {200}


def _reached(gateway: Deployed, instance: Instance, after: int) -> bool:
    here = f"127.0.0.1:{instance.port}"
    return any(line["upstream"] == here and line["status"] == 200 for line in gateway.log()[after:])


async def test_a_plan_and_a_key_change_under_load_and_no_request_fails(gateway: Deployed) -> None:
    outputs, before = gateway.stack.outputs(), gateway.nginx()
    master = _master(gateway)
    rotating = {"name": "ann", "plan": "fast", "key": NEW, "previous_key": ANN}
    gateway.set(
        keys=[rotating, *gateway.args["keys"][1:]],
        plans=[_FAST, {**_SLOW, "requests_per_second": 50, "burst": 100}],
    )
    trusted = gateway.trusted(outputs["certificate"])
    with gateway.client(ANN, timeout=60) as slow, _chat(slow, "word " * 120) as stream:
        lines = stream.iter_lines()
        assert next(lines)
        async with load(outputs["url"], ANN, callers=4, kept=False, verify=trusted) as callers:
            await callers.more(20)
            shown = (await asyncio.to_thread(gateway.stack.up, "--skip-preview")).stdout
            await callers.more(20)
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert "1 updated" in shown
    assert callers.failed == []
    assert set(callers.statuses) == {200}
    assert _master(gateway) == master
    assert gateway.nginx()["configuration"] != before["configuration"]
    for key in (ANN, NEW):
        with gateway.client(key) as caller:
            assert caller.get("/v1/models").status_code == 200
    with gateway.client(BOB) as bob:
        assert {bob.get("/v1/models").status_code for _ in range(10)} == {200}
    gateway.set(keys=[{"name": "ann", "plan": "fast", "key": NEW}, *gateway.args["keys"][1:]])
    gateway.stack.up("--skip-preview")
    for key, status in ((ANN, 401), (NEW, 200)):
        with gateway.client(key) as caller:
            assert caller.get("/v1/models").status_code == status


def _master(gateway: Deployed) -> int:
    return int((Path(gateway.nginx()["folder"]) / "nginx.pid").read_text())


def test_a_configuration_that_nginx_refuses_changes_nothing(gateway: Deployed) -> None:
    good, before = gateway.args, gateway.nginx()["configuration"]
    pem = "-----BEGIN {0}-----\nAAAA\n-----END {0}-----\n"
    gateway.set(tls={"certificate": pem.format("CERTIFICATE"),
                     "certificate_key": pem.format("PRIVATE KEY")})  # fmt: skip
    done = gateway.stack.up("--skip-preview", check=False)
    assert done.returncode != 0
    assert "Nginx refuses the gateway's configuration" in done.stdout
    assert NEW not in done.stdout
    gateway.set(**good)
    gateway.stack.up("--skip-preview")
    assert gateway.nginx()["configuration"] == before
    with gateway.client(NEW) as caller:
        assert caller.get("/v1/models").status_code == 200


def test_a_dead_process_and_a_changed_file_are_drift_and_heal(gateway: Deployed) -> None:
    os.kill(_master(gateway), signal.SIGKILL)
    gateway.stack.run("refresh", "--yes", "--skip-preview")
    assert gateway.nginx()["status"] == "stopped"
    gateway.stack.up("--skip-preview")
    with gateway.client(NEW) as caller:
        assert caller.get("/v1/models").status_code == 200
    keys = Path(gateway.nginx()["folder"]) / "conf" / "keys.conf"
    own = keys.read_text()
    keys.write_text(own.replace(NEW, "stranger-0123456789abcd"))
    shown = gateway.stack.up("--refresh", "--skip-preview").stdout
    assert "somebody else wrote the files" in shown
    keys = Path(gateway.nginx()["folder"]) / "conf" / "keys.conf"
    assert keys.read_text() == own


def test_routes_open_to_some_plans_alone(gateway: Deployed) -> None:
    gateway.set(routes=[
        {"path": "/v1/*", "plans": ["fast"]},
        {"path": "/v1/models", "methods": ["GET"]},
        {"path": "/docs", "open": True}, {"path": "/docs/*", "open": True},
        {"path": "/openapi.json", "open": True},
    ])  # fmt: skip
    gateway.stack.up("--skip-preview")
    with gateway.client(BOB) as bob:
        assert bob.get("/v1/models").status_code == 200
        refused = bob.post("/v1/embeddings", json={"model": "e", "input": "a"})
        assert refused.status_code == 403
        assert refused.json()["error"]["code"] == "path_not_in_plan"
        assert bob.get("/readyz").status_code == 200
        assert bob.get("/healthz").status_code == 404


def test_the_api_documents_show_in_a_browser(gateway: Deployed, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    require("engine", None if browser else "chromium is not on PATH; apt install chromium")
    outputs = gateway.stack.outputs()
    done = subprocess.run(
        [
            str(browser), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={tmp_path}", "--ignore-certificate-errors", "--enable-logging=stderr",
            "--virtual-time-budget=15000", "--dump-dom", outputs["dashboard"],
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )  # fmt: skip
    assert "/v1/chat/completions" in done.stdout
    assert "/v2/models/{model}/infer" in done.stdout.replace("\u200b", "").replace("<wbr>", "")
    assert "CONSOLE" not in done.stderr, done.stderr


def test_instances_with_tls_must_show_a_certificate_of_their_authority(
    gateway: Deployed, tmp_path: Path
) -> None:
    """A gateway in front of the gateway."""
    outputs = gateway.stack.outputs()
    stranger = self_signed(["localhost"], 1).certificate
    for authority, status in ((outputs["certificate"], 200), (stranger, 503)):
        place, port = Here(tmp_path / str(status)), free_port()
        args = {
            "upstream": {
                "instances": [{"url": outputs["url"], "ca_certificate": authority}],
                "tls_name": "localhost",
                "health_path": "/readyz",
            },
            "upstream_key": NEW,
            "plans": [_FAST],
            "keys": [{"name": "dan", "plan": "fast", "key": ANN}],
            "listen": "127.0.0.1",
            "port": port,
        }
        place.deploy(render(args, place.machine()), lambda _: None)
        try:
            headers = {"x-api-key": ANN}
            answer = httpx.get(f"http://127.0.0.1:{port}/v1/models", headers=headers)
            assert answer.status_code == status
        finally:
            place.remove()


def test_another_place_is_another_gateway(gateway: Deployed, tmp_path: Path) -> None:
    before = gateway.nginx()
    gateway.set(state_dir=str(tmp_path / "elsewhere"), port=free_port())
    gateway.stack.up("--skip-preview")
    after = gateway.nginx()
    assert after["folder"].startswith(str(tmp_path / "elsewhere"))
    assert not Path(before["folder"]).exists()
    with gateway.client(NEW) as caller:
        assert caller.get("/v1/models").status_code == 200


def test_destroy_leaves_nothing(gateway: Deployed) -> None:
    state = gateway.nginx()
    folder = Path(state["folder"])
    gateway.stack.destroy()
    assert not folder.exists()
    left = [p.pid for p in psutil.process_iter(["name"])
            if p.info["name"] == "nginx" and str(folder) in str(p.cwd())]  # fmt: skip
    assert left == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(state["url"])
