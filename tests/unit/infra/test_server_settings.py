"""The settings of way `server` become the component's inputs, or are refused by their names."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from sixways.checks import InputsRefused

ROOT = Path(__file__).parents[3]
TRACKED: dict[str, Any] = yaml.safe_load((ROOT / "infra/stacks/server.yaml").read_text())["config"]
PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
PRIVATE = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"


def parts(own: dict[str, Any], **beside: str) -> Any:
    """The tracked settings, with changes to `sixways:server` and further ones beside it."""
    from settings import load_settings
    from ways.server_settings import Parts

    config = copy.deepcopy(TRACKED)
    config["sixways:server"] |= own
    config |= {f"sixways:{name}": value for name, value in beside.items()}
    text = {k: v if isinstance(v, str) else json.dumps(v) for k, v in config.items()}
    pulumi.runtime.set_all_config(text)
    return Parts(load_settings())


def refused(own: dict[str, Any], **beside: str) -> list[str]:
    try:
        parts(own, **beside).refuse()
    except InputsRefused as error:
        return [str(problem) for problem in error.problems]
    return []


async def test_the_tracked_settings_are_accepted() -> None:
    assert refused({}) == []


@pytest.mark.parametrize(
    ("own", "beside", "fields"),
    [
        ({"hosts": [{"name": "web1", "hostKey": "x", "privateKey": "y"}]}, {},
         ["server.hosts[0].address", "server.hosts[0].hostKey", "server.hosts[0].privateKey"]),
        ({"modells": [], "models": []}, {}, ["server.models", "server.modells"]),
        ({"apiKey": "hush"}, {}, ["server.apiKey", "server.apiKey"]),
        ({"tls": {"certificate": PEM}}, {}, ["tlsKey"]),
        ({"tls": {"selfSigned": True}}, {"tlsKey": PRIVATE}, ["server.tls",
                                                             "server.tls.certificate"]),
        ({"tls": {"certificate": PEM}}, {"tlsKey": "tls.key"}, ["tlsKey"]),
        ({}, {"sshPrivateKey": "~/.ssh/id_ed25519"}, ["sshPrivateKey"]),
        ({"limits": {"requestsPerMinute": "60"}, "keep": 99}, {},
         ["server.limits.requestsPerMinute", "server.keep"]),
        ({"server": {"requestSeconds": 0}, "firewall": {"allowSshFrom": "all"}}, {},
         ["server.firewall.allowSshFrom"]),
    ],
)  # fmt: skip
async def test_bad_settings_are_named_as_they_are_written(
    own: dict[str, Any], beside: dict[str, str], fields: list[str]
) -> None:
    lines = refused(own, **beside)
    assert [line.split(": ")[0] for line in lines] == [f"sixways:{field}" for field in fields]
    assert "hush" not in "".join(lines)


async def test_secrets_that_stand_beside_it_reach_the_component() -> None:
    made = parts({"tls": {"certificate": PEM}}, sshPrivateKey=PRIVATE, tlsKey=PRIVATE,
                 apiKey="sk-a-key-that-somebody-chose")  # fmt: skip
    assert made.refuse() is None
    args = made.server({"minilm": ("/bundle", "sha256:1")})
    assert args["models"] == [
        {"name": "minilm", "path": "/bundle", "digest": "sha256:1", "variant": "openvino-int8"}
    ]
    secrets = [args["api_key"], args["tls"]["certificate_key"], args["hosts"][1]["private_key"]]
    for secret in secrets:
        assert await secret.is_secret()
    assert await secrets[1].future() == PRIVATE
    assert args["hosts"][0]["host_key"].startswith("ssh-ed25519 ")


async def test_a_host_may_have_a_login_of_its_own() -> None:
    host = {**TRACKED["sixways:server"]["hosts"][0], "privateKey": PRIVATE}
    made = parts({"hosts": [host]}, sshPrivateKey=PRIVATE)
    assert made.refuse() is None
    assert made.server({"minilm": ("", "")})["hosts"][0]["private_key"] == PRIVATE
