"""Measure how much of a file or folder there is to read, and how much was read."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Literal


class Extent:
    """Holds the total of what is read, in bytes of files or in rows of Parquet; None where nobody can know it (a pipe)."""

    def __init__(self) -> None:
        self.unit: Literal["bytes", "rows"] = "bytes"
        self.total: int | None = None
        self._before = 0
        self._size = 0
        self._position: Callable[[], int] | None = None

    def measure(self, paths: list[str]) -> None:
        """Set the total to the bytes of these files."""
        try:
            found = [os.stat(path) for path in paths]
        except (OSError, ValueError):
            return
        self.total = sum(each.st_size for each in found) if all(stat.S_ISREG(each.st_mode) for each in found) else None

    def measure_rows(self, n_rows: int) -> None:
        """Set the total to these rows."""
        self.unit, self.total = "rows", n_rows

    def begin(self, size: int, position: Callable[[], int]) -> None:
        """Go on to the next part, of this size; `position` says how much of it was read."""
        self._before += self._size
        self._size, self._position = size, position

    def done(self) -> int:
        """Return how much was read so far."""
        if self._position is None:
            return 0
        try:
            return self._before + min(self._position(), self._size)
        except ValueError:  # the file is closed: it was read to its end
            return self._before + self._size
