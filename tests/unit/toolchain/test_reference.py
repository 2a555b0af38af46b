"""The tables in `docs/` say what the source says."""

from __future__ import annotations

from pathlib import Path

import pytest
from toolchain.paths import CHECKOUT
from toolchain.reference import Field, fields, filled

pytestmark = pytest.mark.unit
_SOURCE = '''
class Args(TypedDict):
    """Inputs."""

    size: pulumi.Input[int]
    """Bytes
    of it."""
    names: NotRequired[pulumi.Input[list[pulumi.Input[str]]]]
    """Which | ones. Default: none."""
    bare: str
'''


def test_a_field_is_read_with_its_docstring_and_without_what_pulumi_adds(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text(_SOURCE)
    assert fields(source, "Args") == [
        Field("size", "int", True, "Bytes of it."),
        Field("names", "list[str]", False, "Which | ones. Default: none."),
        Field("bare", "str", True, ""),
    ]
    page = filled("<!-- reference source.py Args -->\nold\n<!-- end of reference -->\n", tmp_path)
    assert page.splitlines()[3:] == [
        "| **`size`** | `int` | Bytes of it. |",
        "| `names` | `list[str]` | Which \\| ones. Default: none. |",
        "| **`bare`** | `str` |  |",
        "<!-- end of reference -->",
    ]


@pytest.mark.parametrize("page", sorted((CHECKOUT / "docs").rglob("*.md")), ids=lambda p: p.stem)
def test_every_table_of_the_docs_is_what_the_source_says(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert filled(text) == text, "run: python -m toolchain.reference"


def test_every_input_and_output_of_a_page_has_a_text() -> None:
    for page in (CHECKOUT / "docs").rglob("*.md"):
        for line in page.read_text(encoding="utf-8").splitlines():
            assert not line.endswith("` |  |"), f"{page.name}: {line} has no docstring"
