import xml.etree.ElementTree as ET

from bench.plot import draw
from bench.results import Outcome, Row

_SVG = "{http://www.w3.org/2000/svg}"


def _drawn(*rows: Row) -> ET.Element:
    return ET.fromstring(draw(Outcome("A & B", {}, list(rows), [])))  # noqa: S314


def test_a_bar_is_as_long_as_its_median() -> None:
    one, two = Row("one", "", ours=True), Row("two <2>", "")
    one.keep("speed", [10.0, 20.0, 40.0])
    two.keep("speed", [5.0, 10.0, 10.0])
    bars = [float(bar.get("width", "0")) for bar in _drawn(one, two).iter(f"{_SVG}rect")]
    assert bars[0] == 2 * bars[1]


def test_our_bar_has_a_colour_of_its_own() -> None:
    rows = [Row("ours", "", ours=True), Row("b", ""), Row("c", "")]
    for row in rows:
        row.keep("speed", [1.0])
    colours = [bar.get("fill") for bar in _drawn(*rows).iter(f"{_SVG}rect")]
    assert colours[0] != colours[1] == colours[2]


def test_every_figure_has_a_panel_and_names_are_text_not_markup() -> None:
    row = Row("two <2>", "")
    row.keep("speed", [1.0])
    row.keep("wait_ms", [3.0])
    texts = [text.text or "" for text in _drawn(row).iter(f"{_SVG}text")]
    assert "A & B" in texts
    assert texts.count("two <2>") == 2
    assert any(text.startswith("wait ms") for text in texts)


def test_who_did_not_take_part_has_no_bar() -> None:
    there, absent = Row("there", ""), Row("absent", "", failed="why")
    there.keep("speed", [1.0])
    assert len(list(_drawn(there, absent).iter(f"{_SVG}rect"))) == 1
