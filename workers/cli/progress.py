"""A bar with a total for commands that take long: on a terminal only, so that logs and pipes stay as they are."""

from __future__ import annotations

from typing import Any

from workers.cli.console import errors


class Progress:
    """Shows how much is done of how much, the rate and the time that is left."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if errors().is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, console=errors(), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=None)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def total(self, n: int) -> None:
        """Set how much there is to do."""
        if self._bar is not None:
            self._bar.update(self._task, total=n)

    def step(self, n: int) -> None:
        """Count what was done since the last call."""
        if self._bar is not None:
            self._bar.advance(self._task, n)
