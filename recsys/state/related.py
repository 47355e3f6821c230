"""Adds to the delta of a batch what is kept for similar items and items that are bought together: counts, and which items changed.

A row ("changed", topic, 0) in each item group is a queue: it has a record for each item of the group whose list on that topic is to be made
again. Whoever makes lists removes the records that it has read; nothing else depends on them. It moves with the group's watermarks, as
all rows do, so no crash loses a change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.state.batch_delta import Delta, RowId
from recsys.state.bought import BOUGHT, CHANGED, CountedRows, counted_rows, with_rows
from recsys.state.bought_kernel import Additions

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

SIMILAR, TOGETHER = "similar", "bought_together"
"""Topics, as queues are named."""


def changed_row(topic: str) -> RowId:
    """Return the name of the row in which a topic's changed items of a group are."""
    return CHANGED, topic, 0


@dataclass(frozen=True, slots=True)
class RelatedCounts:
    """Describes what the events of a batch change besides co-occurrence and popularity: the `additions` to counts of what is bought
    together, and for which `topics` changed items are noted."""

    additions: Additions
    topics: frozenset[str]

    def added_to(self, delta: Delta, chosen: Bools | None = None) -> Delta:
        """Return the delta of the events that `chosen` (n,) selects, or of all, with what they change."""
        counted = counted_rows(self.additions, delta.item_groups, chosen)
        found = with_rows(delta, counted)
        if TOGETHER in self.topics:
            found = with_rows(found, _changed(TOGETHER, _numbers(counted), delta.item_groups))
        if SIMILAR in self.topics:
            found = with_rows(found, _changed(SIMILAR, np.unique(delta.numbers[delta.numbers >= 0]), delta.item_groups))
        return found


def _numbers(counted: CountedRows) -> I64:
    """Return the items whose counts change, each once."""
    return np.array(sorted({number for kind, _, number in counted.rows if kind == BOUGHT}), np.int64)


def _changed(topic: str, numbers: I64, item_groups: int) -> CountedRows:
    order = np.argsort(numbers % item_groups, kind="stable")
    numbers = numbers[order]
    groups, sizes = np.unique(numbers % item_groups, return_counts=True)
    records = np.stack((numbers, np.ones_like(numbers)), axis=1).astype(np.uint32)
    return CountedRows(groups, [changed_row(topic)] * len(groups), np.cumsum(sizes), records)
