"""The interface of neighbour models: a score is a weighted sum of sparse rows, and so says exactly what gave it.

    score(u, i) = Σ_r weight(u, r) · row(r)_i

Shapes: U users, L entries of a history, R rows that are read of a user, I items, M rows, K listed items.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ShapeError
from recsys.models import neighbour_kernel
from recsys.models.base import F32, I32, Histories
from recsys.models.ials.ridge_kernel import collapse
from recsys.models.neighbour_rows import NeighbourRows

I64 = NDArray[np.int64]


class Reading(NamedTuple):
    """Rows that are read of each user: `places` (U, R) int32, −1 for none, and their `weights` (U, R) float32; `lengths` (U,) int32 is how
    many items the user likes, where the weights depend on it, or else 0."""

    places: I32
    weights: F32
    lengths: I32


class NeighbourModel(ABC):
    """A model of rows (M, I). It has no vectors: `item_vectors` is (I, 0) and `encode` returns (U, 0)."""

    kind: ClassVar[str]
    link: ClassVar[Literal["identity", "softmax"]] = "identity"

    def __init__(self, item_ids: list[str], rows: NeighbourRows, history_length: int) -> None:
        self.item_ids, self.rows, self.history_length = item_ids, rows, history_length
        self.item_vectors: F32 = np.zeros((len(item_ids), 0), np.float32)

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The options of its training, as JSON can hold them."""

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the rows' arrays by name."""
        return self.rows.tensors()

    @classmethod
    @abstractmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild a model. Raises: ShapeError for tensors that do not fit, ModelError for an option out of its bounds."""

    def encode(self, histories: Histories) -> F32:
        """Return vectors without dimensions, (U, 0): `read` takes their place."""
        return np.zeros((len(histories), 0), np.float32)

    @abstractmethod
    def read(self, histories: Histories) -> Reading:
        """Return which rows a history reads, with what weights. An empty history reads none. The same input gives the same output."""

    @abstractmethod
    def explain(self, read: Reading, rows: NeighbourRows, places: I32, items: I64, sums: F32, scale: F32, added: F32) -> None:
        """Add to `added` (U, K, R) what each liked item of a history gave to the score of the `items` (U, K), −1 for none, times `scale`
        (U,).

        `places` (U, R) are these liked items on the model's axis, −1 for others, and `read` is what the whole history reads. `rows` are the
        model's with columns as in `items`; `sums` has a place for each such column, and is zero before and after.
        """

    def scores(self, histories: Histories) -> F32:
        """Return the scores of all items, (U, I)."""
        read, raw = self.read(histories), np.empty((len(histories), len(self.item_ids)), np.float32)
        neighbour_kernel.write_all(*self.rows, read.places, read.weights, raw)
        return raw


def liked_once(histories: Histories) -> I32:
    """Return the items that each history likes, each of them once, at its newest place: (U, L), −1 elsewhere. The newest sign counts."""
    weights = histories.weights.astype(np.float32)
    collapse(histories.items, weights)
    liked: I32 = np.where((histories.items >= 0) & (weights > 0), histories.items, np.int32(-1))
    return liked


class ItemNeighbours(NeighbourModel):
    """A model with a row for each item: what one liked item adds to all others. Items that are not liked add nothing.

    A subclass names its `kind` and the class of its `options`.
    """

    options: ClassVar[type[Any]]

    def __init__(self, settings: Any, item_ids: list[str], rows: NeighbourRows) -> None:
        """`settings` has a `history_length`. Raises: ShapeError unless there is a row for each item."""
        if len(rows) != len(item_ids):
            raise ShapeError(f"there are {len(rows)} rows of neighbours for {len(item_ids)} items")
        super().__init__(item_ids, rows, settings.history_length)
        self.settings = settings

    @property
    def config(self) -> dict[str, Any]:
        return asdict(self.settings)

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        settings = cls.options(**{name: value for name, value in config.items() if name in cls.options.__dataclass_fields__})
        return cls(settings, item_ids, NeighbourRows.from_tensors(tensors, len(item_ids), len(item_ids)))

    def read(self, histories: Histories) -> Reading:
        liked = liked_once(histories)
        return Reading(liked, (liked >= 0).astype(np.float32), np.zeros(len(liked), np.int32))

    def explain(self, read: Reading, rows: NeighbourRows, places: I32, items: I64, sums: F32, scale: F32, added: F32) -> None:
        neighbour_kernel.explain(*rows, places, items, sums, scale, added)
