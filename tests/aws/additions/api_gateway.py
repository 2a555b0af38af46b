"""What moto does not keep of API Gateway.

Of a changed usage plan a rate with a fraction and a quota as a number; of a stage its canary and
the settings of a method below several resources; of an imported document whether a method asks for
a key, how its integration streams and which load balancer it reaches, and integrations without an
address (mock); of an HTTP API's domain its tags and where its record points.
"""

from __future__ import annotations

import copy
import json
import re
from typing import Any

from moto.apigateway import urls
from moto.apigateway.models import APIGatewayBackend, Integration, Stage, UsagePlan
from moto.apigateway.responses import APIGatewayResponse
from moto.apigatewayv2.models import ApiGatewayV2Backend
from moto.apigatewayv2.responses import ApiGatewayV2Response

_RATE = "/throttle/rateLimit"
_CANARY = "/canarySettings"
_SETTING = re.compile(r"/(?P<path>.+)/(?P<method>[A-Z]+|\*)/(?P<key>[a-z]+/\w+)")
_EXTENSION = "x-amazon-apigateway-integration"
_OF_INTEGRATIONS = ("connectionId", "integrationTarget", "responseTransferMode")
_NUMBERS = {"percentTraffic": float, "useStageCache": lambda value: value == "true"}

_patch_plan = UsagePlan.apply_patch_operations
_create_stage = APIGatewayResponse.create_stage
_patch_stage = Stage.apply_operations
_show_stage = Stage.to_json
_import = APIGatewayBackend.put_rest_api
_show_integration = Integration.to_json
_create_domain = ApiGatewayV2Backend.create_domain_name


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
    left = []
    for one in operations:
        setting = _SETTING.fullmatch(one["path"])
        if one["path"].startswith(_CANARY):
            _patch_canary(self, one)
        elif setting and one["op"] == "replace" and setting["path"] != "*":
            path = setting["path"].replace("~1", "/").strip("/")
            self._patch_method_setting(f"{path}/{setting['method']}", setting["key"], one["value"])
        else:
            left.append(one)
    return _patch_stage(self, left)


def _patch_canary(stage: Any, operation: dict[str, Any]) -> None:
    _, _, field = operation["path"][1:].partition("/")
    if operation["op"] == "remove" and not field:
        stage.canary_settings = None
    elif field:
        value = _NUMBERS.get(field, str)(operation["value"])
        stage.canary_settings = {**(getattr(stage, "canary_settings", None) or {}), field: value}


def _stage_shown(self: Any) -> dict[str, Any]:
    shown = _show_stage(self)
    if getattr(self, "canary_settings", None):
        shown["canarySettings"] = self.canary_settings
    return shown


def _imported(
    self: Any, function_id: str, api_doc: dict[str, Any], *given: Any, **named: Any
) -> Any:
    document = copy.deepcopy(api_doc)
    methods = [
        (path, name.upper(), method)
        for path, found in document["paths"].items()
        for name, method in found.items()
    ]
    for _, _, method in methods:
        if method[_EXTENSION]["type"] == "mock":
            method[_EXTENSION] |= {"uri": "mock", "httpMethod": "GET"}
    api = _import(self, function_id, document, *given, **named)
    by_path = {one.get_path(): one for one in api.resources.values()}
    for path, name, method in methods:
        made: Any = by_path[path].resource_methods[name]
        made.api_key_required = any("api_key" in one for one in method["security"])
        made.method_integration.further = {
            field: method[_EXTENSION][field]
            for field in _OF_INTEGRATIONS
            if field in method[_EXTENSION]
        }
    return api


def _integration_shown(self: Any) -> dict[str, Any]:
    return {**_show_integration(self), **getattr(self, "further", {})}


def _domain_with_record(self: Any, **given: Any) -> Any:
    domain: Any = _create_domain(self, **given)
    for one in domain.domain_name_configurations:
        one["apiGatewayDomainName"] = f"d-1234567890.execute-api.{self.region_name}.amazonaws.com"
        one["hostedZoneId"] = "Z2FDTNDATAQYW2"
        one["domainNameStatus"] = "AVAILABLE"
    domain.mutual_tls_authentication = domain.mutual_tls_authentication or None
    self.tag_resource(domain.domain_name_arn, given.get("tags") or {})
    return domain


for _class, _name, _own in (
    (APIGatewayResponse, "create_stage", _stage_with_canary),
    (Stage, "apply_operations", _stage_patched),
    (Stage, "to_json", _stage_shown),
    (UsagePlan, "apply_patch_operations", _plan_with_numbers),
    (APIGatewayBackend, "put_rest_api", _imported),
    (Integration, "to_json", _integration_shown),
    (ApiGatewayV2Backend, "create_domain_name", _domain_with_record),
):
    setattr(_class, _name, _own)
urls.url_paths.setdefault(
    "{0}/v2/tags/(?P<arn>[^/]+)/domainnames/(?P<name>[^/]+)$", ApiGatewayV2Response.dispatch
)
