"""The document that a REST API is imported from: what is guarded, checked and streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from sixways.api.aws.document import Document, Proxy, SageMaker, fingerprint, text
from sixways.api.aws.routes import default_routes, is_open, operations
from sixways.api.aws.schemas import reduced
from sixways.api.defaults import ROUTES
from tests.unit.server.conftest import live_server
from tests.unit.server.test_every_protocol import CASES

INTEGRATION = "x-amazon-apigateway-integration"
PROXY = Proxy("https://models.example.com/", 600, stream=True, key="upstream-key-0123456789")
# What API Gateway cannot hold in a model.
UNKNOWN = {"additionalProperties", "anyOf", "const", "discriminator", "example", "examples",
           "exclusiveMaximum", "exclusiveMinimum", "format", "maxItems", "minItems", "oneOf",
           "prefixItems", "readOnly", "title"}  # fmt: skip


@pytest.fixture(scope="module")
def openapi(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The server's own document."""
    folder: Path = tmp_path_factory.mktemp("server")
    with live_server(folder, mini="dummy:embeddings") as live, live.client() as client:
        found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def methods(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, found in document["paths"].items():
        for method, operation in found.items():
            yield path, method.upper(), operation


def test_every_method_is_guarded_but_the_open_ones(openapi: dict[str, Any]) -> None:
    document = Document("models", ROUTES, PROXY, openapi).render()
    opened = {(path, method) for path, method, one in methods(document) if one["security"] == []}
    paths = ("/healthz", "/readyz", "/docs", "/docs/{proxy+}", "/openapi.json")
    assert opened == {(path, "GET") for path in paths}
    for path, method, one in methods(document):
        assert (path, method) in opened or one["security"] == [{"api_key": []}], path
    assert "/v1/{proxy+}" in document["paths"]
    assert "/v1/chat/completions" in document["paths"]
    assert "/metrics" not in document["paths"]  # no route names it
    assert document["components"]["securitySchemes"]["api_key"]["name"] == "x-api-key"


def test_with_user_pools_a_token_is_asked_for_beside_the_key() -> None:
    pool = "arn:aws:cognito-idp:eu-west-1:123456789012:userpool/eu-west-1_a"
    document = Document("models", ROUTES, PROXY, None, [pool], ["models/infer"]).render()
    asked = document["paths"]["/v1/{proxy+}"]["post"]["security"]
    assert asked == [{"api_key": [], "cognito": ["models/infer"]}]
    scheme = document["components"]["securitySchemes"]["cognito"]
    assert scheme["x-amazon-apigateway-authorizer"]["providerARNs"] == [pool]


def test_answers_stream_and_the_callers_key_ends_at_the_gateway() -> None:
    document = Document("models", ROUTES, PROXY).render()
    found = document["paths"]["/v1/{proxy+}"]["post"][INTEGRATION]
    assert found["type"] == "http_proxy"
    assert found["responseTransferMode"] == "STREAM"
    assert found["timeoutInMillis"] == 600_000
    assert found["uri"] == "https://models.example.com/v1/{proxy}"
    assert found["connectionType"] == "INTERNET"
    assert found["requestParameters"] == {
        "integration.request.path.proxy": "method.request.path.proxy",
        "integration.request.header.x-api-key": "'upstream-key-0123456789'",
        "integration.request.header.Authorization": "'Bearer upstream-key-0123456789'",
    }
    [parameter] = document["paths"]["/v1/{proxy+}"]["post"]["parameters"]
    assert (parameter["name"], parameter["in"]) == ("proxy", "path")
    without = Proxy("https://models.example.com", 600, stream=False)
    found = Document("models", ROUTES, without).render()["paths"]["/v1/{proxy+}"]["post"]
    assert found[INTEGRATION]["requestParameters"]["integration.request.header.x-api-key"] == (
        "'none'"
    )
    assert found[INTEGRATION]["timeoutInMillis"] == 29_000  # nothing more without streaming
    assert found[INTEGRATION]["responseTransferMode"] == "BUFFERED"


def test_a_private_integration_names_link_and_load_balancer() -> None:
    proxy = Proxy("http://inner", 30, stream=True, link="vl1", balancer="arn:lb")
    found = Document("models", ROUTES, proxy).render()["paths"]["/readyz"]["get"][INTEGRATION]
    assert found["connectionType"] == "VPC_LINK"
    assert (found["connectionId"], found["integrationTarget"]) == ("vl1", "arn:lb")


def test_sagemaker_has_one_route_and_the_role_signs() -> None:
    target = SageMaker("arn:uri", "arn:role")
    document = Document("models", default_routes(True), target).render()
    assert set(document["paths"]) == {"/invocations", "/healthz"}
    one = document["paths"]["/invocations"]["post"]
    assert one["security"] == [{"api_key": []}]
    assert one[INTEGRATION]["credentials"] == "arn:role"
    assert "responseTransferMode" not in one[INTEGRATION]  # not to be had for this kind
    statuses = {answer["statusCode"] for answer in one[INTEGRATION]["responses"].values()}
    assert statuses == set(one["responses"])


def test_a_model_takes_all_that_the_server_takes(openapi: dict[str, Any]) -> None:
    everything = [{"path": "/*"}]
    document = Document("models", everything, PROXY, openapi).render()
    checked = 0
    for case in CASES:
        path = case.path.replace("/models/mini", "/models/{model}")
        path = path.replace("/models/sum", "/models/{model}").replace(
            "/versions/1", "/versions/{version}"
        )
        one = document["paths"][path]["post"]
        if "requestBody" not in one:
            continue
        validator = _validator(document, one)
        assert validator.is_valid(dict(case.body)), case.name
        assert not validator.is_valid([])
        assert not validator.is_valid({}) or path == "/predict", case.name
        checked += 1
    assert checked >= 6
    validator = _validator(document, document["paths"]["/v1/chat/completions"]["post"])
    assert not validator.is_valid({"model": 5, "messages": []})
    assert not validator.is_valid({"model": "echo"})
    assert not validator.is_valid({"model": "echo", "messages": "hello"})


def _validator(document: dict[str, Any], operation: dict[str, Any]) -> Any:
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert operation["x-amazon-apigateway-request-validator"] == "body"
    return jsonschema_rs.Draft4Validator({"allOf": [schema], "components": document["components"]})


def test_a_model_holds_only_what_api_gateway_knows(openapi: dict[str, Any]) -> None:
    document = Document("models", [{"path": "/*"}], PROXY, openapi).render()
    models = document["components"]["schemas"]
    assert {"ChatRequest", "EmbeddingRequest", "Message"} <= set(models)
    assert all(name.isalnum() for name in models)
    for name, schema in models.items():
        for part in _schemas(schema):
            assert not UNKNOWN & set(part), name
            if "$ref" in part:
                assert part["$ref"].removeprefix("#/components/schemas/") in models


def _schemas(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for part in [
        *schema.get("properties", {}).values(),
        *([schema["items"]] if "items" in schema else []),
    ]:
        yield from _schemas(part)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {}),
        ({"const": "float", "type": "string"}, {"enum": ["float"], "type": "string"}),
        ({"exclusiveMinimum": 0.0, "type": "number"}, {"minimum": 0.0, "type": "number"}),
        ({"format": "int32", "type": "integer"}, {"type": "integer"}),
        ({"$ref": "#/components/schemas/A_B"}, {"$ref": "#/components/schemas/AB"}),
        ({"minItems": 1, "type": "array", "items": {}}, {"type": "array", "items": {}}),
        (True, {}),
    ],
)
def test_what_cannot_be_held_is_left_out(schema: Any, expected: dict[str, Any]) -> None:
    assert reduced(schema) == expected


