"""Candidates of a small catalogue: every item is scored by every source for every user, by products of matrices for all users at once, then
user by user, and each source's best are candidates.

Shapes: U users, N items, P places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.lists import exact_kernel
from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, Users
from recsys.lists.exact_kernel import CLAMPED, PLAIN, SOFTENED, Found, RawScores, Shared
from recsys.lists.filters import Filter, allowed_by
from recsys.lists.sources.base import CountRows, Product, Source, fades_of, rankings

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

_BLOCK_SCORES = 2_000_000
"""Users are scored in blocks of about this many scores, 8 MB: smaller blocks gain nothing."""


def prepare(sources: Sequence[Source], filters: Sequence[Filter], context: ListContext) -> None:
    """Compute what all users share, before lists are made in threads."""
    _shared(sources, filters, context)


def _shared(sources: Sequence[Source], filters: Sequence[Filter], context: ListContext) -> Shared:
    def made() -> Shared:
        common = rankings(sources, context)
        return Shared(allowed_by(filters, context), common.tops, common.quotas)

    return context.once("shared", made)


def candidates(sources: Sequence[Source], filters: Sequence[Filter], users: Users, context: ListContext, wanted: int) -> Candidates:
    """Return the best items of each source, and others until there are `wanted`, with the raw scores of all sources."""
    shared = _shared(sources, filters, context)
    common = [source for source in sources if source.tops(context) is not None]
    rows_source, rows = _rows([source for source in sources if source not in common], users, context)
    sparse = [source for source in sources if source.is_sparse]
    own = [source for source in sources if source is not rows_source and source not in common and source not in sparse]
    quotas = np.array([rows_source.size if rows_source is not None else 0, *(source.size for source in own)], np.int64)
    n_named = int(quotas.sum() + shared.quotas.sum()) + sum(source.size for source in sparse)
    n_users, n_places = len(users), min(max(n_named, wanted), context.n_items)
    shape = (n_users, n_places)
    found = Found(np.empty(shape, np.int64), np.empty((1 + len(own), *shape), np.float32), np.zeros(shape, np.float32))
    none = np.zeros((n_users, 0), np.int64)
    nominated = np.concatenate([none, *(source.nominate(users, context, source.size) for source in sparse)], axis=1)
    _scan(rows, own, quotas, nominated, shared, wanted, users, context, found)
    numbers = np.ascontiguousarray(found.numbers[:, : max(int((found.numbers >= 0).sum(axis=1).max(initial=0)), 1)])
    raw: dict[str, F32] = {}
    for source in sources:
        if source in common or source in sparse:
            raw[source.name] = source.score(users, numbers, context)
        else:
            place = 0 if source is rows_source else 1 + own.index(source)
            raw[source.name] = np.ascontiguousarray(found.raw[place, :, : numbers.shape[1]])
    has_wide = rows.wide.shape[1] > 0 and len(rows.matrix) > 0
    wide = np.ascontiguousarray(found.wide[:, : numbers.shape[1]]) if has_wide else None
    return Candidates.unranked(numbers, raw, context.options.weights, wide, fades_of(sources))


def _rows(sources: Sequence[Source], users: Users, context: ListContext) -> tuple[Source | None, CountRows]:
    """Return the first source that sums rows of neighbours, and the rows."""
    for source in sources:
        rows = source.rows(users, context)
        if rows is not None:
            return source, rows
    return None, CountRows.none(len(users))


def _scan(
    rows: CountRows,
    own: Sequence[Source],
    quotas: I64,
    nominated: I64,
    shared: Shared,
    wanted: int,
    users: Users,
    context: ListContext,
    found: Found,
) -> None:
    """Fill `found`, block after block of users."""
    n_users, n_items = len(users), context.n_items
    products: list[Product | None] = [source.product(users, context) for source in own]
    known = np.ones((len(own), n_items), np.bool_)
    links = np.full(len(own), PLAIN, np.int8)
    for at, product in enumerate(products):
        if product is not None:
            links[at] = SOFTENED if product.link == "softmax" else CLAMPED
            if product.known is not None:
                known[at] = product.known
    seen, numbers = users.off_lists(context), np.arange(n_items)
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
        exact_kernel.choose(rows, RawScores(raw, start, known, links), quotas, nominated, shared, wanted, seen, found)
