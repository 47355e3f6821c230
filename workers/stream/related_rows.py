"""Keeps the rows for lists of items short: counts of what is bought together, and queues of changed items.

A worker holds none of these rows in memory. It notes how long they are after each append, and replaces long ones by their sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.state.batch_delta import Delta, RowId
from recsys.state.bought import BOUGHT, BUYERS, CHANGED, compacted
from recsys.state.item_row import HEADER_BYTES, MOST_NUMBERS, RECORD_BYTES, parse_header
from workers.settings import RelatedSettings
from workers.state.port import Compaction, GroupResult, RowAddress, StateStore

KINDS = frozenset({BOUGHT, BUYERS, CHANGED})
SHORT_BYTES = HEADER_BYTES + 128 * RECORD_BYTES
"""Rows up to this length are left alone."""
COMPACT_RATIO = 3
"""A row is compacted again once it is this much longer, and SHORT_BYTES, than it was compacted."""
ROWS_AT_ONCE = 64


class RelatedRows:
    """Compacts rows that have grown long. Safe beside other workers: a row that changed otherwise is left alone."""

    def __init__(self, store: StateStore, settings: RelatedSettings) -> None:
        self._store, self._most_pairs = store, settings.pairs_per_item
        self._long: dict[RowAddress, None] = {}
        self._due_bytes: dict[RowAddress, int] = {}
        """Length from which on a row is due, of rows that were compacted."""

    def note(self, delta: Delta, results: Sequence[GroupResult]) -> None:
        """Take in how long the rows of a delta are; `results` are the store's answers for all groups in order, all applied."""
        if not any(kind in KINDS for kind, *_ in delta.spans):
            return
        lengths = np.frombuffer(b"".join(result.row_lengths for result in results), "<u4")
        groups = np.repeat(np.arange(delta.item_groups), np.diff(delta.groups))
        for row in np.flatnonzero((lengths > SHORT_BYTES) & (delta.numbers >= 0)).tolist():
            row_id = delta.rows[row]
            address = int(groups[row]), row_id
            if row_id[0] in KINDS and lengths[row] > self._due_bytes.get(address, SHORT_BYTES):
                self._long[address] = None

    async def compact(self) -> int:
        """Replace some long rows by their sums, and return how many were replaced. Raises Transient."""
        chosen = list(self._long)[:ROWS_AT_ONCE]
        if not chosen:
            return 0
        done, by_group = 0, dict[int, list[Compaction]]()
        for address, row in zip(chosen, await self._store.read_rows(chosen), strict=True):
            if row is not None:
                by_group.setdefault(address[0], []).append(self._plan(address[1], row))
        for group, plans in by_group.items():
            for plan, length in zip(plans, await self._store.compact_rows(group, plans), strict=True):
                done += length > 0
                self._due_bytes[group, plan.row_id] = COMPACT_RATIO * (HEADER_BYTES + len(plan.new_body)) + SHORT_BYTES
        for address in chosen:
            del self._long[address]
        return done

    def _plan(self, row_id: RowId, row: bytes) -> Compaction:
        generation, _ = parse_header(row)
        cap = self._most_pairs if row_id[0] == BOUGHT else MOST_NUMBERS
        return Compaction(row_id, generation, len(row), compacted(row, cap))
