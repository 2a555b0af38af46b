"""Draws an outcome as bars in SVG: one panel a figure, a bar a contender, a line min to max."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bench.figures import Figure
from bench.results import Outcome, Row

_WIDTH, _LABEL, _VALUE, _MARGIN = 900, 300, 170, 16
_BAR, _GAP, _TITLE, _PANEL = 18, 8, 30, 26
_FONT = "font-family='system-ui, sans-serif' font-size='13'"
# Readable on white and on black.
_OURS, _OTHERS, _TEXT, _LINE = "#2f7de1", "#9aa3ad", "#6b7480", "#545b64"


def draw(outcome: Outcome) -> str:
    """An SVG document; contenders without a figure have no bar in its panel."""
    names = list(dict.fromkeys(name for row in outcome.rows for name in row.rounds))
    parts: list[str] = []
    top = _MARGIN + _TITLE
    for name in names:
        bars = [(row, figure) for row in outcome.rows if (figure := row.figure(name)) is not None]
        parts += _panel(name.replace("_", " "), bars, top)
        top += _PANEL + len(bars) * (_BAR + _GAP) + _PANEL // 2
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {top}' "
        f"width='{_WIDTH}' height='{top}' role='img'>",
        f"<title>{escape(outcome.title)}</title>",
        _text(_MARGIN, _MARGIN + 8, outcome.title, "font-weight='bold'"),
    )
    return "\n".join((*head, *parts, "</svg>")) + "\n"


def _panel(title: str, bars: Sequence[tuple[Row, Figure]], top: int) -> list[str]:
    parts = [_text(_MARGIN, top + 14, f"{title}: median, line from min to max")]
    # What took for ever has no place on a scale.
    longest = max((figure.max for _, figure in bars if figure.max < float("inf")), default=1.0)
    scale = (_WIDTH - _LABEL - _VALUE - 2 * _MARGIN) / (longest or 1.0)
    left = _MARGIN + _LABEL
    for index, (row, figure) in enumerate(bars):
        y = top + _PANEL + index * (_BAR + _GAP)
        middle = y + _BAR / 2
        parts.append(_text(left - 8, middle + 4, row.name, "text-anchor='end'"))
        if figure.max < float("inf"):
            color = _OURS if row.ours else _OTHERS
            low, high = left + figure.min * scale, left + figure.max * scale
            parts += [
                f"<rect x='{left}' y='{y}' width='{figure.median * scale:.1f}' height='{_BAR}' "
                f"rx='2' fill='{color}'/>",
                f"<line x1='{low:.1f}' y1='{middle}' x2='{high:.1f}' y2='{middle}' "
                f"stroke='{_LINE}' stroke-width='2'/>",
            ]
        end = left + min(figure.max, longest) * scale
        parts.append(_text(end + 8, middle + 4, str(figure)))
    return parts


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' {_FONT} fill='{_TEXT}' {more}>{escape(text)}</text>"