def test_errors_are_json_and_say_when_to_come_back() -> None:
    errors = Document("models", ROUTES, PROXY).render()["x-amazon-apigateway-gateway-responses"]
    assert errors["MISSING_AUTHENTICATION_TOKEN"]["statusCode"] == 404
    assert errors["INVALID_API_KEY"]["statusCode"] == 401
    for kind in ("THROTTLED", "QUOTA_EXCEEDED"):
        assert errors[kind]["statusCode"] == 429
        assert "gatewayresponse.header.Retry-After" in errors[kind]["responseParameters"]
    for one in errors.values():
        body = json.loads(one["responseTemplates"]["application/json"])
        assert body["error"]["code"] == one["statusCode"]


def test_of_two_routes_the_longer_counts_and_a_whole_path_before_a_beginning() -> None:
    routes: list[dict[str, Any]] = [
        {"path": "/v1/*"},
        {"path": "/v1/models", "methods": ["GET"], "open": True},
        {"path": "/v1/files/*", "methods": ["PUT"]},
    ]
    paths: dict[str, Any] = {
        "/v1/models": {"get": {}, "post": {}},
        "/v1/files/{id}": {"put": {}, "get": {}},
        "/v2": {"get": {}},
    }
    found = {(one.path, one.method, one.open) for one in operations(routes, paths)}
    assert ("/v1/models", "GET", True) in found
    assert ("/v1/files/{id}", "PUT", False) in found
    assert not [one for one in found if one[:2] in {("/v1/models", "POST"), ("/v2", "GET")}]
    assert ("/v1/files/{id}", "GET", False) not in found
    assert is_open("/v1/models", routes)
    assert not is_open("/v1/files/a", routes)
    assert not is_open("/readyz", routes)


def test_the_same_inputs_make_the_same_text_and_others_another_deployment() -> None:
    first = text(Document("models", ROUTES, PROXY).render())
    assert first == text(Document("models", list(reversed(ROUTES)), PROXY).render())
    other = text(Document("models", ROUTES[:2], PROXY).render())
    assert fingerprint(first) != fingerprint(other)
