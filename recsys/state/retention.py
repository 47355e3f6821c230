"""Retention of items' rows, by event time alone, so that the state does not depend on which worker deletes, and when."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.state.batch_delta import WINDOWS_S, RowId
from recsys.state.popularity import LIVE_BUCKETS

SPARE_EPOCHS = 1
"""Epochs kept behind those that count."""
BUCKETS_FACTOR = 2
"""Buckets of popularity are kept this many times as long as they count."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Epochs of `epoch_s` seconds, of which the newest `live_epochs` count.

    Rows are kept for longer than they count, because a worker whose partitions are behind reads them by its own newest event.
    """

    epoch_s: int
    live_epochs: int

    def is_past(self, row_id: RowId, newest_s: int) -> bool:
        """Return True if a row can be deleted once event time has reached `newest_s`: it counts no more and never will."""
        kind, where, number = row_id
        if kind == "c":
            return int(where) <= newest_s // self.epoch_s - self.live_epochs - SPARE_EPOCHS
        window = str(where)
        return window in WINDOWS_S and number <= newest_s // WINDOWS_S[window] - BUCKETS_FACTOR * LIVE_BUCKETS[window]
