"""Kinds of reasons, and the reasons of finished lists.

Shapes: U users, K places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

ReasonKind = Literal["because", "people_like_you", "bought_together", "again", "profile", "new_in", "popular_now"]
KINDS: Final[tuple[ReasonKind, ...]] = ("because", "people_like_you", "bought_together", "again", "profile", "new_in", "popular_now")
"""`KINDS[code − 1]` is the kind of a code; code 0 is no reason."""


@dataclass(frozen=True, slots=True, eq=False)
class Reasons:
    """Reasons of listed items: codes of their `kinds` (U, K), and the `categories` (U, K) that they speak of, which are places in `names`,
    −1 for none."""

    kinds: U8
    categories: I32
    names: Sequence[str] = ()

    @classmethod
    def joined(cls, blocks: Sequence[Reasons]) -> Reasons:
        """Return the users of all blocks, one after another."""
        starts = np.cumsum([0, *(len(block.names) for block in blocks)]).tolist()
        moved = [np.where(b.categories < 0, b.categories, b.categories + start) for b, start in zip(blocks, starts[:-1], strict=True)]
        kinds, categories = np.concatenate([b.kinds for b in blocks]), np.concatenate(moved).astype(np.int32)
        return cls(kinds, categories, [name for b in blocks for name in b.names])

    def at(self, rows: I64) -> Reasons:
        """Return the lists of some rows, in that order."""
        return Reasons(self.kinds[rows], self.categories[rows], self.names)

    def kind(self, row: int, place: int) -> ReasonKind | None:
        """Return the kind of one place; None where there is no reason."""
        code = int(self.kinds[row, place])
        return KINDS[code - 1] if code else None

    def category(self, row: int, place: int) -> str | None:
        """Return the category that the reason of one place speaks of."""
        number = int(self.categories[row, place])
        return self.names[number] if number >= 0 else None
