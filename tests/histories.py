"""Histories for tests and benchmarks, without an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.engine import PAIR_WEIGHTS
from recsys.state.half_lives import PERIODS_S
from recsys.state.interactions import Interactions
from recsys.state.touches import Touches, TouchRules, derive_touches
from recsys.state.user_columns import Columns, Histories
from recsys.state.user_table import UserTable

RULES = TouchRules(PAIR_WEIGHTS, 180 * 86_400, pairings_per_epoch=3, touches_per_epoch=3)
Entry = tuple[int, int, int, int, int, int, int]
"""As the columns: item, newest and first second, weight, type, touches, visits."""


def touched(item: int, at_s: int, units: int, kind: int = 0) -> Entry:
    """Return the entry of an item that was touched once."""
    return item, at_s, at_s, units, kind, 1, int(units > 0)


def arrays_of(columns: Columns) -> tuple[NDArray[Any], ...]:
    return columns


def columns_of(rows: Sequence[Sequence[Entry]]) -> Columns:
    """Return the columns (R, W) of rows of entries, oldest first."""
    width = max(map(len, rows), default=0)
    columns = Columns.zeros(len(rows), width)
    for row, own in enumerate(rows):
        for column, values in zip(arrays_of(columns), zip(*own, strict=True), strict=False):
            column[row, width - len(own) :] = values
    return columns


def histories_of(rows: Sequence[Sequence[Entry]], spent: Sequence[int] | None = None) -> Histories:
    """Return histories (R, W) of rows of entries, oldest first, and what they have spent (nothing)."""
    lengths = np.array([len(own) for own in rows], np.int32)
    return Histories(columns_of(rows), lengths, np.array(spent or np.zeros(len(rows)), np.int32))


def hold(table: UserTable, slots: NDArray[Any], rows: Sequence[Sequence[Entry]], spent: Sequence[int] | None = None) -> None:
    """Hold these rows in slots of a table."""
    histories = histories_of([own[-table.history_length :] for own in rows], spent)
    width = histories.columns.items.shape[1]
    for held, column in zip(arrays_of(table.histories.columns), histories.columns, strict=True):
        held[slots, table.history_length - width :] = column
    table.lengths[slots], table.spent[slots] = histories.lengths, histories.spent


def apply(table: UserTable, batch: Interactions, rules: TouchRules = RULES) -> Touches:
    """Let a table learn a batch; return what it changed."""
    touches = derive_touches(batch, table, rules, PERIODS_S)
    table.replace(batch.slots, batch.counts, touches.after, touches.left)
    return touches
