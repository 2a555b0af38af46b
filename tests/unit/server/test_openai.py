"""The OpenAI protocol, spoken by OpenAI's own client."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from pydantic import ValidationError

from sixways_server import routing
from sixways_server.errors import BadRequest
from tests.unit.server.conftest import Live

HELLO: list[Any] = [{"role": "user", "content": "one two three four"}]


@pytest.fixture
def api(live: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key=live.key, max_retries=0) as api:
        yield api


def test_models_are_listed_with_their_digest(api: openai.OpenAI) -> None:
    models = {model.id: model for model in api.models.list()}
    assert set(models) == {"mini", "echo", "sum"}
    one = api.models.retrieve("mini").model_dump()
    assert one["digest"].startswith("sha256:")
    assert one["owned_by"] == "sixways"


def test_embeddings_are_the_same_as_floats_and_as_base64(
    api: openai.OpenAI, client: httpx.Client
) -> None:
    texts = ["a b", "c"]
    decoded = api.embeddings.create(model="mini", input=texts)  # the client asks for base64
    floats = api.embeddings.create(model="mini", input=texts, encoding_format="float")
    assert [d.index for d in decoded.data] == [0, 1]
    assert [d.embedding for d in decoded.data] == [d.embedding for d in floats.data]
    assert decoded.usage.prompt_tokens == decoded.usage.total_tokens == 3
    raw = client.post(
        "/v1/embeddings", json={"model": "mini", "input": "a b", "encoding_format": "base64"}
    ).json()["data"][0]["embedding"]
    assert list(struct.unpack("<8f", base64.b64decode(raw))) == pytest.approx(
        floats.data[0].embedding
    )


@pytest.mark.parametrize("given", ["a", ["a"], [1, 2, 3], [[1, 2], [3]]])
def test_an_input_is_a_text_or_tokens_or_a_list_of_either(api: openai.OpenAI, given: Any) -> None:
    count = 2 if given == [[1, 2], [3]] else 1
    assert len(api.embeddings.create(model="mini", input=given, user="me").data) == count


def test_dimensions_may_be_named_but_not_changed(api: openai.OpenAI) -> None:
    assert api.embeddings.create(model="mini", input="a", dimensions=8).data
    with pytest.raises(openai.BadRequestError, match="makes 8") as caught:
        api.embeddings.create(model="mini", input="a", dimensions=4)
    assert caught.value.param == "dimensions"


def test_a_chat_answers_with_usage_and_a_reason(api: openai.OpenAI) -> None:
    answer = api.chat.completions.create(model="echo", messages=HELLO)
    assert answer.choices[0].message.content == "one two three four"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 4)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_chat_ends_at_its_longest_length(api: openai.OpenAI, name: str) -> None:
    limit: dict[str, Any] = {name: 2}
    answer = api.chat.completions.create(model="echo", messages=HELLO, **limit)
    assert answer.choices[0].message.content == "one two "
    assert answer.choices[0].finish_reason == "length"


def test_a_stream_gives_the_same_text_in_pieces_and_usage_last(api: openai.OpenAI) -> None:
    stream = api.chat.completions.create(
        model="echo", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    events = list(stream)
    with_choice = [event for event in events if event.choices]
    deltas = [event.choices[0].delta for event in with_choice]
    assert deltas[0].role == "assistant"
    assert [delta.role for delta in deltas[1:]] == [None] * (len(deltas) - 1)
    assert "".join(delta.content or "" for delta in deltas) == "one two three four"
    assert with_choice[-1].choices[0].finish_reason == "stop"
    assert [event.usage for event in events[:-1]] == [None] * (len(events) - 1)
    assert events[-1].usage is not None
    assert events[-1].usage.total_tokens == 8
    assert len({event.id for event in events}) == 1


def test_a_stream_without_options_has_no_usage_and_ends_with_done(client: httpx.Client) -> None:
    body = {"model": "echo", "messages": HELLO, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = [line for line in response.iter_lines() if line]
    assert response.headers["content-type"].startswith("text/event-stream")
    assert lines[-1] == "data: [DONE]"
    assert not any("usage" in line for line in lines)


def test_stop_ends_the_text_before_it(api: openai.OpenAI) -> None:
    answer = api.chat.completions.create(model="echo", messages=HELLO, stop=["three"])
    assert answer.choices[0].message.content == "one two "


def test_content_may_come_in_parts_of_text(api: openai.OpenAI) -> None:
    parts: list[Any] = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    messages: list[Any] = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": parts},
    ]
    answer = api.chat.completions.create(model="echo", messages=messages)
    assert answer.choices[0].message.content == "one two"
    parts[1] = {"type": "image_url", "image_url": {"url": "data:"}}
    with pytest.raises(openai.BadRequestError) as caught:
        api.chat.completions.create(model="echo", messages=messages)
    assert caught.value.param == "messages[1].content[1]"


def test_completions_take_several_prompts_and_stream_one(api: openai.OpenAI) -> None:
    answer = api.completions.create(model="echo", prompt=["a b", "c"])
    assert [choice.text for choice in answer.choices] == ["a b", "c"]
    assert answer.usage is not None
    assert answer.usage.total_tokens == 6
    stream = api.completions.create(model="echo", prompt="a b", stream=True)
    assert "".join(event.choices[0].text for event in stream) == "a b"
    with pytest.raises(openai.BadRequestError, match="a stream takes one"):
        api.completions.create(model="echo", prompt=["a", "b"], stream=True)


def test_completions_make_sixteen_tokens_unless_told_otherwise(api: openai.OpenAI) -> None:
    answer = api.completions.create(model="echo", prompt="w " * 20)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


UNSUPPORTED: list[dict[str, Any]] = [
    {"n": 2},
    {"tools": [{"type": "function", "function": {"name": "f"}}]},
    {"tool_choice": "required"},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}},
    {"logprobs": True},
    {"modalities": ["text", "audio"]},
    {"audio": {"voice": "alloy", "format": "wav"}},
    {"logit_bias": {"1": 5}},
]


@pytest.mark.parametrize("extra", UNSUPPORTED, ids=lambda e: next(iter(e)))
def test_what_would_change_the_meaning_is_refused(
    client: httpx.Client, extra: dict[str, Any]
) -> None:
    response = client.post(
        "/v1/chat/completions", json={"model": "echo", "messages": HELLO, **extra}
    )
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == next(iter(extra))
    assert error["code"] == "unsupported_parameter"


@pytest.mark.parametrize(
    "extra", [{"echo": True}, {"best_of": 3}, {"suffix": "x"}, {"logprobs": 0}]
)
def test_unsupported_fields_of_completions_are_refused(
    client: httpx.Client, extra: dict[str, Any]
) -> None:
    response = client.post("/v1/completions", json={"model": "echo", "prompt": "a", **extra})
    assert response.json()["error"]["param"] == next(iter(extra))


def test_unknown_fields_are_ignored(client: httpx.Client) -> None:
    body = {"model": "echo", "messages": HELLO, "wonder": 1, "store": False, "metadata": {}}
    assert client.post("/v1/chat/completions", json=body).status_code == 200


WRONG: list[tuple[str, bytes, str | None, str]] = [
    ("embeddings", b'{"model": "mini"}', "input", "required"),
    ("embeddings", b'{"model": "mini", "input": []}', "input", "0 inputs"),
    ("embeddings", b'{"model": "mini", "input": [[]]}', "input", "should be a text"),
    ("embeddings", b'{"model": "mini", "input": ["a", 1]}', "input", "entry 1 is a int"),
    ("embeddings", b'{"model": "mini", "input": [-1]}', "input", "should be a text"),
    ("embeddings", b'{"model": "mini", "input": null}', "input", "should be a text"),
    ("embeddings", b'{"model": 3, "input": "a"}', "model", "given 3"),
    ("embeddings", b"[]", "body", ""),
    ("embeddings", b'"x"', "body", ""),
    ("embeddings", b"", None, "not JSON"),
    ("embeddings", b'{"model": "mini",\n "input" "a"}', None, "line 2 column 10"),
    ("embeddings", b'{"model": "mini", "input": "\xff"}', None, "not JSON"),
    ("embeddings", b'{"model": "mini", "input": "\\ud800"}', None, "not JSON"),
    ("embeddings", b"[" * 5000, None, "not JSON"),
    ("chat/completions", b'{"model": "echo", "messages": []}', "messages", "at least 1"),
    ("chat/completions", b'{"model": "echo", "messages": [{"role": "king", "content": "a"}]}',
     "messages[0].role", "user"),
    ("chat/completions", b'{"model": "echo", "messages": [{"role": "user"}]}',
     "messages[0].content", "required"),
    ("completions", b'{"model": "echo", "prompt": "a", "temperature": NaN}', "temperature",
     "finite"),
    ("completions", b'{"model": "echo", "prompt": "a", "temperature": 2.5}', "temperature", "2"),
    ("completions", b'{"model": "echo", "prompt": "a", "temperature": "1"}', "temperature", ""),
    ("completions", b'{"model": "echo", "prompt": "a", "top_p": 0}', "top_p", "greater than 0"),
    ("completions", b'{"model": "echo", "prompt": "a", "max_tokens": 0}', "max_tokens", ""),
    ("completions", b'{"model": "echo", "prompt": "a", "top_k": 18446744073709551616}', "top_k",
     "2147483647"),
    ("completions", b'{"model": "echo", "prompt": "a", "max_tokens": 2147483648}', "max_tokens",
     "2147483647"),
    ("completions", b'{"model": "echo", "prompt": []}', "prompt", "empty list"),
    ("chat/completions", b'{"model": "echo", "messages": ['
     + b",".join([b'{"role": "user", "content": "a"}'] * 4097) + b"]}", "messages", "4096"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "param", "text"), WRONG)
def test_a_wrong_request_names_the_field(
    client: httpx.Client, path: str, body: bytes, param: str | None, text: str
) -> None:
    response = client.post(f"/v1/{path}", content=body)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == param, error
    assert text in error["message"], error
    assert error["type"] == "invalid_request_error"


GIANT = "1" + "0" * 4299  # as many digits as Python reads, and more than it writes


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("embeddings", "dimensions"),
        ("embeddings", "input"),
        ("embeddings", "model"),
        ("completions", "temperature"),
        ("completions", "seed"),
        ("completions", "max_tokens"),
        ("completions", "n"),
        ("completions", "best_of"),
        ("completions", "frequency_penalty"),
    ],
)
@pytest.mark.parametrize("sign", ["", "-"])
def test_a_giant_number_is_refused_and_not_repeated(
    client: httpx.Client, path: str, field: str, sign: str
) -> None:
    fields = {"model": '"mini"', "input": '"a"'}
    if path == "completions":
        fields = {"model": '"echo"', "prompt": '"a"'}
    fields[field] = sign + GIANT + ("9" if field == "n" else "")
    body = "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"
    response = client.post(f"/v1/{path}", content=body)
    assert response.status_code == 400, response.text
    assert len(response.content) < 500


@pytest.mark.parametrize(
    ("path", "head", "entry"),
    [
        ("/v1/embeddings", '{"model": "mini", "input": [', '{"a": 1}'),
        ("/v1/embeddings", '{"model": "mini", "input": ["a", ', "1"),
        ("/v1/chat/completions", '{"model": "echo", "messages": [', "1"),
        ("/v1/chat/completions",
         '{"model": "echo", "messages": [{"role": "user", "content": [1,', "1"),
        ("/v1/completions", '{"model": "echo", "prompt": "a", "stop": [', "1"),
        ("/v2/models/mini/infer", '{"inputs": [', "1"),
        ("/v2/models/mini/infer", '{"outputs": [', "1"),
        ("/v2/models/mini/infer", '{"inputs": [{"shape": [', '"1"'),
    ],
)  # fmt: skip
def test_a_body_of_many_wrong_values_gives_few_findings(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, path: str, head: str, entry: str
) -> None:
    found: list[int] = []
    bad_request = routing.bad_request

    def counted(error: ValidationError) -> BadRequest:
        found.append(error.error_count())
        return bad_request(error)

    monkeypatch.setattr(routing, "bad_request", counted)
    opened: list[str] = []
    for one in head:
        if one in "[{":
            opened.append("]" if one == "[" else "}")
        elif one in "]}":
            opened.pop()
    body = head + ",".join([entry] * 50_000) + "".join(reversed(opened))
    response = client.post(path, content=body)
    assert response.status_code == 400, response.text
    assert found
    assert found[0] <= 5
    assert len(response.content) < 1000


def test_an_unknown_model_is_404_and_names_those_there_are(api: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="mini, echo") as caught:
        api.embeddings.create(model="other", input="a")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        api.models.retrieve("other")


def test_a_model_of_another_task_names_one_that_fits(api: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="use one of: mini"):
        api.embeddings.create(model="echo", input="a")
    with pytest.raises(openai.BadRequestError, match="use one of: echo"):
        api.chat.completions.create(model="mini", messages=HELLO)


def test_a_prompt_over_the_context_is_400_also_when_streamed(api: openai.OpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="this model takes 64") as caught:
            api.completions.create(model="echo", prompt="w " * 65, max_tokens=1, stream=stream)
        assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as caught:
        api.embeddings.create(model="mini", input=["a", "w " * 33])
    assert caught.value.param == "input[1]"


def test_more_inputs_than_allowed_are_refused(api: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="accepted are 1 to 64"):
        api.embeddings.create(model="mini", input=["a"] * 65)


def test_a_wrong_key_is_an_authentication_error(live: Live) -> None:
    with (
        openai.OpenAI(base_url=f"{live.url}/v1", api_key="sk-no", max_retries=0) as api,
        pytest.raises(openai.AuthenticationError),
    ):
        api.models.list()


def test_unknown_paths_and_methods_have_the_shape_too(client: httpx.Client) -> None:
    assert client.get("/v1/nothing").json()["error"]["code"] == "not_found"
    response = client.get("/v1/embeddings")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert response.json()["error"]["code"] == "method_not_allowed"
