"""Candidates of a small catalogue: every item is scored for every user, by products of matrices for all users at once, then user by user.

Shapes: U users, N items, P places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.lists import exact_kernel
from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, Users
from recsys.lists.exact_kernel import CLAMPED, PLAIN, SOFTENED, Best, RawScores
from recsys.lists.filters import Filter, allowed_by
from recsys.lists.sources.base import CountRows, Product, Source

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

_BLOCK_SCORES = 500_000
"""Users are scored in blocks of about this many scores, so that they are not far when they are read again: 2 MB."""


@dataclass(frozen=True, slots=True)
class Everybody:
    """Scores of N items that are the same for all users: `rows` by source name, their `scales`, and their sum `total` (N,), −∞ where an
    item must not be listed."""

    rows: Mapping[str, F32]
    scales: Mapping[str, np.float32]
    total: F32

    @classmethod
    def of(cls, sources: Sequence[Source], filters: Sequence[Filter], context: ListContext) -> Everybody:
        """Add up what sources say of all users alike."""
        rows = {source.name: row for source in sources if (row := source.everybody(context)) is not None}
        table = np.empty((len(rows), context.n_items), np.float32)
        for held, row in zip(table, rows.values(), strict=True):
            held[:] = row
        scales = np.array([context.options.weights[name] for name in rows], np.float32)
        total = np.empty(context.n_items, np.float32)
        exact_kernel.shared_by_all(table, allowed_by(filters, context), scales, total)
        return cls(rows, dict(zip(rows, scales, strict=True)), total)


def prepare(sources: Sequence[Source], filters: Sequence[Filter], context: ListContext) -> None:
    """Compute what all users share, before lists are made in threads."""
    _everybody(sources, filters, context)


def _everybody(sources: Sequence[Source], filters: Sequence[Filter], context: ListContext) -> Everybody:
    return context.once("everybody", lambda: Everybody.of(sources, filters, context))


def candidates(sources: Sequence[Source], filters: Sequence[Filter], users: Users, context: ListContext, size: int) -> Candidates:
    """Return each user's `size` best items by the weighted sum of the sources' scores."""
    everybody = _everybody(sources, filters, context)
    rows_source, rows = _rows(sources, users, context)
    own = [source for source in sources if source is not rows_source and source.name not in everybody.rows]
    products = [source.product(users, context) for source in own]
    n_users, n_places = len(users), min(size, context.n_items)
    best = Best(
        np.empty((n_users, n_places), np.int64),
        np.empty((n_users, n_places), np.float32),
        np.empty((1 + len(own), n_users, n_places), np.float32),
        np.empty((1 + len(own), n_users), np.float32),
    )
    _scan(rows, rows_source, own, products, everybody, users, context, best)
    best.items[~np.isfinite(best.scores)] = -1
    raw, scales = dict.fromkeys(source.name for source in sources), dict[str, F32]()
    found = [rows_source, *own]
    for source, of_source, scale in zip(found, best.raw, best.scales, strict=True):
        if source is not None:
            raw[source.name], scales[source.name] = of_source, scale
    for name, row in everybody.rows.items():
        raw[name], scales[name] = row[best.items], np.full(n_users, everybody.scales[name], np.float32)
    return Candidates.unranked(best.items, {name: held for name, held in raw.items() if held is not None}, scales)


def _rows(sources: Sequence[Source], users: Users, context: ListContext) -> tuple[Source | None, CountRows]:
    """Return the first source that sums rows of neighbours, and the rows."""
    for source in sources:
        rows = source.rows(users, context)
        if rows is not None:
            return source, rows
    return None, CountRows.none(len(users))


def _scan(
    rows: CountRows,
    rows_source: Source | None,
    own: Sequence[Source],
    products: Sequence[Product | None],
    everybody: Everybody,
    users: Users,
    context: ListContext,
    best: Best,
) -> None:
    """Fill `best`, block after block of users."""
    weights, n_users, n_items = context.options.weights, len(users), context.n_items
    known = np.ones((len(own), n_items), np.bool_)
    links = np.full(len(own), PLAIN, np.int8)
    for at, product in enumerate(products):
        if product is not None:
            links[at] = SOFTENED if product.link == "softmax" else CLAMPED
            if product.known is not None:
                known[at] = product.known
    of_rows = np.float32(weights[rows_source.name] if rows_source is not None else 0)
    of_own = np.array([weights[source.name] for source in own], np.float32)
    seen, numbers = users.seen(context.table), np.arange(n_items)
    n_blocks = max(1, -(-n_users * len(own) * n_items // _BLOCK_SCORES))
    most = max(1, -(-n_users // n_blocks))
    for start in range(0, n_users, most):
        block = slice(start, min(start + most, n_users))
        raw = np.empty((len(own), block.stop - start, n_items), np.float32)
        for source, made_of, scores in zip(own, products, raw, strict=True):
            if made_of is not None:
                made_of.write(block, scores)
            else:
                scores[:] = source.score(users.part(block), np.broadcast_to(numbers, scores.shape), context)
        exact_kernel.choose(rows, of_rows, RawScores(raw, start, known, links, of_own), everybody.total, seen, best)
