"""Items that must not be listed.

Shapes: U users, N items, C candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.lists.context import ListContext, Users

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Filter:
    """Leaves items out of lists: for all users, or for some of them. A subclass overrides one method or both."""

    def shared(self, context: ListContext) -> Bools | None:
        """Return which items may be listed for anybody, (N,); None for all. Called once for each context."""
        return None

    def personal(self, numbers: I64, users: Users, context: ListContext) -> Bools | None:
        """Return which of the candidates `numbers` (U, C), −1 for none, may be listed for their user, (U, C); None for all."""
        return None


class Available(Filter):
    """Leaves out items that are not available."""

    def shared(self, context: ListContext) -> Bools:
        return context.catalogue.available[: context.n_items]


class Published(Filter):
    """Leaves out items that are not published yet."""

    def shared(self, context: ListContext) -> Bools:
        published: Bools = context.catalogue.published_s[: context.n_items] <= context.valid_s
        return published


class Expired(Filter):
    """Leaves out items that have expired."""

    def shared(self, context: ListContext) -> Bools:
        current: Bools = context.catalogue.expires_s[: context.n_items] > context.valid_s
        return current


class Seen(Filter):
    """Leaves out items that the user's touches keep off lists, by the touch policy."""

    def personal(self, numbers: I64, users: Users, context: ListContext) -> Bools:
        seen, unseen = users.seen(context), np.ones(numbers.shape, np.bool_)
        starts = np.concatenate(([0], seen.older_ends[:-1]))
        for user, (start, end) in enumerate(zip(starts.tolist(), seen.older_ends.tolist(), strict=True)):
            unseen[user] = ~np.isin(numbers[user], seen.older[start:end])
        return unseen


COMPILED = (Available, Published, Expired, Seen)
"""Filters that the compiled loops apply while they look for candidates."""


def allowed_by(filters: Sequence[Filter], context: ListContext) -> Bools:
    """Return which items all filters let anybody see, (N,)."""
    allowed = np.ones(context.n_items, np.bool_)
    for one in filters:
        shared = one.shared(context)
        if shared is not None:
            allowed &= shared
    return allowed


def is_personal(one: Filter) -> bool:
    """Return True if a filter must look at each user's candidates, because no compiled loop has applied it."""
    return not isinstance(one, COMPILED) and type(one).personal is not Filter.personal
