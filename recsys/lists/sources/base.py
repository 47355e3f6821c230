"""The interface of sources of candidates.

Shapes: U users, R recent interactions, N items, C candidates, D dimensions. Item numbers are int64, −1 for none; a raw score is float32 in
the source's own unit, ≥ 0, and 0 where the source has no opinion. Raw scores become parts of the score by scaling them, over all N items,
to root mean square 1 and by the source's weight.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.lists.context import ListContext, Users

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

SCALE_SAMPLE = 2_048
"""Items whose scores estimate a source's scale in a large catalogue."""


class Source(ABC):
    """Names candidates and scores any item. A subclass needs `name`, `nominate` and `score`; the other methods make it faster, or let it
    explain lists.

    `size` is how many candidates it nominates for a user of a large catalogue. In a small catalogue every item is a candidate.
    """

    name: str
    size: int = 64

    @abstractmethod
    def nominate(self, users: Users, context: ListContext, size: int) -> I64:
        """Return each user's best items by this source, at most `size`: (U, n), −1 for none. Called in large catalogues only."""

    @abstractmethod
    def score(self, users: Users, numbers: I64, context: ListContext) -> F32:
        """Return the raw scores of the items `numbers` (U, C), of any user and any item: (U, C). Where a number is −1, any value."""

    def prepare(self, context: ListContext) -> None:  # noqa: B027  (optional)
        """Compute what all users share and keep it by `context.once`. Called once for each context, before lists are made in threads."""

    def scale(self, users: Users, context: ListContext) -> F32:
        """Return 1 / root mean square of each user's raw scores over all items, (U,). Called in large catalogues only.

        Unless overridden it is an estimate: nominated items count as they are, and all others as the mean of those in a fixed sample of
        2,048 items. A source that scores few items beyond those that it nominates is estimated well.
        """
        return estimated_scale(self, users, context)

    def everybody(self, context: ListContext) -> F32 | None:
        """Return the raw scores of all items (N,) if they are the same for all users. Called in small catalogues only."""
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


@dataclass(frozen=True, slots=True)
class Product:
    """Raw scores that are inner products of `users` (U, D) and `items` (N, D), at least 0; or with "softmax" their exponentials, up to a
    factor, over the `known` items (N,). A user whose vector is zero has no scores."""

    users: F32
    items: F32
    link: Literal["identity", "softmax"] = "identity"
    known: NDArray[np.bool_] | None = None

    def write(self, rows: slice, raw: F32) -> None:
        """Write the inner products of some users (B,) into `raw` (B, N)."""
        users, items = torch.from_numpy(self.users[rows]), torch.from_numpy(self.items).T
        torch.mm(users, items, out=torch.from_numpy(raw))

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
        raw[~self.users.any(axis=1)] = 0
        softened: F32 = np.take_along_axis(raw, numbers, 1)
        return softened


class CountRows(NamedTuple):
    """Raw scores as weighted sums of rows of neighbours: Σ_r weights[u, r] · row(places[u, r]) · factor.

    Rows are those of `matrix` (M, N or more) with a `factor` (N,) for each item; or, where `matrix` has no row, row m holds `values` of
    `neighbours`, ascending, from `starts[m]` to `starts[m + 1]`, factors included. `places` and `weights` are (U, R); place −1 is no row.
    """

    matrix: F32
    factor: F32
    starts: I64
    neighbours: I64
    values: F32
    places: I64
    weights: F32

    @classmethod
    def dense(cls, matrix: F32, factor: F32, places: I64, weights: F32) -> CountRows:
        """Return rows of a matrix."""
        none = np.zeros(0, np.int64)
        return cls(matrix, factor, none, none, np.zeros(0, np.float32), places, weights)

    @classmethod
    def sparse(cls, starts: I64, neighbours: I64, values: F32, places: I64, weights: F32) -> CountRows:
        """Return rows of pairs."""
        return cls(np.zeros((0, 0), np.float32), np.zeros(0, np.float32), starts, neighbours, values, places, weights)

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


def over_root(mean_squares: F32) -> F32:
    """Return 1 / root, 0 where nothing is above 0."""
    some = mean_squares > 0
    root: F32 = np.where(some, 1.0 / np.sqrt(np.where(some, mean_squares, 1.0)), 0.0).astype(np.float32)
    return root


def estimated_scale(source: Source, users: Users, context: ListContext) -> F32:
    """Return 1 / root mean square of a source's scores over all items, (U,), from nominated items and a sample."""
    n_items = context.n_items
    sample = context.once("sample", lambda: np.sort(np.random.default_rng(0).permutation(n_items)[:SCALE_SAMPLE]))
    nominated = source.nominate(users, context, source.size)
    held = np.where(nominated >= 0, source.score(users, nominated, context), np.float32(0))
    scores = source.score(users, np.broadcast_to(sample, (len(users), len(sample))), context)
    squares = np.empty(len(users), np.float32)
    for user, own in enumerate(nominated):
        named, first = np.unique(own, return_index=True)
        first = first[named >= 0]
        others = scores[user, ~np.isin(sample, own)]
        rest = float(np.square(others, dtype=np.float64).mean()) if len(others) else 0.0
        squares[user] = np.square(held[user, first], dtype=np.float64).sum() + rest * (n_items - len(first))
    return over_root(squares / np.float32(max(n_items, 1)))
