"""Tables of inputs and outputs in `docs/`, from the docstrings that stand under each field.

`python -m toolchain.reference` writes them between their marks:

    <!-- reference components/sixways/cloud/budget.py MonthlyBudgetArgs -->
    <!-- end of reference -->
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from toolchain.paths import CHECKOUT

_MARKS = re.compile(
    r"(<!-- reference (?P<file>\S+) (?P<name>\w+) -->\n).*?(<!-- end of reference -->)", re.DOTALL
)


@dataclass(frozen=True)
class Field:
    """One input or output of a component."""

    name: str
    type: str
    required: bool
    text: str


def fields(source: Path, name: str) -> list[Field]:
    """The annotated fields of a class with the docstring under each.

    :raises KeyError: the file has no class of that name.
    """
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return [
                _field(field, text)
                for field, text in zip_longest(node.body, node.body[1:])
                if isinstance(field, ast.AnnAssign)
            ]
    raise KeyError(f"{source} has no class {name}")


def _field(field: ast.AnnAssign, text: ast.stmt | None) -> Field:
    said = ""
    if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
        said = " ".join(str(text.value.value).split())
    kind = ast.unparse(field.annotation)
    required = not kind.startswith(("NotRequired[", "pulumi.Output["))
    # What may be an output, and what is left out, says nothing of the value itself.
    while inner := re.search(r"(?:NotRequired|pulumi\.Input|pulumi\.Output)\[", kind):
        kind = kind[: inner.start()] + _without_bracket(kind[inner.end() :])
    return Field(ast.unparse(field.target), kind, required, said)


def _without_bracket(rest: str) -> str:
    depth = 0
    for at, letter in enumerate(rest):
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if depth < 0:
            return rest[:at] + rest[at + 1 :]
    return rest


def table(found: list[Field]) -> str:
    """A Markdown table; a required input is bold."""
    lines = ["| name | type | |", "| --- | --- | --- |"]
    for field in found:
        name = f"**`{field.name}`**" if field.required else f"`{field.name}`"
        lines.append(f"| {name} | `{field.type}` | {field.text.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def filled(page: str, root: Path = CHECKOUT) -> str:
    """The page with every table as the source has it now."""

    def fill(mark: re.Match[str]) -> str:
        return f"{mark[1]}{table(fields(root / mark['file'], mark['name']))}\n{mark[4]}"

    return _MARKS.sub(fill, page)


def main() -> int:
    for path in sorted((CHECKOUT / "docs").rglob("*.md")):
        page = path.read_text(encoding="utf-8")
        if (new := filled(page)) != page:
            path.write_text(new, encoding="utf-8")
            print(path.relative_to(CHECKOUT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
