"""Shared parts of training: progress reports, and warm starts from an earlier model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]

Progress: TypeAlias = Callable[[float, str], bool]
"""Takes the share done (0 to 1) and a line for people. Returning False stops the training, which keeps what it has learnt so far."""


def go_on(progress: Progress | None, done: float, message: str) -> bool:
    """Report progress; return False if the training should stop."""
    return True if progress is None else progress(done, message)


def within(minutes: float, clock: Callable[[], float], progress: Progress | None = None) -> Progress | None:
    """Return a progress function that also ends the training after so many minutes of `clock`, which counts seconds; 0: no end."""
    if not minutes:
        return progress
    ends = clock() + 60.0 * minutes

    def report(done: float, message: str) -> bool:
        return go_on(progress, done, message) and clock() < ends

    return report


def warm_rows(item_ids: Sequence[str], earlier_ids: Sequence[str]) -> tuple[I64, I64]:
    """Return the positions of the K items that both models know, on the new item axis and on the earlier one: two (K,) int64."""
    earlier = {item_id: position for position, item_id in enumerate(earlier_ids)}
    matches = [(here, earlier[item_id]) for here, item_id in enumerate(item_ids) if item_id in earlier]
    table = np.array(matches, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
