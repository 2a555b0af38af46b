"""Real models in a folder, as SageMaker unpacks them, asked in every protocol's words."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from sixways_bundle.build import Request, build
from tests.engine.deployment import MINILM, SMOLLM2
from tests.unit.server.sagemaker_front import Container, client, front

pytestmark = pytest.mark.engine
TEXTS = ["The harbour was quiet.", "Der Hafen war still."]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("sagemaker")
    for wanted in (MINILM, SMOLLM2):
        request = Request(
            name=wanted["name"], source=wanted["source"], variants=(wanted["variant"],)
        )
        shutil.copytree(build(request).path, folder / "model" / wanted["name"])
    container = Container(folder / "log", SM_MODEL_DIR=str(folder / "model"))
    try:
        container.wait(seconds=120)
        with front(container.url) as url, contextlib.closing(client(url)) as api:
            yield api
        assert container.stop() == 0
    finally:
        container.child.kill()
        container.child.wait()


def invoke(api: Any, body: Any) -> Any:
    answer = api.invoke_endpoint(
        EndpointName="e", Body=json.dumps(body), ContentType="application/json"
    )
    return json.loads(answer["Body"].read())


def test_a_text_has_the_same_vector_in_every_protocol(api: Any) -> None:
    vectors = [item["embedding"] for item in invoke(api, {"input": TEXTS})["data"]]
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1], abs=1e-5)
    tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": TEXTS}
    output = invoke(api, {"inputs": [tensor]})["outputs"][0]
    predictions = invoke(api, {"instances": TEXTS, "params": {"model": "minilm"}})["predictions"]
    for rows in (np.reshape(output["data"], output["shape"]), predictions):
        np.testing.assert_allclose(rows, vectors, atol=1e-6)


def test_a_chat_has_the_same_answer_whole_and_as_a_stream(api: Any) -> None:
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    body = {"messages": messages, "temperature": 0, "max_tokens": 24}
    whole = invoke(api, body)["choices"][0]["message"]["content"]
    assert "Paris" in whole
    stream = api.invoke_endpoint_with_response_stream(
        EndpointName="e", Body=json.dumps({**body, "stream": True}), ContentType="application/json"
    )
    content = b"".join(event["PayloadPart"]["Bytes"] for event in stream["Body"]).decode()
    *events, done, _ = content.split("\n\n")
    assert done == "data: [DONE]"
    deltas = [json.loads(e.removeprefix("data: "))["choices"][0]["delta"] for e in events]
    assert len(deltas) > 5
    assert "".join(delta.get("content", "") for delta in deltas) == whole
    predicted = invoke(
        api, {"inputs": {"messages": [messages]}, "params": {"max_tokens": 24, "temperature": 0}}
    )
    assert predicted == {"predictions": [whole]}
