"""What moto does not keep of API Gateway.

A rate with a fraction and a quota as a number in a changed usage plan, the canary of a stage, and of an imported document
whether a method asks for a key and how its integration streams and which load balancer it reaches.
A moto that learns one of these keeps its own.
"""

from __future__ import annotations

import json
from typing import Any

from moto.apigateway.models import (
    APIGatewayBackend,
    Integration,
    Stage,
    UsagePlan,
)
from moto.apigateway.responses import APIGatewayResponse

_RATE = "/throttle/rateLimit"
_CANARY = "/canarySettings"
_EXTENSION = "x-amazon-apigateway-integration"
_OF_INTEGRATIONS = ("connectionId", "integrationTarget", "responseTransferMode")
_NUMBERS = {"percentTraffic": float, "useStageCache": lambda value: value == "true"}

_patch_plan = UsagePlan.apply_patch_operations
_create_stage = APIGatewayResponse.create_stage
_patch_stage = Stage.apply_operations
_show_stage = Stage.to_json
_import = APIGatewayBackend.put_rest_api
_show_integration = Integration.to_json


def _plan_with_numbers(self: Any, operations: list[dict[str, Any]]) -> None:
    rates = [one for one in operations if one["path"] == _RATE and one["op"] != "remove"]
    _patch_plan(self, [one for one in operations if one not in rates])
    for one in rates:
        self.throttle["rateLimit"] = float(one["value"])
    for field in self.quota.keys() & {"limit", "offset"}:
        self.quota[field] = int(self.quota[field])


def _stage_with_canary(self: Any) -> Any:
    answer = _create_stage(self)
    given = self._get_param("canarySettings")
    if given:
        stage = self.backend.get_stage(self.path.split("/")[2], self._get_param("stageName"))
        stage.canary_settings = dict(given)
        return (answer[0], answer[1], json.dumps(stage.to_json()))
    return answer


def _stage_patched(self: Any, operations: list[dict[str, Any]]) -> Any:
    for one in operations:
        if not one["path"].startswith(_CANARY):
            continue
        _, _, field = one["path"][1:].partition("/")
        if one["op"] == "remove" and not field:
            self.canary_settings = None
        elif field:
            kept = getattr(self, "canary_settings", None) or {}
            value = _NUMBERS.get(field, str)(one["value"])
            self.canary_settings = {**kept, field: value}
    return _patch_stage(self, [one for one in operations if not one["path"].startswith(_CANARY)])


def _stage_shown(self: Any) -> dict[str, Any]:
    shown = _show_stage(self)
    if getattr(self, "canary_settings", None):
        shown["canarySettings"] = self.canary_settings
    return shown


def _imported(
    self: Any, function_id: str, api_doc: dict[str, Any], *given: Any, **named: Any
) -> Any:
    api = _import(self, function_id, api_doc, *given, **named)
    by_path = {one.get_path(): one for one in api.resources.values()}
    for path, methods in api_doc["paths"].items():
        for name, method in methods.items():
            found = by_path[path].resource_methods[name.upper()]
            found.api_key_required = any("api_key" in one for one in method.get("security", []))
            given_to = method.get(_EXTENSION, {})
            found.method_integration.further = {
                field: given_to[field] for field in _OF_INTEGRATIONS if field in given_to
            }
    return api


def _integration_shown(self: Any) -> dict[str, Any]:
    return {**_show_integration(self), **getattr(self, "further", {})}


if not hasattr(Stage(), "canary_settings"):
    APIGatewayResponse.create_stage = _stage_with_canary  # type: ignore[method-assign]
    Stage.apply_operations = _stage_patched  # type: ignore[method-assign]
    Stage.to_json = _stage_shown  # type: ignore[method-assign]
    UsagePlan.apply_patch_operations = _plan_with_numbers  # type: ignore[method-assign]
    APIGatewayBackend.put_rest_api = _imported  # type: ignore[method-assign]
    Integration.to_json = _integration_shown  # type: ignore[method-assign]
