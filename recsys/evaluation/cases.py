"""Cases of an evaluation: from which history a user's list is made, which items are relevant, and which are ranked.

A protocol turns a log into cases (`recsys.evaluation.splits`); all that follows is the same for every protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ShapeError
from recsys.evaluation.metrics import I64
from recsys.evaluation.protocol import Slice
from recsys.models.descriptions import Descriptions
from recsys.models.training_set import TrainingSet

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Candidates:
    """The items that are ranked for each of C cases, beside its targets: those of case c are `items[starts[c]:starts[c + 1]]`.

    Shapes: starts (C+1,), items (n,), positions in the log's `item_ids`.
    """

    starts: I64
    items: I64


@dataclass(frozen=True, slots=True)
class Cases:
    """C cases with T targets in all, cut from a log.

    `rows` (C,) are row numbers of `part`: a case's history is what its user touched before that row. `targets` (T,) are the relevant items,
    positions in `part.item_ids`, and `case_of` (T,) the case of each, ascending; every case has a target, none twice. Ranked are the
    `candidates`, or all items; `leaves_out_seen` leaves out those of the history. Targets always take part.
    `n_without_history` counts preferences that are no targets because their user has no history, `n_repeats` those that are none because
    their user has touched the item before.
    Raises: ShapeError for arrays that do not fit.
    """

    part: Slice
    rows: I64
    targets: I64
    case_of: I64
    candidates: Candidates | None = None
    leaves_out_seen: bool = True
    n_without_history: int = 0
    n_repeats: int = 0
    descriptions: Descriptions | None = None
    """Tell what items say, for kinds that learn from it."""

    def __post_init__(self) -> None:
        if self.targets.shape != self.case_of.shape:
            raise ShapeError(f"targets {self.targets.shape} and case_of {self.case_of.shape} differ in shape")
        if not np.array_equal(np.unique(self.case_of), np.arange(len(self.rows))) or (np.diff(self.case_of) < 0).any():
            raise ShapeError("every case needs a target, and targets must be in the order of their cases")
        if self.candidates is not None and len(self.candidates.starts) != len(self.rows) + 1:
            raise ShapeError(f"candidates are those of {len(self.candidates.starts) - 1} cases, there are {len(self.rows)}")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def users(self) -> I64:
        """Return the user of each case, (C,)."""
        return self.part.users[self.rows].astype(np.int64)

    def training(self) -> TrainingSet:
        """Return all events outside the slice, on which models are trained."""
        part, kept = self.part, ~self.part.is_newest
        columns = part.users[kept], part.items[kept], part.item_ids, part.weights[kept], part.ts_ms[kept]
        types = None if part.types is None else part.types[kept]
        return replace(TrainingSet.from_columns(*columns, types=types), descriptions=self.descriptions)

    def history_lengths(self) -> I64:
        """Return how many items each case's user touched before it, (C,)."""
        before = np.concatenate(([0], np.cumsum(self.part.first_touches())))
        starts = np.searchsorted(self.part.users, self.part.users[self.rows])
        lengths: I64 = (before[self.rows] - before[starts]).astype(np.int64)
        return lengths

    def ranked(self, block: slice) -> Bools:
        """Mark the items that are ranked for a block of B cases, (B, I)."""
        rows, n_items = self.rows[block], len(self.part.item_ids)
        if self.candidates is None:
            mask = ~self.part.seen(rows) if self.leaves_out_seen else np.ones((len(rows), n_items), bool)
        else:
            mask = np.zeros((len(rows), n_items), bool)
            first, last = self.candidates.starts[block.start], self.candidates.starts[block.start + len(rows)]
            lengths = np.diff(self.candidates.starts[block.start : block.start + len(rows) + 1])
            mask[np.repeat(np.arange(len(rows)), lengths), self.candidates.items[first:last]] = True
        own = self.of_block(block)
        mask[self.case_of[own] - block.start, self.targets[own]] = True
        return mask

    def of_block(self, block: slice) -> slice:
        """Return where the targets of a block of cases are."""
        return slice(*np.searchsorted(self.case_of, [block.start, block.stop]).tolist())
