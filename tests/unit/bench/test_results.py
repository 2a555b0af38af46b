import io
import math

from bench.figures import Figure, Target
from bench.results import Outcome, Row
from rich.console import Console


def test_a_round_without_an_answer_takes_a_contender_out() -> None:
    for value in (0.0, math.inf):
        row = Row("slow", "")
        row.keep("answers_a_second", [3.0, value])
        assert "answers a second: no answer in a round" in row.failed
        assert row.figure("answers_a_second") is None


def test_who_could_not_take_part_stands_in_the_table_with_the_reason() -> None:
    row = Row("absent", "", failed="its environment cannot be made: no such package\nmore")
    ours = Row("ours", "", ours=True)
    ours.keep("speed", [1.0, 2.0, 3.0])
    outcome = Outcome("title", {}, [ours, row], [Target("ours / absent", 2.0, None)])
    shown = io.StringIO()
    outcome.show(Console(file=shown, width=200))
    assert "its environment cannot be made: no such package" in shown.getvalue()
    assert "nobody to compare" in shown.getvalue()


def test_json_holds_figures_errors_and_reasons() -> None:
    row = Row("ours", "as is")
    row.keep("speed", [1.0, 2.0, 4.0])
    row.count({"status 500": 2})
    row.count({"status 500": 1})
    assert row.as_dict() == {
        "name": "ours",
        "setup": "as is",
        "speed": Figure(1.0, 2.0, 4.0).as_dict(),
        "errors": {"status 500": 3},
    }
    assert Row("absent", "", failed="why").as_dict()["did_not_take_part"] == "why"
