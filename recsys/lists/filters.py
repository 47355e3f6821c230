"""Items that must not be listed.

Shapes: U users, N items, C candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.lists.context import ListContext, Users

I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
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
        seen = users.seen(context)
        return _are_not_among(numbers, seen.older, seen.older_ends)


class Resting(Filter):
    """Leaves out items that were shown to the user too often without a choice, for as long as the frequency cap says."""

    def personal(self, numbers: I64, users: Users, context: ListContext) -> Bools | None:
        return None if context.options.frequency_cap is None else _are_not_among(numbers, *users.resting(context))


class ByRules(Filter):
    """Leaves out items that rules deny, or do not allow."""

    def shared(self, context: ListContext) -> Bools | None:
        return None if context.effects is None else context.effects.allowed


COMPILED = (Available, Published, Expired, Seen, Resting)
"""Filters that the compiled loops apply while they look for candidates."""


def _are_not_among(numbers: I64, items: U32, ends: I64) -> Bools:
    """Return which candidates (U, C) are none of their user's `items`, of which user u's end at `ends[u]`."""
    absent, starts = np.ones(numbers.shape, np.bool_), np.concatenate(([0], ends[:-1]))
    for user, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        absent[user] = ~np.isin(numbers[user], items[start:end])
    return absent


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
