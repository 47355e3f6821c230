"""Retention of items' rows, by event time alone, so that the state does not depend on which worker deletes, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recsys.state.batch_delta import RowId
from recsys.state.half_lives import LIVE_SPANS, WINDOWS_S

SPANS_FACTOR = 2
"""Spans of popularity are kept this many times as long as they count: a worker that is behind reads them by its own newest event."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Rules by which rows expire.

    A row of popularity expires with event time. A row of co-occurrence does not: it counts until its item has rows in `live_epochs` newer
    epochs, of `epoch_s` seconds each. Rows are only ever added, so a row that does not count will not count again.
    """

    epoch_s: int
    live_epochs: int

    def may_be_past(self, row_id: RowId, newest_s: int) -> bool:
        """Return False if a row counts by its name alone, once event time has reached `newest_s`: there cannot be enough newer ones."""
        kind, where, number = row_id
        if kind == "c":
            return int(where) <= newest_s // self.epoch_s - self.live_epochs
        window = str(where)
        return window in WINDOWS_S and number <= newest_s // WINDOWS_S[window] - SPANS_FACTOR * LIVE_SPANS

    def counts(self, epoch: int, item_epochs: Sequence[int]) -> bool:
        """Return True if a row of co-occurrence counts; `item_epochs` are those in which its item has rows, ascending."""
        return epoch in item_epochs[-self.live_epochs :]
