"""The interface of sources of candidates.

Shapes: U users, R recent interactions, N items, C candidates, D dimensions. Item numbers are int64, −1 for none; a raw score is float32 in
the source's own unit, ≥ 0, and 0 where the source has no opinion. They count relative to the user's best candidate, so that neither the
unit nor the number of items with an opinion matters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.lists import product_kernel
from recsys.lists.context import ListContext, Users
from recsys.lists.reason_kinds import ReasonKind
from recsys.models.user_vectors import each_vector, has_vector

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


class Source(ABC):
    """Names candidates and scores any item. A subclass needs `name`, `nominate` and `score`; the other methods make it faster, or let it
    explain lists.

    `size` is how many candidates it nominates for a user.
    """

    name: str
    size: int = 40
    reason: ReasonKind | None = None
    """The kind of reason that an item has which this source carries; None: it is no reason, and the next best part is."""
    is_sparse: bool = False
    """A source of few items for each user: in a small catalogue, too, it names them instead of scoring all items."""
    fades: tuple[int, ...] = ()
    """A recipe learns how the weight of this source falls with the length of a user's history: a weight of its own for each of these
    lengths, of which a history of that length leaves half. Empty: one weight for all users."""

    @abstractmethod
    def nominate(self, users: Users, context: ListContext, size: int) -> I64:
        """Return each user's best items by this source, at most `size`: (U, n), −1 for none. Called in large catalogues, and for
        sparse sources; in a small catalogue all items are scored by the others."""

    @abstractmethod
    def score(self, users: Users, numbers: I64, context: ListContext) -> F32:
        """Return the raw scores of the items `numbers` (U, C), of any user and any item: (U, C). Where a number is −1, any value."""

    def prepare(self, context: ListContext) -> None:  # noqa: B027  (optional)
        """Compute what all users share and keep it by `context.once`. Called once for each context, before lists are made in threads."""

    def tops(self, context: ListContext) -> Tops | None:
        """Return the items that are best for all users alike, if there are any. Then `nominate` is not called, and `score` for candidates
        only."""
        return None

    def product(self, users: Users, context: ListContext) -> Product | None:
        """Return vectors whose inner products are the raw scores, if there are any. Called in small catalogues only."""
        return None

    def rows(self, users: Users, context: ListContext) -> CountRows | None:
        """Return rows of neighbours whose weighted sums are the raw scores, if there are any. Called in small catalogues only."""
        return None

    def explain(self, users: Users, items: I64, scale: F32, context: ListContext, added: F32) -> None:  # noqa: B027  (optional)
        """Add to `added` (U, K, R) what each recent interaction gave to the listed `items` (U, K, −1 for none); raw scores count times
        `scale` (U,)."""


def fades_of(sources: Sequence[Source]) -> dict[str, tuple[int, ...]]:
    """Return the lengths of histories by which the weights of sources fall, by name; of those that have some."""
    return {source.name: source.fades for source in sources if source.fades}


class Tops(NamedTuple):
    """The best items of T rankings that all users share, best first, `tops` (T, M), −1 for none; a user gets the first `quotas` (T,) that
    may be listed."""

    tops: I64
    quotas: I64


def rankings(sources: Sequence[Source], context: ListContext) -> Tops:
    """Return the rankings of all sources that have some."""

    def made() -> Tops:
        found = [tops for source in sources if (tops := source.tops(context)) is not None]
        if not found:
            return Tops(np.zeros((0, 0), np.int64), np.zeros(0, np.int64))
        width = max(one.tops.shape[1] for one in found)
        padded = np.full((sum(len(one.tops) for one in found), width), -1, np.int64)
        start = 0
        for one in found:
            padded[start : start + len(one.tops), : one.tops.shape[1]] = one.tops
            start += len(one.tops)
        return Tops(padded, np.concatenate([one.quotas for one in found]))

    return context.once("rankings", made)


@dataclass(frozen=True, slots=True)
class Product:
    """Raw scores that are inner products of `users` (U, D) and `items` (N, D), which are read fastest where they lie by dimension
    (`np.asfortranarray`), at least 0; or with "softmax" their exponentials, up to a
    factor, over the `known` items (N,). Of users with several vectors, (U, V, D), the largest product counts. A user whose vectors are all
    zero has no scores."""

    users: F32
    items: F32
    link: Literal["identity", "softmax"] = "identity"
    known: NDArray[np.bool_] | None = None

    def write(self, rows: slice, raw: F32) -> None:
        """Write the inner products of some users (B,) into `raw` (B, N)."""
        users, columns = self.users[rows], np.ascontiguousarray(self.items.T)
        if users.ndim == 2:
            product_kernel.write(np.ascontiguousarray(users), columns, raw)
            return
        products = np.empty_like(raw)
        raw[:] = -np.inf
        for own in each_vector(users):
            product_kernel.write(own, columns, products)
            np.maximum(raw, products, out=raw, where=has_vector(own)[:, None])
        raw[~has_vector(users)] = 0

    def scores(self, numbers: I64) -> F32:
        """Return the raw scores of the items `numbers` (U, C)."""
        raw = np.empty((len(self.users), len(self.items)), np.float32)
        self.write(slice(0, len(raw)), raw)
        if self.link == "identity":
            found: F32 = np.take_along_axis(np.maximum(raw, 0), numbers, 1)
            return found
        if self.known is not None:
            raw[:, ~self.known] = -np.inf
        raw = np.exp(raw - raw.max(axis=1, keepdims=True, initial=-1e30))
        raw[~has_vector(self.users)] = 0
        softened: F32 = np.take_along_axis(raw, numbers, 1)
        return softened


class CountRows(NamedTuple):
    """Raw scores as weighted sums of rows of neighbours: Σ_r weights[u, r] · row(places[u, r]) · factor.

    Rows are those of `matrix` (M, N or more) with a `factor` (N,) for each item; or, where `matrix` has no row, row m holds `values` of
    `neighbours`, ascending, from `starts[m]` to `starts[m + 1]`, factors included. `places` and `weights` are (U, R); place −1 is no row.
    `wide` are the weights of a second reading of the rows, of which a feature is made: (U, R), or (U, 0) if there is none.
    """

    matrix: F32
    factor: F32
    starts: I64
    neighbours: I64
    values: F32
    places: I64
    weights: F32
    wide: F32

    @classmethod
    def dense(cls, matrix: F32, factor: F32, places: I64, weights: F32, wide: F32 | None = None) -> CountRows:
        """Return rows of a matrix."""
        none, wide = np.zeros(0, np.int64), weights[:, :0] if wide is None else wide
        return cls(matrix, factor, none, none, np.zeros(0, np.float32), places, weights, np.ascontiguousarray(wide))

    @classmethod
    def sparse(cls, starts: I64, neighbours: I64, values: F32, places: I64, weights: F32, wide: F32 | None = None) -> CountRows:
        """Return rows of pairs."""
        none, wide = np.zeros((0, 0), np.float32), weights[:, :0] if wide is None else wide
        return cls(none, np.zeros(0, np.float32), starts, neighbours, values, places, weights, np.ascontiguousarray(wide))

    @classmethod
    def none(cls, n_users: int) -> CountRows:
        """Return no rows for any user."""
        return cls.sparse(
            np.zeros(1, np.int64),
            np.zeros(0, np.int64),
            np.zeros(0, np.float32),
            np.zeros((n_users, 0), np.int64),
            np.zeros((n_users, 0), np.float32),
        )
