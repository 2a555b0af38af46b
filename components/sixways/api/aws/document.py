"""The OpenAPI document that a REST API is imported from.

Sources: AWS's pages "OpenAPI extensions for API Gateway" (`x-amazon-apigateway-integration`,
`-request-validators`, `-gateway-responses`, `-api-key-source`, `-authtype`, `-authorizer`), "Set up
an HTTP proxy integration with payload response streaming" (`responseTransferMode`) and "Set up a
private integration" (`integrationTarget`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sixways.api.aws.routes import Operation, operations
from sixways.api.aws.schemas import body_schema, models, reduced

STREAM_SECONDS = 900
"""Longest integration timeout of a streamed answer."""
BUFFERED_SECONDS = 29
"""Longest integration timeout of any other (`PutIntegration`: 29,000 ms)."""
HEALTH = "/healthz"
_KEY, _POOL, _VALIDATOR = "api_key", "cognito", "body"
# A 404 for what no route names, and errors in the words of the server's own API.
_ERRORS = {
    "MISSING_AUTHENTICATION_TOKEN": (404, "no such path"),
    "INVALID_API_KEY": (401, "a valid key in x-api-key is needed"),
    "UNAUTHORIZED": (401, "a valid token in Authorization is needed"),
    "THROTTLED": (429, "more requests than the plan allows"),
    "QUOTA_EXCEEDED": (429, "the plan's quota is used up"),
    "BAD_REQUEST_BODY": (400, "$context.error.validationErrorString"),
}
_RETRY_SECONDS = {"THROTTLED": 1, "QUOTA_EXCEEDED": 3600}


@dataclass(frozen=True)
class Proxy:
    """Requests go on by HTTP.

    Attributes:
        address: `https://models.example.com`, without a path.
        seconds: longest time to an answer's end.
        stream: whether answers pass piece by piece.
        key: shown to the server in place of the caller's; empty: none.
        link: the VPC link's id; empty: over the internet.
        balancer: the load balancer's ARN behind the link.
    """

    address: str
    seconds: float
    stream: bool
    key: str = ""
    link: str = ""
    balancer: str = ""

    def integration(self, operation: Operation) -> dict[str, Any]:
        """Of one method."""
        given: dict[str, str] = {
            f"integration.request.path.{name}": f"method.request.path.{name}"
            for name in operation.variables
        }
        # The caller's key ends here.
        given["integration.request.header.x-api-key"] = f"'{self.key or 'none'}'"
        if self.key:
            given["integration.request.header.Authorization"] = f"'Bearer {self.key}'"
        most = STREAM_SECONDS if self.stream else BUFFERED_SECONDS
        found: dict[str, Any] = {
            "type": "http_proxy",
            "httpMethod": operation.method,
            "uri": f"{self.address.rstrip('/')}{operation.target}",
            "passthroughBehavior": "when_no_match",
            "requestParameters": given,
            "timeoutInMillis": round(min(self.seconds, most) * 1000),
            "responseTransferMode": "STREAM" if self.stream else "BUFFERED",
            "connectionType": "VPC_LINK" if self.link else "INTERNET",
        }
        if self.link:
            found |= {"connectionId": self.link, "integrationTarget": self.balancer}
        return found


@dataclass(frozen=True)
class SageMaker:
    """Requests go to a SageMaker endpoint, signed with the gateway's role.

    Attributes:
        uri: `arn:aws:apigateway:REGION:runtime.sagemaker:path/endpoints/NAME/invocations`.
        role: the role's ARN.
        seconds: longest time to an answer's end.
    """

    uri: str
    role: str
    seconds: float = BUFFERED_SECONDS

    def integration(self, operation: Operation) -> dict[str, Any]:
        """Of one method. Statuses of the endpoint are passed on, in three classes."""
        return {
            "type": "aws",
            "httpMethod": "POST",
            "uri": self.uri,
            "credentials": self.role,
            "passthroughBehavior": "when_no_match",
            "requestParameters": {
                "integration.request.header.Content-Type": "method.request.header.Content-Type",
                "integration.request.header.Accept": "method.request.header.Accept",
            },
            "timeoutInMillis": round(min(self.seconds, BUFFERED_SECONDS) * 1000),
            "responses": {
                "default": {"statusCode": "200"},
                r"4\d{2}": {"statusCode": "400"},
                r"5\d{2}": {"statusCode": "502"},
            },
        }


@dataclass(frozen=True)
class Document:
    """What the document is made of.

    Attributes:
        title: the API's name.
        routes: see `RouteArgs`.
        target: where requests go.
        openapi: the server's own document; None: bodies are not checked.
        pools: ARNs of Cognito user pools whose tokens are asked for beside a key.
        scopes: scopes of which a token must have one.
    """

    title: str
    routes: Sequence[Mapping[str, Any]]
    target: Proxy | SageMaker
    openapi: Mapping[str, Any] | None = None
    pools: Sequence[str] = ()
    scopes: Sequence[str] = field(default=())

    @property
    def operations(self) -> list[Operation]:
        """Every method of the API that goes on to the target."""
        return operations(self.routes, (self.openapi or {}).get("paths"))

    def render(self) -> dict[str, Any]:
        """The document."""
        paths: dict[str, dict[str, Any]] = {}
        bodies: dict[str, Any] = {}
        for one in self.operations:
            schema = body_schema(one.described) if one.described else None
            if schema is not None:
                bodies[f"{one.method} {one.path}"] = schema
            paths.setdefault(one.path, {})[one.method.lower()] = self._method(one, schema)
        if isinstance(self.target, SageMaker):
            paths[HEALTH] = {"get": _alive()}
        schemes: dict[str, Any] = {
            _KEY: {"type": "apiKey", "name": "x-api-key", "in": "header"},
        }
        if self.pools:
            schemes[_POOL] = {
                "type": "apiKey",
                "name": "Authorization",
                "in": "header",
                "x-amazon-apigateway-authtype": "cognito_user_pools",
                "x-amazon-apigateway-authorizer": {
                    "type": "cognito_user_pools",
                    "providerARNs": list(self.pools),
                },
            }
        return {
            "openapi": "3.0.1",
            "info": {"title": self.title, "version": "1", "description": "Made by Sixways"},
            "paths": paths,
            "components": {
                "schemas": models(self.openapi or {}, bodies),
                "securitySchemes": schemes,
            },
            "x-amazon-apigateway-api-key-source": "HEADER",
            "x-amazon-apigateway-binary-media-types": [
                "application/octet-stream",
                "application/vnd.sagemaker-triton.binary+json",
            ],
            "x-amazon-apigateway-request-validators": {
                _VALIDATOR: {"validateRequestBody": True, "validateRequestParameters": False}
            },
            "x-amazon-apigateway-gateway-responses": _errors(),
        }

    def _method(self, one: Operation, schema: Mapping[str, Any] | None) -> dict[str, Any]:
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in one.variables
        ]
        statuses = ["200"]
        if isinstance(self.target, SageMaker):
            statuses += ["400", "502"]
            parameters += [
                {"name": name, "in": "header", "schema": {"type": "string"}}
                for name in ("Content-Type", "Accept")
            ]
        found: dict[str, Any] = {
            "responses": {status: {"description": "answer"} for status in statuses},
            "security": [] if one.open else [self._asked()],
            "x-amazon-apigateway-integration": self.target.integration(one),
        }
        if parameters:
            found["parameters"] = parameters
        if schema is not None:
            found["requestBody"] = {
                "required": True,
                "content": {"application/json": {"schema": reduced(schema)}},
            }
            found["x-amazon-apigateway-request-validator"] = _VALIDATOR
        return found

    def _asked(self) -> dict[str, list[str]]:
        asked: dict[str, list[str]] = {_KEY: []}
        if self.pools:
            asked[_POOL] = list(self.scopes)
        return asked


def text(document: Mapping[str, Any]) -> str:
    """As JSON; the same document is always the same text."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def fingerprint(body: str) -> str:
    """What a deployment is of: another text needs another deployment."""
    return hashlib.sha256(body.encode()).hexdigest()


def _alive() -> dict[str, Any]:
    """The gateway itself answers: the runtime of SageMaker has no path for health."""
    return {
        "responses": {"200": {"description": "the gateway answers"}},
        "security": [],
        "x-amazon-apigateway-integration": {
            "type": "mock",
            "requestTemplates": {"application/json": '{"statusCode": 200}'},
            "responses": {"default": {"statusCode": "200"}},
        },
    }


def _errors() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind, (status, message) in _ERRORS.items():
        body = {"error": {"message": message, "type": kind.lower(), "code": status}}
        found[kind] = {
            "statusCode": status,
            "responseTemplates": {"application/json": json.dumps(body)},
        }
        if kind in _RETRY_SECONDS:
            found[kind]["responseParameters"] = {
                "gatewayresponse.header.Retry-After": f"'{_RETRY_SECONDS[kind]}'"
            }
    return found
