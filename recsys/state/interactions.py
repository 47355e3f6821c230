"""A micro-batch of interactions as arrays, grouped by user."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ShapeError

I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Interactions:
    """Interactions of some users in one micro-batch, user after user, oldest first within a user.

    Shapes: `slots` and `counts` (U,) say which row of the user table and how many interactions each user has; the others are (n,) with n
    = sum of counts. `weights` are i8 in units of 1/32, `types` codes of event types, `times_s` u32 seconds, `partitions` and
    `source_offsets` are those of their records."""

    slots: I64
    counts: I64
    items: U32
    times_s: U32
    weights: NDArray[np.int8]
    types: NDArray[np.int8]
    partitions: NDArray[np.int32]
    source_offsets: I64

    def __post_init__(self) -> None:
        n = len(self.items)
        if len(self.slots) != len(self.counts) or int(self.counts.sum()) != n:
            raise ShapeError(f"counts of {len(self.counts)} users must sum to the {n} interactions")
        for name in ("times_s", "weights", "types", "partitions", "source_offsets"):
            if len(getattr(self, name)) != n:
                raise ShapeError(f"{name} has {len(getattr(self, name))} entries for {n} interactions")

    def __len__(self) -> int:
        return len(self.items)
