"""Lists of a small catalogue from every item's score: products of matrices for all users at once, then `list_kernel` user by user.

Shapes: U users, R recent interactions, N items, P places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.lists import exact_kernel
from recsys.lists.ranking import Recent
from recsys.state.neighbours import DenseNeighbours
from recsys.state.user_table import UserTable

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

CONTENT = "content"
_BLOCK_SCORES = 500_000
"""Users are scored in blocks of about this many scores, so that they are not far when they are read again: 2 MB."""


@dataclass(frozen=True, slots=True)
class Product:
    """A source whose scores are inner products of `users` (U, D) and `items` (N, D), at least 0; or with "softmax" their exponentials,
    over the `known` items (N,). A user whose vector is zero has no scores."""

    name: str
    weight: float
    users: F32
    items: F32
    link: Literal["identity", "softmax"] = "identity"
    known: NDArray[np.bool_] | None = None

    def write(self, rows: slice, raw: F32) -> None:
        """The inner products of some users (B,) into `raw` (B, N)."""
        users, items = torch.from_numpy(self.users[rows]), torch.from_numpy(self.items).T
        torch.mm(users, items, out=torch.from_numpy(raw))


@dataclass(frozen=True, slots=True)
class Chosen:
    """The best items of each user: numbers, scores, each source's part of the score, all (U, P), and up to two reasons (U, P, 2)."""

    items: I64
    scores: F32
    parts: dict[str, F32]
    because: I64


@dataclass(frozen=True, slots=True)
class Cooccurrence:
    """Counts by row, the weights of the recent items (U, R), each candidate's factor (N,), and how much all of it counts."""

    neighbours: DenseNeighbours
    reading: F32
    factor: F32
    weight: float


@dataclass(frozen=True, slots=True)
class Likings:
    """Why content counts: the weights of the recent items (U, R), and a table (at least N, F) whose first `n_features` columns count."""

    weights: F32
    features: F32
    n_features: int


def choose(
    table: UserTable,
    slots: I64,
    recent: Recent,
    cooccurrence: Cooccurrence,
    likings: Likings,
    products: Sequence[Product],
    shared: F32,
    size: int,
) -> Chosen:
    """The `size` best items for the users in `slots` (U,), who have not seen them; `shared` (N,) is the part of the score that is
    everybody's, −∞ for what must not be listed."""
    n_users, n_places = len(slots), min(size, len(shared))
    known = np.ones((len(products), len(shared)), np.bool_)
    for product, of_product in zip(products, known, strict=True):
        if product.known is not None:
            of_product[:] = product.known
    older = [table.older[slot] for slot in slots.tolist()]
    items, because = np.empty((n_users, n_places), np.int64), np.empty((n_users, n_places, 2), np.int64)
    best, parts = np.empty((n_users, n_places), np.float32), np.empty((1 + len(products), n_users, n_places), np.float32)
    names = [product.name for product in products]
    softened = np.array([product.link == "softmax" for product in products], np.bool_)
    weights = np.array([product.weight for product in products], np.float32)
    seen, seen_ends = np.concatenate(older), np.cumsum([len(some) for some in older], dtype=np.int64)
    content = names.index(CONTENT) if CONTENT in names else -1
    n_blocks = max(1, -(-n_users * len(products) * len(shared) // _BLOCK_SCORES))
    most = max(1, -(-n_users // n_blocks))
    for start in range(0, n_users, most):
        rows = slice(start, min(start + most, n_users))
        raw = np.empty((len(products), rows.stop - start, len(shared)), np.float32)
        for product, scores in zip(products, raw, strict=True):
            product.write(rows, scores)
        exact_kernel.choose(
            cooccurrence.neighbours.matrix,
            cooccurrence.factor,
            recent.items,
            cooccurrence.reading,
            np.float32(cooccurrence.weight),
            likings.weights,
            likings.features,
            likings.n_features,
            content,
            raw,
            start,
            known,
            softened,
            weights,
            shared,
            table.items,
            slots,
            table.lengths,
            seen,
            seen_ends,
            items,
            best,
            parts,
            because,
        )
    found = dict(zip(names, parts[1:], strict=True))
    return Chosen(items, best, {"cooccurrence": parts[0], **found} if cooccurrence.weight else found, because)
