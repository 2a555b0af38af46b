"""Logs as JSON lines on standard error. Never a key, never content."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import msgspec


class JSONLines(logging.Formatter):
    """One JSON object a line.

    Args:
        with_pid: whether to say which process it is, where a server has several.
    """

    def __init__(self, with_pid: bool = False) -> None:
        super().__init__()
        self._with_pid = with_pid

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **({"pid": record.process} if self._with_pid else {}),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode("utf-8")


def configure(level: int = logging.INFO, *, with_pid: bool = False) -> None:
    """Sends all logs of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLines(with_pid))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # uvicorn's own start and stop lines say nothing that ours do not.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
