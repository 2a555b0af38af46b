"""Over 10,000 generated requests: none is answered with 5xx, hangs, or breaks its protocol's shape.

schemathesis makes them from the server's own OpenAPI document, in turns such that fit it and such
that break it in one place. Half of them name a model that is served, since most of what can go
wrong lies behind that check. `SIXWAYS_FUZZ_EXAMPLES` sets how many each route gets, and makes them
differ from run to run.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import checks

from sixways_server.protocols import protocol_of
from tests.unit.server.conftest import Live, live_server

_ASKED = os.environ.get("SIXWAYS_FUZZ_EXAMPLES")
_EXAMPLES = int(_ASKED or 600)  # of each route with a body, and of each mode
_FEW = 40  # of each route without one: there is little to vary
_SECONDS = 20.0
_MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
_MODELS = {
    "mini": "dummy:embeddings?max_tokens=32",
    "echo": "dummy:chat?max_tokens=64",
    "sum": "dummy:tensor",
}
_KEYS = {"authorization", "x-api-key"}
_CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One model of each kind."""
    with live_server(tmp_path_factory.mktemp("fuzz"), **_MODELS) as live:
        yield live


@pytest.fixture(scope="module")
def schema(server: Live) -> schemathesis.BaseSchema:
    with server.client() as client:
        document = client.get("/openapi.json").json()
    loaded = schemathesis.openapi.from_dict(document)
    loaded.config.update(base_url=server.url)
    return loaded


def test_no_generated_request_is_answered_with_5xx_or_hangs(
    server: Live, schema: schemathesis.BaseSchema
) -> None:
    sent: Counter[str] = Counter()
    answered: Counter[int] = Counter()
    with requests.Session() as session:
        session.headers.update(server.headers)
        for found in schema.get_all_operations():
            operation = found.ok()
            label = f"{operation.method.upper()} {operation.path}"
            for mode in _MODES:
                _fuzz(operation, mode, label, session, sent, answered)
    assert sum(sent.values()) >= (0 if _ASKED else 10_000), sent
    # The routes were reached and not only refused.
    assert answered[200] > 1000, answered
    assert answered[400] > 1000, answered
    with server.client() as client:
        assert client.get("/readyz").status_code == 200
        assert client.get("/console.json").json()["in_flight"] == 0


def _fuzz(
    operation: schemathesis.APIOperation,
    mode: schemathesis.GenerationMode,
    label: str,
    session: requests.Session,
    sent: Counter[str],
    answered: Counter[int],
) -> None:
    takes_input = bool(operation.body or operation.path_parameters or operation.headers)
    if mode is schemathesis.GenerationMode.NEGATIVE and not takes_input:
        return  # nothing of it can be broken

    @settings(
        max_examples=_EXAMPLES if operation.body else _FEW if takes_input else 1,
        deadline=None,
        database=None,
        derandomize=_ASKED is None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(mode), model=st.sampled_from([*_MODELS, None]))
    def run(case: schemathesis.Case, model: str | None) -> None:
        if model is not None:
            _name_the_model(case, model)
            # The document names the key's headers, so keys are made up too: that is 401 soon told.
            for name in [name for name in case.headers if name.lower() in _KEYS]:
                del case.headers[name]
        response = case.call(session=session, timeout=_SECONDS)
        sent[label] += 1
        answered[response.status_code] += 1
        case.validate_response(response, checks=_CHECKS)
        if response.status_code >= 400:
            _check_shape(case.operation.path, response.content)

    run()


def _name_the_model(case: schemathesis.Case, model: str) -> None:
    if case.path_parameters and "model" in case.path_parameters:
        case.path_parameters["model"] = model
    if isinstance(case.body, dict) and "model" in case.body:
        case.body["model"] = model


def _check_shape(path: str, content: bytes) -> None:
    """An error in the shape of the path's protocol, with words in it."""
    if not (path == "/invocations" or protocol_of(path)):
        return
    answer: Any = msgspec.json.decode(content)
    if path == "/graphql":
        text = answer["errors"][0]["message"]
    elif "error_code" in answer:  # MLflow
        assert path == "/invocations"
        text = answer["message"]
    else:
        text = answer["error"]
        if not (path.startswith("/v2") or (path == "/invocations" and isinstance(text, str))):
            text = text["message"]
    assert isinstance(text, str)
    assert text
