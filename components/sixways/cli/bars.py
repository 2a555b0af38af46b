"""Progress on standard error: one bar a step."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Bars:
    """One bar a step, in the order in which the work comes to them."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description:24}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[message]}"),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def show(self, step: str, fraction: float, message: str) -> None:
        """Moves the bar of `step`."""
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step, total=1.0, message=message)
        self._progress.update(self._tasks[step], completed=fraction, message=message)
