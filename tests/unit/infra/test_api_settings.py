"""The settings of way `api` become the gateway's inputs, or are refused by their names."""

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
TRACKED: dict[str, Any] = yaml.safe_load((ROOT / "infra/stacks/api.yaml").read_text())["config"]
KEY = "ann-key-0123456789abcdef"


def parts(own: dict[str, Any], **beside: Any) -> Any:
    """The tracked settings, with changes to `sixways:api` and further ones beside it."""
    from settings import load_settings
    from ways.api_settings import Parts

    config = copy.deepcopy(TRACKED)
    config["sixways:api"] = {
        name: value for name, value in (config["sixways:api"] | own).items() if value is not None
    }
    config |= {f"sixways:{name}": value for name, value in beside.items()}
    text = {k: v if isinstance(v, str) else json.dumps(v)
            for k, v in config.items() if v is not None}  # fmt: skip
    pulumi.runtime.set_all_config(text)
    return Parts(load_settings())


def refused(own: dict[str, Any], **beside: Any) -> list[str]:
    try:
        parts(own, **beside).refuse()
    except InputsRefused as error:
        return [str(problem) for problem in error.problems]
    return []


UPSTREAM = {"healthPath": "/readyz", "instances": [{"url": "http://a:1"}, {"url": "http://b:1"}]}


async def test_the_tracked_settings_are_accepted() -> None:
    assert refused({}) == []
    assert refused({"upstream": UPSTREAM, "dev": None}, models=None) == []


@pytest.mark.parametrize(
    ("kind", "upstream"),
    [
        ("aws", {"healthPath": "/readyz", "instances": [{"url": "https://models.example.com"}]}),
        ("kong", UPSTREAM),
    ],
)
async def test_the_other_gateways_take_the_same_settings(
    kind: str, upstream: dict[str, Any]
) -> None:
    common = {"gateway": kind, "upstream": upstream, "tls": None, "port": None, "dev": None}
    own = common | ({"serviceType": "ClusterIP"} if kind == "kong" else {})
    assert refused(own, models=None, gatewayKeys={"ann": KEY}) == []
    wrong = refused({**own, "plans": [{"name": "free"}]}, models=None)
    assert any("sixways:api.plans[0].requestsPerSecond" in line for line in wrong)


@pytest.mark.parametrize(
    ("own", "beside", "fields"),
    [
        ({"gateway": "traefik"}, {}, ["api.gateway"]),
        ({"gateway": ["nginx"]}, {}, ["api.gateway"]),
        ({"gateway": "aws"}, {}, ["models"]),
        ({}, {"apiKey": KEY}, ["apiKey"]),
        ({"upstream": UPSTREAM}, {}, ["api.upstream"]),
        ({"dev": None}, {}, ["api.upstream.instances"]),
        ({}, {"models": None}, ["api.upstream"]),
        ({}, {"gatewayKeys": {"ann": "short", "eve": KEY}}, ["gatewayKeys.eve",
                                                            "gatewayKeys.ann"]),
        ({}, {"gatewayKeys": {"ann": KEY}, "previousGatewayKeys": {"ann": KEY}},
         ["previousGatewayKeys.ann"]),
        ({"keys": [{"name": "ann", "plan": "free", "key": KEY}]}, {}, ["api.keys[0].key"]),
        ({}, {"gatewayKeys": KEY}, ["gatewayKeys"]),
        ({"host": {"address": "10.0.0.9", "hostKey": f"ssh-ed25519 {'A' * 68}",
                   "privateKey": f"-----BEGIN PRIVATE KEY-----{KEY}"}}, {},
         ["api.host.privateKey"]),
        ({"tls": {"certificate": "-----BEGIN CERTIFICATE-----", "certificateKey":
                  "-----BEGIN PRIVATE KEY-----"}}, {}, ["api.tls.certificateKey"]),
        ({"upstream": {**UPSTREAM, "apiKey": KEY}}, {"models": None}, ["api.upstream.apiKey"]),
        ({"keys": {"ann": KEY}}, {}, ["api.keys"]),
        ({"keys": [KEY]}, {}, ["api.keys[0]"]),
        ({"tls": {"certificate": "x"}}, {"tlsKey": "tls.key"}, ["api.tls.certificate", "tlsKey"]),
        ({"plans": [{"name": "free", "requestsPerSecond": "2", "burst": 10}]}, {},
         ["api.plans[0].requestsPerSecond", "api.keys[1].plan"]),
        ({"upstream": UPSTREAM}, {"models": None, "upstreamKey": "hush"}, ["upstreamKey"]),
    ],
)  # fmt: skip
async def test_bad_settings_are_named_as_they_are_written(
    own: dict[str, Any], beside: dict[str, Any], fields: list[str]
) -> None:
    lines = refused(own, **beside)
    assert sorted({line.split(":")[1] for line in lines}) == sorted(set(fields)), lines
    for secret in (KEY, "hush", "short"):
        assert not any(f"'{secret}'" in line for line in lines)
    assert not any(KEY in line for line in lines), lines


async def test_keys_reach_the_gateway_as_secrets() -> None:
    made = parts({}, gatewayKeys={"ann": KEY}, previousGatewayKeys={"shop": f"old-{KEY}"})
    ann, shop = made.gateway((pulumi.Output.from_input("http://a:1"), "k"))["keys"]
    assert await ann["key"].is_secret()
    assert "previous_key" not in ann
    assert await shop["previous_key"].is_secret()
    assert "key" not in shop
