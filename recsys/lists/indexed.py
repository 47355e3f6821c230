"""Candidates of a large catalogue: each source nominates its best items, and all sources score the union exactly.

Shapes: U users, C candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.lists import candidates_kernel
from recsys.lists.candidates import Candidates
from recsys.lists.candidates_kernel import Listable
from recsys.lists.context import ListContext, Users
from recsys.lists.filters import COMPILED, Filter, allowed_by
from recsys.lists.scratch import Scratch
from recsys.lists.sources.base import Source, fades_of, rankings

I64 = NDArray[np.int64]

_marks = Scratch(np.int8)


def prepare(sources: Sequence[Source], filters: Sequence[Filter], context: ListContext) -> None:
    """Compute what all users share, before lists are made in threads."""
    listable(filters, context)
    rankings(sources, context)


def candidates(sources: Sequence[Source], filters: Sequence[Filter], users: Users, context: ListContext, wanted: int) -> Candidates:
    """Return all items that a source nominates and that may be listed, and others until there are `wanted`."""
    numbers = _distinct(sources, filters, users, context, wanted)
    raw = {source.name: source.score(users, numbers, context) for source in sources}
    return Candidates.unranked(numbers, raw, context.options.weights, fades=fades_of(sources))


def _distinct(sources: Sequence[Source], filters: Sequence[Filter], users: Users, context: ListContext, wanted: int) -> I64:
    """Return the distinct items among those nominated that may be listed, and others until there are `wanted`: (U, C)."""
    shared = rankings(sources, context)
    own = [source.nominate(users, context, source.size) for source in sources if source.tops(context) is None]
    joined = np.ascontiguousarray(np.concatenate(own, axis=1)) if own else np.zeros((len(users), 0), np.int64)
    shape = (len(users), max(joined.shape[1] + int(shared.quotas.sum()), wanted))
    numbers, counts = np.full(shape, -1, np.int64), np.empty(len(users), np.int64)
    with _marks.borrowed(context.n_items) as marks:
        seen, may_be = users.off_lists(context), listable(filters, context)
        candidates_kernel.distinct(joined, shared.tops, shared.quotas, wanted, seen, may_be, marks, numbers, counts)
    return np.ascontiguousarray(numbers[:, : max(int(counts.max(initial=0)), 1)])


def listable(filters: Sequence[Filter], context: ListContext) -> Listable:
    """Return what the compiled loop needs to apply the built-in filters, and in `available` what all others allow."""

    def made() -> Listable:
        catalogue = context.catalogue
        others = [one for one in filters if not isinstance(one, COMPILED)]
        available = catalogue.available
        if others:
            available = available[: context.n_items] & allowed_by(others, context)
        return Listable(available, catalogue.published_s, catalogue.expires_s, context.valid_s, context.n_items)

    return context.once("listable", made)
