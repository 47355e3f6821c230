"""Cases to learn a recipe from: a user's candidates just before an event, and which of them the event was about.

Shapes: B cases, C candidates, F features, E columns of sources without features (`recsys.lists.fading`), L later choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ShapeError

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]


_COLUMNS = ("counts", "targets", "users", "times_s", "events", "popular", "later")


def _no_later() -> I32:
    return np.zeros((0, 0), np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """Cases in order of arrival. `features` (B, C, F) of the first `counts` (B,) candidates of each; `targets` (B,), the column of the item
    that the user chose, or −1 if it is no candidate; `users` (B,), any numbers; `times_s` (B,); `events` (B,), the places of the events in
    the log; `popular` (B, H), the rank of the item by popularity at each half-life, infinite where it is far behind; and `extras` (B, C,
    2 E), the shares of the best score of the sources of the columns `extra_names` (E), and their logarithms. `later` (B, L) are columns of
    items that the user chose after the target and that count as targets too, −1 where there is none; L is 0 unless given."""

    features: F32
    counts: I32
    targets: I32
    users: I64
    times_s: I64
    events: I64
    popular: F64
    extras: F32
    extra_names: tuple[str, ...] = ()
    later: I32 = field(default_factory=_no_later)

    def __post_init__(self) -> None:
        if not self.later.size:
            object.__setattr__(self, "later", np.zeros((len(self.counts), 0), np.int32))
        if self.extras.shape != (*self.features.shape[:2], 2 * len(self.extra_names)):
            raise ShapeError(f"cases of {len(self.extra_names)} sources without features have extras of shape {self.extras.shape}")
        shapes = {len(getattr(self, name)) for name in ("features", *_COLUMNS)}
        if len(shapes) != 1 or self.features.ndim != 3:
            raise ShapeError(f"cases do not fit together: {sorted(shapes)} cases, features of shape {self.features.shape}")
        if len(self) and (int(self.counts.max()) > self.features.shape[1] or (self.chosen >= self.counts[:, None]).any()):
            raise ShapeError("a case has more candidates than features, or a target that is none of them")

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def valid(self) -> Bools:
        """Return where there is a candidate, (B, C)."""
        found: Bools = np.arange(self.features.shape[1]) < self.counts[:, None]
        return found

    @property
    def chosen(self) -> I32:
        """Return the columns of the targets and of what was chosen later, (B, 1 + L)."""
        found: I32 = np.concatenate((self.targets[:, None], self.later), axis=1)
        return found

    def at(self, rows: I64 | slice) -> Self:
        """Return some of the cases."""
        columns = {name: getattr(self, name)[rows] for name in ("features", *_COLUMNS, "extras")}
        return type(self)(**columns, extra_names=self.extra_names)

    def of_next_choices(self) -> Self:
        """Return the cases with their targets alone."""
        return replace(self, later=self.later[:, :0])

    @classmethod
    def joined(cls, blocks: Sequence[Self]) -> Self:
        """Return the cases of all blocks, one after another."""
        width = max(block.features.shape[1] for block in blocks)

        def padded(name: str) -> F32:
            return np.concatenate([np.pad(one, ((0, 0), (0, width - one.shape[1]), (0, 0))) for one in (getattr(b, name) for b in blocks)])

        columns = {name: np.concatenate([getattr(block, name) for block in blocks]) for name in _COLUMNS}
        return cls(features=padded("features"), **columns, extras=padded("extras"), extra_names=blocks[0].extra_names)
