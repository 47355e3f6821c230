"""Values that the items of a model say, as sparse rows.

Shapes: I items, F values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.catalogue.words import Words, vocabulary
from recsys.errors import ModelError, ShapeError

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

PREFIX = "said."


class ItemValues(NamedTuple):
    """Item i says the values `columns` (n,) with the `weights` (n,) from `starts[i]` to `starts[i + 1]`; `names` (F,) are their texts."""

    names: tuple[str, ...]
    starts: I64
    columns: I32
    weights: F32

    @classmethod
    def of(cls, words: Words, most: int) -> Self:
        """Return what items say of the `most` values that most of them share."""
        names = tuple(vocabulary(words, most))
        column_of = {name: column for column, name in enumerate(names)}
        rows = [sorted((column_of[value], weight) for value, weight in said if value in column_of) for said in words.values]
        starts = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int64)
        columns = np.array([column for row in rows for column, _ in row], np.int32)
        return cls(names, starts, columns, np.array([weight for row in rows for _, weight in row], np.float32))

    @classmethod
    def none(cls, n_items: int) -> Self:
        """Return that the items say nothing."""
        return cls((), np.zeros(n_items + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))

    def matrix(self) -> sparse.csr_array:
        """Return the weights, (I, F)."""
        return sparse.csr_array((self.weights, self.columns, self.starts), shape=(len(self.starts) - 1, len(self.names)))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name; none where the items say nothing."""
        if not len(self.columns):
            return {}
        return {f"{PREFIX}starts": self.starts, f"{PREFIX}columns": self.columns, f"{PREFIX}weights": self.weights}

    @classmethod
    def from_tensors(cls, names: Sequence[str], tensors: Mapping[str, NDArray[Any]], n_items: int) -> Self:
        """Read stored rows. Raises: ModelError where one is missing, ShapeError where they do not fit."""
        if f"{PREFIX}starts" not in tensors:
            return cls.none(n_items)
        found = {}
        for name, kind in (("starts", np.int64), ("columns", np.int32), ("weights", np.float32)):
            array = tensors.get(PREFIX + name)
            if array is None:
                raise ModelError(f"tensor {PREFIX}{name} is missing; train the model again")
            if array.dtype != kind or array.ndim != 1:
                raise ShapeError(f"tensor {PREFIX}{name} is {array.dtype} {array.shape}")
            found[name] = array
        rows = cls(tuple(names), found["starts"], found["columns"], found["weights"])
        if len(rows.starts) != n_items + 1 or rows.starts[0] != 0 or np.diff(rows.starts).min(initial=0) < 0:
            raise ShapeError(f"tensor {PREFIX}starts does not fit {n_items} items")
        if rows.starts[-1] != len(rows.columns) or len(rows.columns) != len(rows.weights):
            raise ShapeError(f"tensors {PREFIX}columns and {PREFIX}weights do not fit their rows")
        if rows.columns.min(initial=0) < 0 or rows.columns.max(initial=-1) >= len(names):
            raise ShapeError(f"tensor {PREFIX}columns names values beyond the {len(names)} of the model")
        return rows
