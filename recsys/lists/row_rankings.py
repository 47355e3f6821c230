"""Orders of items that all users share: popular now, popular in a category, new in each category.

Shapes: U users, N items, T items in an order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.items import freshness
from recsys.catalogue.labels import CATEGORY, Labels
from recsys.lists.candidates_kernel import Listable
from recsys.lists.context import ROW_RANKINGS, ListContext
from recsys.state.half_lives import NAMED_HALF_LIVES_S

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

LOOKED_AT = 512
"""Items of an order that all users share, of which a user gets those that are new to the user: a page has fewer."""
_LEADERS = 256
"""Best items of a half-life that a large catalogue's popularity remembers."""
_NAMES = [*NAMED_HALF_LIVES_S, "all"]
_HALF_LIVES: I64 = np.array([_NAMES.index(name) for name in ("6h", "4d", "all")])
"""Those whose counts make an item popular now (`Popularity.trending`)."""
_LEADERS_KEY = "rows.leaders"


class Order(NamedTuple):
    """Item numbers and scores, (T,), best first, of which user u sees `starts[u]` to `ends[u]`, (U,)."""

    numbers: I64
    scores: F32
    starts: I64
    ends: I64

    @classmethod
    def shared(cls, numbers: I64, scores: F32, n_users: int) -> Order:
        """Return an order that all users see."""
        return cls(numbers, scores, np.zeros(n_users, np.int64), np.full(n_users, len(numbers), np.int64))

    @classmethod
    def own(cls, numbers: I64, scores: F32) -> Order:
        """Return orders of numbers and scores (U, M), one for each user."""
        n_users, width = numbers.shape
        starts = width * np.arange(n_users, dtype=np.int64)
        return cls(numbers.ravel(), np.ascontiguousarray(scores, np.float32).ravel(), starts, starts + width)

    def written_out(self, n_users: int) -> tuple[I64, F32]:
        """Return the first items of each user's order side by side: numbers and scores (U, M), −1 and −∞ for none."""
        width = min(int((self.ends - self.starts).max(initial=0)), LOOKED_AT)
        at = self.starts[:, None] + np.arange(width)
        held = at < self.ends[:, None]
        at = np.where(held, at, 0)
        if not len(self.numbers):
            return np.full((n_users, 0), -1, np.int64), np.zeros((n_users, 0), np.float32)
        return np.where(held, self.numbers[at], -1), np.where(held, self.scores[at], np.float32(-np.inf))


def prepare(context: ListContext) -> None:
    """Look up the leaders of popularity in a large catalogue, before lists are made in threads."""
    if context.is_large:
        context.once(_LEADERS_KEY, lambda: context.popularity.tops(_LEADERS, _HALF_LIVES))


def may_be_listed(listable: Listable, numbers: I64) -> Bools:
    """Return which of the items `numbers` anybody may see."""
    found: Bools = listable.available[numbers] & (listable.published_s[numbers] <= listable.valid_s)
    return found & (listable.expires_s[numbers] > listable.valid_s)


def popular(context: ListContext, listable: Listable) -> tuple[I64, F32]:
    """Return the items with the highest trending counts above 0: numbers and counts (T,), T at most `LOOKED_AT`."""

    def made() -> tuple[I64, F32]:
        numbers = np.arange(context.n_items)
        if context.is_large:
            numbers = np.unique(context.once(_LEADERS_KEY, lambda: context.popularity.tops(_LEADERS, _HALF_LIVES)))
            numbers = numbers[(numbers >= 0) & (numbers < context.n_items)]
        return _most_popular(context, numbers[may_be_listed(listable, numbers)], least=0.0)

    return _once(context, ("popular",), made)


def _most_popular(context: ListContext, numbers: I64, least: float) -> tuple[I64, F32]:
    """Return the best of `numbers` (n,), ascending, by trending counts above `least`, equal ones by number."""
    counts = context.popularity.trending_of(numbers)
    kept = counts > least
    if np.count_nonzero(kept) > LOOKED_AT:
        kept &= counts >= np.partition(counts, len(counts) - LOOKED_AT)[len(counts) - LOOKED_AT]
    numbers, counts = numbers[kept], counts[kept]
    order = np.lexsort((numbers, -counts))[:LOOKED_AT]
    return numbers[order], counts[order]


def _once(context: ListContext, key: tuple[str, ...], make: Callable[[], tuple[I64, F32]]) -> tuple[I64, F32]:
    kept: dict[tuple[str, ...], tuple[I64, F32]] = context.once(ROW_RANKINGS, dict)
    if key not in kept:
        kept[key] = make()
    return kept[key]


class Categories:
    """Items by category, kept between batches and looked up again when a category or a time of publication changed."""

    def __init__(self) -> None:
        self._members: dict[str, tuple[tuple[int, int], I64]] = {}
        self._new: tuple[tuple[int, int, int], _New] | None = None

    def members(self, context: ListContext, category: str) -> I64:
        """Return the items of a category, ascending, (n,)."""
        labels = context.catalogue.labels[CATEGORY]
        key, held = (labels.changes, context.n_items), self._members.get(category)
        if held is None or held[0] != key:
            number = labels.number_of(category)
            found = np.zeros(0, np.int64) if number < 0 else labels.items_with(number, context.n_items)
            held = self._members[category] = (key, found)
        return held[1]

    def popular(self, context: ListContext, listable: Listable, category: str) -> I64:
        """Return the items of a category that anybody may see, the most popular first, (T,), T at most `LOOKED_AT`."""

        def made() -> tuple[I64, F32]:
            members = self.members(context, category)
            return _most_popular(context, members[may_be_listed(listable, members)], least=-1.0)

        return _once(context, ("category", category), made)[0]

    def newest(self, context: ListContext, of_users: I64) -> Order:
        """Return the new items of the categories `of_users` (U,), by number, −1 for none: newest first, with their freshness."""
        labels, catalogue, new_s = context.catalogue.labels[CATEGORY], context.catalogue, context.options.new_s
        since_s = int(context.now_s - new_s)
        key, held = (labels.changes, catalogue.changes, context.n_items), self._new
        if held is None or held[0] != key or since_s < held[1].since_s:
            held = self._new = key, _New.of(labels, catalogue.published_s[: context.n_items], int(context.now_s - 2 * new_s))
        new = held[1]
        scores = freshness(catalogue.published_s[new.numbers], context.now_s, new_s, context.valid_s)
        of = np.where((of_users >= 0) & (of_users < len(new.starts) - 1), of_users, len(new.starts) - 1)
        starts = np.append(new.starts, new.starts[-1])
        return Order(new.numbers, np.where(scores > 0, scores, np.float32(-np.inf)), starts[of], starts[of + 1])


class _New(NamedTuple):
    """Items published after `since_s` by category, newest first: `numbers` (T,); category c's begin at `starts[c]`."""

    since_s: int
    numbers: I64
    starts: I64

    @classmethod
    def of(cls, labels: Labels, published_s: I64, since_s: int) -> _New:
        new = np.flatnonzero(published_s > since_s)
        categories = labels.at(new)
        rows, columns = np.nonzero(categories >= 0)
        numbers, values = new[rows], categories[rows, columns]
        order = np.lexsort((numbers, -published_s[numbers], values))
        starts = np.searchsorted(values[order], np.arange(labels.bound + 1))
        return cls(since_s, numbers[order], starts.astype(np.int64))
