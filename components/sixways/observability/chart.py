"""Writes what the Helm chart has of dashboard and rules, from the same source as every other way.

    python -m sixways.observability.chart charts/sixways-server

Helm cannot call Python, so the chart carries both with placeholders `@…@`, which its templates fill
in from `monitoring.slo`. A test holds the chart's files against this.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from sixways.observability.grafana import render
from sixways.observability.prometheus import Terms, rule_groups, rules_file

_PAIRS = (("12", "1", "critical"), ("72", "6", "critical"), ("288", "24", "warning"),
          ("864", "72", "warning"))  # fmt: skip
"""Windows in units of the objective's own."""


def terms() -> Terms:
    """The placeholders.

    `@WN@` is a window of N times `windowMinutes`, `@EN@` and `@LN@` the thresholds of errors and
    latency whose long window is N, `@WITHIN(W)@` the requests in time within a window.
    """
    return Terms(
        name="@NAME@",
        selector="@OF@",
        pairs=tuple(
            (f"@W{long}@", f"@W{short}@", severity, f"@E{long}@", f"@L{long}@")
            for long, short, severity in _PAIRS
        ),
        within=lambda window: f"@WITHIN({window})@",
        quantile="@QUANTILE@",
        milliseconds="@MILLISECONDS@",
        errors_percent="@PERCENT@",
        down_for="@W1@",
        runbook="@RUNBOOK@",
    )


def files() -> dict[str, str]:
    """The chart's files by name."""
    board = render(terms(), title="@TITLE@", seconds="@SECONDS@", errors="@ERRORS@",
                   longest="@W864@")  # fmt: skip
    # A number's placeholder stands for itself, without quotes.
    text = re.sub(r'"(@(?:SECONDS|ERRORS)@)"', r"\1", json.dumps(board, indent=2))
    return {
        "dashboard.json": f"{text}\n",
        "rules.yaml": rules_file(rule_groups(terms(), machines=False)),
    }


def main(folder: str) -> None:
    """Writes them into the chart."""
    for name, text in files().items():
        (Path(folder) / name).write_text(text)


if __name__ == "__main__":
    main(sys.argv[1])
