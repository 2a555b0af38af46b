"""`ApiGateway` from its first update to its destroy, against an AWS on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.aws.server import Aws
from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.aws
_PROGRAM = """
import json
import pulumi
from sixways.api.api_gateway import ApiGateway, ApiGatewayArgs

config = pulumi.Config()
args = json.loads(config.require("args"))
for key in args.get("keys", []):
    for field in ("key", "previous_key"):
        if key.get(field):
            key[field] = config.require_secret(key[field])
gateway = ApiGateway(config.get("name") or "models", args)
for output in ApiGateway.__annotations__:
    if not output.startswith("_"):
        pulumi.export(output, getattr(gateway, output))
"""
