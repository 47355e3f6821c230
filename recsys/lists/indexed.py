"""Candidates of a large catalogue: each source nominates its best items, and all sources score the union exactly, on the scale they have
over all items.

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
from recsys.lists.sources.base import Source

I64 = NDArray[np.int64]

_marked = Scratch(np.bool_)


def prepare(filters: Sequence[Filter], context: ListContext) -> None:
    """Compute what all users share, before lists are made in threads."""
    _listable(filters, context)


def candidates(sources: Sequence[Source], filters: Sequence[Filter], users: Users, context: ListContext) -> Candidates:
    """Return all items that a source nominates and that may be listed."""
    numbers = _distinct([source.nominate(users, context, source.size) for source in sources], filters, users, context)
    weights = context.options.weights
    raw = {source.name: source.score(users, numbers, context) for source in sources}
    scales = {source.name: source.scale(users, context) * np.float32(weights[source.name]) for source in sources}
    return Candidates.unranked(numbers, raw, scales)


def _distinct(nominated: Sequence[I64], filters: Sequence[Filter], users: Users, context: ListContext) -> I64:
    """Return the distinct items among those nominated (U, …) that may be listed, (U, C)."""
    joined = np.ascontiguousarray(np.concatenate(nominated, axis=1)) if nominated else np.zeros((len(users), 0), np.int64)
    numbers, counts = np.full(joined.shape, -1, np.int64), np.empty(len(users), np.int64)
    with _marked.borrowed(context.n_items) as marked:
        candidates_kernel.distinct(joined, users.seen(context.table), _listable(filters, context), marked, numbers, counts)
    return np.ascontiguousarray(numbers[:, : max(int(counts.max(initial=0)), 1)])


def _listable(filters: Sequence[Filter], context: ListContext) -> Listable:
    """Return what the compiled loop needs to apply the built-in filters, and in `available` what all others allow."""

    def made() -> Listable:
        catalogue = context.catalogue
        others = [one for one in filters if not isinstance(one, COMPILED)]
        available = catalogue.available
        if others:
            available = available[: context.n_items] & allowed_by(others, context)
        return Listable(available, catalogue.published_s, catalogue.expires_s, context.valid_s)

    return context.once("listable", made)
