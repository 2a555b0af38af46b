"""Stack `api` as a user deploys it: a model on this machine, and Nginx in front of it."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import require
from tests.engine.deployment import ROOT, deployment
from tests.nginx import MISSING
from tests.ports import free_port

pytestmark = pytest.mark.engine
TRACKED: dict[str, Any] = yaml.safe_load((ROOT / "infra/stacks/api.yaml").read_text())["config"]
KEY = "shop-key-0123456789abcdef"


def test_the_stack_serves_a_model_behind_a_gateway(
    tmp_path: Path, pulumi_env: dict[str, str]
) -> None:
    require("engine", MISSING)
    with deployment(tmp_path / "api", pulumi_env) as deployed:
        stack = deployed.stack
        own = {**TRACKED["sixways:api"], "port": free_port()}
        stack.config(**{
            "sixways:way": "api",
            "sixways:models": json.dumps(TRACKED["sixways:models"]),
            "sixways:api": json.dumps({**own, "keys": [{"name": "ann", "plan": "gold"}]}),
        })  # fmt: skip
        done = stack.up("--skip-preview", check=False)
        assert done.returncode != 0
        assert "sixways:api.keys[0].plan: 'gold' is not accepted" in done.stdout
        assert [r for r in stack.resources() if r["type"].startswith("sixways:")] == []

        stack.config(**{"sixways:api": json.dumps(own)})
        stack.run("config", "set", "--secret", "--path", "sixways:gatewayKeys.shop", KEY)
        stack.up()
        outputs = stack.outputs()
        assert outputs["url"] == f"https://127.0.0.1:{own['port']}"
        assert outputs["bundle_digest"].startswith("sha256:")
        assert outputs["api_keys"] == {"ann": outputs["api_key"], "shop": KEY}
        trusted = ssl.create_default_context(cadata=outputs["certificate"])
        for key in outputs["api_keys"].values():
            answer = httpx.post(
                f"{outputs['url']}/v1/embeddings",
                json={"model": "minilm", "input": "The harbour was quiet."},
                headers={"authorization": f"Bearer {key}"},
                verify=trusted,
                timeout=60,
            )
            assert len(answer.json()["data"][0]["embedding"]) == 384
        assert httpx.get(outputs["health_url"], verify=trusted).status_code == 200
        stack.up("--expect-no-changes")
