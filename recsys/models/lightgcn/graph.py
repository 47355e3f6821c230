"""The graph of users, items and values, and how vectors spread over it.

Nodes are U users, I items and F values that items say. An item with nᵢ users has degree nᵢ + cᵢ, where cᵢ is the knowledge weight if it
says something. With e⁽⁰⁾ the nodes' own vectors, zero for users,

    eᵤ⁽ᵏ⁾ = Σᵢ eᵢ⁽ᵏ⁻¹⁾ / √((nᵢ + cᵢ) nᵤ)                                              over the items of the user
    eᵢ⁽ᵏ⁾ = Σᵤ eᵤ⁽ᵏ⁻¹⁾ / √((nᵢ + cᵢ) nᵤ) + √(cᵢ / (nᵢ + cᵢ)) Σₐ wᵢₐ eₐ⁽ᵏ⁻¹⁾ / √nₐ      over the users and the values of the item
    eₐ⁽ᵏ⁾ = Σᵢ √(cᵢ / (nᵢ + cᵢ)) wᵢₐ eᵢ⁽ᵏ⁻¹⁾ / √nₐ                                     over the nₐ items that say the value

and each node's vector is the mean of its layers 0 to K. The operator of a layer is symmetric, so its adjoint is itself.
Source: He et al. 2020, eq. 3, 4 and 8. There users have vectors of their own.

Shapes: D dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.models import pooling_kernel
from recsys.models.base import F32
from recsys.models.item_values import ItemValues
from recsys.models.training_set import TrainingSet

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


class Edges(NamedTuple):
    """Sparse rows: `starts` (R + 1,), `columns` and `weights` (n,)."""

    starts: I64
    columns: I32
    weights: F32

    @classmethod
    def of(cls, matrix: sparse.csr_array) -> Edges:
        return cls(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data.astype(np.float32))

    def spread(self, table: F32, rows: I64 | None = None) -> F32:
        """Return Σ weight · row of `table` (C, D) for each row, or for some `rows` (R,): (R, D)."""
        rows = np.arange(len(self.starts) - 1) if rows is None else rows
        out = np.empty((len(rows), table.shape[1]), np.float32)
        pooling_kernel.spread(self.starts, self.columns, self.weights, table, rows, out)
        return out


class Layer(NamedTuple):
    """Vectors of all nodes of a kind, None where all are zero."""

    items: F32 | None
    values: F32 | None
    users: F32 | None


class Spread(NamedTuple):
    """Vectors after all layers: `items` (I, D); `read` (I, D), whose sum over a history, each divided by √degree, is a user's vector times
    √n; and `said` (F, D), what a value gives to the items that say it, before its weight and the square root of its number of items."""

    items: F32
    read: F32
    said: F32 | None


class Graph:
    """The edges of some preferences, each pair of a user and an item once, and of what items say."""

    def __init__(self, pairs: TrainingSet, said: ItemValues, knowledge_weight: float, layers: int, scale: float = 1.0) -> None:
        """`scale` multiplies the vectors of users: see `scale_of`."""
        n_items = pairs.n_items
        weight = knowledge_weight * (np.diff(said.starts) > 0)
        degree = np.bincount(pairs.items, minlength=n_items) + weight
        self.item_scale: F32 = (np.maximum(degree, 1e-12) ** -0.5 * (degree > 0)).astype(np.float32)
        user_starts = pairs.user_starts()
        user_scale = np.maximum(np.diff(user_starts), 1) ** -0.5
        weights = (self.item_scale[pairs.items] * user_scale[pairs.users]).astype(np.float32)
        by_user = sparse.csr_array((weights, pairs.items, user_starts), shape=(pairs.n_users, n_items))
        self._items_of_users, self._users_of_items = Edges.of(by_user), Edges.of(by_user.T.tocsr())
        matrix = said.matrix()
        self.value_scale: F32 = (np.maximum(np.bincount(said.columns, minlength=len(said.names)), 1) ** -0.5).astype(np.float32)
        self.said_scale: F32 = (np.sqrt(weight) * self.item_scale).astype(np.float32)
        matrix = matrix.multiply(self.said_scale[:, None]).multiply(self.value_scale[None, :]).tocsr()
        self._values_of_items, self._items_of_values = Edges.of(matrix), Edges.of(matrix.T.tocsr())
        self._has_values = bool(matrix.nnz)
        self._layers, self._scale = layers, np.float32(scale)

    def spread(self, items: F32, values: F32) -> Spread:
        """Return the vectors that follow from the nodes' own: `items` (I, D), `values` (F, D)."""
        share = np.float32(1 / (self._layers + 1))
        layer = Layer(items, values if self._has_values else None, None)
        after, read, said = items.copy(), np.zeros_like(items), np.zeros_like(values) if self._has_values else None
        for k in range(self._layers):
            if layer.items is not None:
                read += layer.items
            if said is not None and layer.values is not None:
                said += layer.values
            layer = self._next(layer, only_items=k == self._layers - 1)
            if layer.items is not None:
                after += layer.items
        return Spread(after * share, read * share, None if said is None else said * share)

    def adjoint(self, of_items: F32, of_read: F32) -> tuple[F32, F32 | None]:
        """Return the gradients of the nodes' own vectors, (I, D) and (F, D), from those of `Spread.items` and `Spread.read` (I, D)."""
        share = np.float32(1 / (self._layers + 1))
        direct = (of_items + of_read) * share
        layer = Layer(of_items * share, None, None)
        for _ in range(self._layers):
            layer = self._next(layer, only_items=False)
            layer = layer._replace(items=direct if layer.items is None else layer.items + direct)
        assert layer.items is not None
        return layer.items, layer.values

    def users(self, read: F32, rows: I64 | None = None) -> F32:
        """Return the vectors of all users, or of some `rows` (R,): (R, D)."""
        return self._items_of_users.spread(read, rows) * self._scale

    def users_adjoint(self, of_users: F32, rows: I64, n_items: int) -> F32:
        """Return the gradient of `Spread.read` (I, D) from that of the vectors of users `rows` (R, D)."""
        out = np.zeros((n_items, of_users.shape[1]), np.float32)
        pooling_kernel.scatter(*self._items_of_users, of_users * self._scale, rows, out)
        return out

    def _next(self, layer: Layer, *, only_items: bool) -> Layer:
        items = None if layer.users is None else self._users_of_items.spread(layer.users)
        if self._has_values and layer.values is not None:
            of_values = self._values_of_items.spread(layer.values)
            items = of_values if items is None else items + of_values
        if only_items or layer.items is None:
            return Layer(items, None, None)
        values = self._items_of_values.spread(layer.items) if self._has_values else None
        return Layer(items, values, self._items_of_users.spread(layer.items))


def scale_of(pairs: TrainingSet, layers: int) -> float:
    """Return a factor of users' vectors that makes first logits about as large as the nodes' own vectors.

    Without it they shrink by the mean of the layers and by the root of an item's degree, and training would first have to grow vectors.
    """
    return float((layers + 1) * (len(pairs) / max(pairs.n_items, 1)) ** 0.5)
