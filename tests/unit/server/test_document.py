"""The OpenAPI document says what is so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
from starlette.routing import Route

from sixways_server.auth import OPEN_PATHS
from tests.unit.server.conftest import Live
from tests.unit.server.test_every_protocol import CASES, Case, every, post

PAGE = ("/docs", "/docs/start.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js")
HIDDEN = {"/", "/openapi.json", *PAGE}


@pytest.fixture(scope="module")
def document(live: Live) -> dict[str, Any]:
    with live.client() as client:
        document: dict[str, Any] = client.get("/openapi.json").json()
    return document


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def check(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    whole = {"components": document["components"], "$schema":
             "https://json-schema.org/draft/2020-12/schema", **schema}  # fmt: skip
    jsonschema_rs.validate(whole, value)


def described(document: dict[str, Any], case: Case) -> dict[str, Any]:
    path = case.path.replace("/models/mini", "/models/{model}")
    path = path.replace("/models/sum", "/models/{model}").replace(
        "/versions/1", "/versions/{version}"
    )
    operation: dict[str, Any] = document["paths"][path]["post"]
    return operation


def test_every_route_is_described(live: Live, document: dict[str, Any]) -> None:
    served = {
        (route.path, method)
        for route in live.app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    told = {(path, method) for path, method, _ in operations(document)}
    assert told == {one for one in served if one[0] not in HIDDEN}


def test_statuses_keys_and_bodies_are_told(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        statuses = set(operation["responses"])
        if path in OPEN_PATHS:
            assert operation["security"] == [], path
            assert "401" not in statuses, path
            continue
        assert "security" not in operation, path  # the document's own holds
        assert statuses >= {"200", "400", "401", "413", "503", "504"}, path
        for status in statuses - {"200"}:
            assert set(operation["responses"][status]["content"]) == {"application/json"}, path
        if method == "POST" and path != "/v2/repository/index":
            assert statuses >= {"415", "429"}, path
            assert "application/json" in operation["requestBody"]["content"], path
            assert operation["requestBody"]["required"], path
    assert document["security"] == [{"bearer": []}, {"header": []}, {"basic": []}]
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header", "basic"}


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for one in value.values():
                yield from references(one)
        elif isinstance(value, list):
            for one in value:
                yield from references(one)

    found = set(references(document))
    assert len(found) > 30
    for reference in found:
        kind, name = reference.removeprefix("#/components/").split("/")
        assert name in document["components"][kind], reference


@every
def test_requests_and_answers_are_as_described(
    client: httpx.Client, document: dict[str, Any], case: Case
) -> None:
    operation = described(document, case)
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    check(document, body, case.body)
    contents = [case.content, b"{}", b"[1]", case.content[:-1]]
    for content, status in zip(contents, (200, 400, 400, 400), strict=True):
        response = post(client, case, content)
        assert response.status_code == status
        schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]
        check(document, schema, response.json())


@every
def test_an_answer_without_a_key_is_as_described(
    live: Live, document: dict[str, Any], case: Case
) -> None:
    response = httpx.post(f"{live.url}{case.path}", content=case.content)
    assert response.status_code == 401
    operation = described(document, case)
    check(document, operation["responses"]["401"]["content"]["application/json"]["schema"],
          response.json())  # fmt: skip


@pytest.mark.parametrize("name", ["chat", "completion", "sagemaker chat"])
def test_a_stream_is_described(client: httpx.Client, document: dict[str, Any], name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    response = client.post(case.path, json={**case.body, "stream": True})
    kind = response.headers["content-type"].partition(";")[0]
    content = described(document, case)["responses"]["200"]["content"]
    assert kind in content
    events = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    for event in events[:-1]:
        check(document, content["application/json"]["schema"], json.loads(event))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models", 200),
        ("/v1/models/{model}", 200),
        ("/v2", 200),
        ("/v2/models/{model}", 200),
        ("/v2/models/{model}/ready", 200),
        ("/v2/health/ready", 200),
        ("/v2/health/live", 200),
    ],
)
def test_what_can_be_read_is_as_described(
    client: httpx.Client, document: dict[str, Any], path: str, status: int
) -> None:
    responses = document["paths"][path]["get"]["responses"]
    for model in ("mini", "echo", "sum"):
        response = client.get(path.replace("{model}", model))
        assert response.status_code == status
        check(document, responses["200"]["content"]["application/json"]["schema"], response.json())
    if "{model}" in path:
        response = client.get(path.replace("{model}", "nobody"))
        assert response.status_code == 404
        check(document, responses["404"]["content"]["application/json"]["schema"], response.json())


def test_the_page_of_the_document_has_all_it_needs_here(live: Live) -> None:
    with live.client() as client:
        page = client.get("/docs")
        assert "script-src 'self';" in page.headers["content-security-policy"]
        linked = re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text)
        assert {f"/{one}" for one in linked} == set(PAGE[1:])
        assert not re.search(r"https?://", page.text)
        for one in linked:
            assert client.get(f"/{one}").status_code == 200, one
        assert '"openapi.json"' in client.get("/docs/start.js").text
    with httpx.Client(base_url=live.url) as stranger:
        for path in PAGE:
            assert stranger.get(path).status_code == 401, path
