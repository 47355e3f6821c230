"""Items that a neighbour model prefers: weighted sums of its sparse rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.lists.context import ListContext, Users
from recsys.lists.reason_kinds import ReasonKind
from recsys.lists.scratch import Scratch
from recsys.lists.sources.base import Source
from recsys.models import neighbour_kernel
from recsys.models.neighbour import NeighbourModel, Reading
from recsys.models.neighbour_rows import NeighbourRows

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

_sums = Scratch(np.float32)


class NeighbourSource(Source):
    """Scores an item by the weighted sum of the rows that a history reads, at least 0. It has the name of the model's kind.

    A reason is exact: it is what a recent item added to that sum.
    """

    reason: ReasonKind | None = "because"

    def __init__(self, kind: str) -> None:
        self.name = kind

    def nominate(self, users: Users, context: ListContext, size: int) -> I64:
        (_, rows), read, numbers = self._serving(context), self._read(users, context), np.empty((len(users), size), np.int64)
        with _sums.borrowed(context.n_items) as sums:
            neighbour_kernel.nominate(*rows, read.places, read.weights, sums, numbers)
        return numbers

    def score(self, users: Users, numbers: I64, context: ListContext) -> F32:
        (_, rows), read, raw = self._serving(context), self._read(users, context), np.empty(numbers.shape, np.float32)
        if _are_all(numbers, context.n_items):
            neighbour_kernel.write_all(*rows, read.places, read.weights, raw)
        else:
            with _sums.borrowed(context.n_items) as sums:
                neighbour_kernel.write_at(*rows, read.places, read.weights, np.ascontiguousarray(numbers), sums, raw)
        return np.maximum(raw, 0, out=raw)

    def explain(self, users: Users, items: I64, scale: F32, context: ListContext, added: F32) -> None:
        if not scale.any():
            return
        (model, rows), recent, positions = self._serving(context), users.recent, context.models[self.name].positions
        places = np.where(recent.strengths > 0, positions[recent.items], np.int32(-1))
        with _sums.borrowed(context.n_items) as sums:
            model.explain(self._read(users, context), rows, places, items, sums, scale, added)

    def _serving(self, context: ListContext) -> tuple[NeighbourModel, NeighbourRows]:
        serving = context.models[self.name]
        assert isinstance(serving.model, NeighbourModel) and serving.rows is not None, "a neighbour model has rows"
        return serving.model, serving.rows

    def _read(self, users: Users, context: ListContext) -> Reading:
        def made() -> Reading:
            model, _ = self._serving(context)
            return model.read(context.models[self.name].histories(context.table, users.slots))

        return users.once(f"{self.name}.read", made)


def _are_all(numbers: I64, n_items: int) -> bool:
    """Return whether each row of `numbers` (U, C) is all items in their order, as a scan of the catalogue asks for them."""
    return numbers.shape[1] == n_items and numbers.strides[0] == 0 and bool((numbers[0] == np.arange(n_items)).all())
