"""What one question brought, and how it is shown and kept."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.figures import Figure, Target
from sixways_bundle.report import machine

FOLDER = Path(__file__).parents[1] / "docs" / "benchmarks"
_TOOLS = ("openvino", "openvino-genai", "onnxruntime", "nncf", "torch", "torchao")


@dataclass
class Row:
    """One contender.

    Attributes:
        name: who.
        setup: how it was set up, in a line.
        rounds: by name of the figure, its value in every round.
        errors: answers that were none, by what happened.
        checked: what the check of its answers found, in words.
        failed: why it could not take part; empty where it did.
        ours: whether it is our server.
    """

    name: str
    setup: str
    rounds: dict[str, list[float]] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    checked: str = ""
    failed: str = ""
    ours: bool = False

    def count(self, errors: Mapping[str, int]) -> None:
        """Adds errors of one measurement."""
        for what, often in errors.items():
            self.errors[what] = self.errors.get(what, 0) + often

    def keep(self, name: str, rounds: Sequence[float]) -> None:
        """Keeps the rounds of a figure; one without any answer takes the contender out."""
        self.rounds[name] = list(rounds)
        if not all(0 < value < math.inf for value in rounds):
            self.failed = f"{name.replace('_', ' ')}: no answer in a round; {self.errors}"
            del self.rounds[name]

    def figure(self, name: str) -> Figure | None:
        """One of its figures, where it has it."""
        rounds = self.rounds.get(name)
        return Figure.of(rounds) if rounds else None

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "name": self.name,
            "setup": self.setup,
            **{name: Figure.of(values).as_dict() for name, values in self.rounds.items()},
            "errors": self.errors,
            **({"answers": self.checked} if self.checked else {}),
            **({"did_not_take_part": self.failed} if self.failed else {}),
        }


@dataclass
class Outcome:
    """All of one question.

    Attributes:
        title: of the table.
        conditions: what held for all contenders.
        rows: the contenders.
        targets: ratios and where they should be.
    """

    title: str
    conditions: dict[str, object]
    rows: list[Row]
    targets: Sequence[Target]

    def show(self, console: Console) -> None:
        """Prints the tables."""
        names = list(dict.fromkeys(name for row in self.rows for name in row.rounds))
        table = Table("contender", title=self.title)
        for name in names:
            table.add_column(name.replace("_", " "), justify="right")
        table.add_column("errors", justify="right")
        table.add_column("answers")
        for row in self.rows:
            cells = [str(row.figure(name) or "") for name in names]
            last = [str(sum(row.errors.values())), row.checked or _first_line(row.failed)]
            table.add_row(row.name, *cells, *last)
        console.print(table)
        targets = Table("ratio", "wanted", "median (min to max)", "", title="ratios")
        for target in self.targets:
            verdict = "met" if target.met else "not met" if target.figure else "nobody to compare"
            targets.add_row(target.what, target.wanted, str(target.figure or ""), verdict)
        console.print(targets)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "conditions": self.conditions,
            "ratios": [target.as_dict() for target in self.targets],
            "contenders": [row.as_dict() for row in self.rows],
        }


def write(name: str, content: Mapping[str, object]) -> Path:
    """Writes `docs/benchmarks/NAME.json`, with the day, the machine and the tools."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    head = {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "tools": {tool: version(tool) for tool in _TOOLS},
    }
    path.write_text(json.dumps({**head, **content}, indent=2) + "\n")
    return path


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""
