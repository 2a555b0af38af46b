"""Tokens into text as they come: whole characters, and no stop string however it is cut."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from sixways_bundle.quantize.llm_gguf import GgufModel
from sixways_bundle.quantize.llm_tokenizer import build_tokenizer
from sixways_server.engines.openvino_genai_text import TextStream
from tests.unit.bundle.llm_tiny import write_gguf


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path: Path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return build_tokenizer(GgufModel(write_gguf(path)))


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text).ids
    return found


def test_a_character_of_several_tokens_comes_whole(tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer, (), frozenset())
    pieces = [stream.feed([token]) for token in ids(tokenizer, "a\U0001f600\u65e5b")]
    assert [piece for piece in pieces if piece] == ["a", "\U0001f600", "\u65e5", "b"]


@pytest.mark.parametrize("stops", [(), ("!",)])
def test_a_text_that_ends_within_a_character_keeps_all_before_it(
    tokenizer: Tokenizer, stops: tuple[str, ...]
) -> None:
    stream = TextStream(tokenizer, stops, frozenset())
    tokens = ids(tokenizer, "ab \U0001f600")
    said = "".join(stream.feed([token]) for token in tokens[:-1])
    assert said + stream.rest() == "ab \ufffd"
    assert stream.rest() == ""


@pytest.mark.parametrize(
    ("text", "stops", "expected", "stopped"),
    [
        ("one STOP two", ("STOP",), "one ", True),
        ("one STO two", ("STOP",), "one STO two", False),
        ("one STO", ("STOP",), "one STO", False),
        ("aab", ("ab",), "a", True),
        ("xyz", ("yzz", "z"), "xy", True),
        ("abc", ("c", "b"), "a", True),
        ("abab!", ("abab?",), "abab!", False),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_stop_strings_are_found_however_the_text_is_cut(
    tokenizer: Tokenizer, text: str, stops: tuple[str, ...], expected: str, stopped: bool, size: int
) -> None:
    stream = TextStream(tokenizer, stops, frozenset())
    tokens = ids(tokenizer, text)
    said = ""
    for start in range(0, len(tokens), size):
        said += stream.feed(tokens[start : start + size])
        assert expected.startswith(said)  # nothing is taken back later
        if stream.stopped:
            break
    assert said + stream.rest() == expected
    assert stream.stopped is stopped
