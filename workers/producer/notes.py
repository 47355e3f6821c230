"""Notes on a file: what was read in a way that its owner should know, with counts."""

from __future__ import annotations

from collections import Counter

MAX_NOTES = 200


class Notes:
    """Count notes by their text."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, text: str, n: int = 1) -> None:
        """Count one more row for which this holds; beyond `MAX_NOTES` different texts, new ones are left out."""
        if text in self._counts or len(self._counts) < MAX_NOTES:
            self._counts[text] += n

    def lines(self) -> list[str]:
        """Return one line a note: how many rows, and what."""
        return [f"{n_rows(n)}: {text}" for text, n in self._counts.items()]


def n_rows(n: int) -> str:
    """Return a number of rows in words."""
    return f"{n:,} {'row' if n == 1 else 'rows'}"
