"""Rows of a page as plain Python says: one user, one row, one item after the other, over all items.

The engine's rows are held equal to these by `tests/unit/recsys/lists/test_rows.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.engine import Engine, Lists
from recsys.lists.reading import Recent
from tests.specification.lists import again_scores, cooccurrence_scores, listable_items

Bools = NDArray[np.bool_]
LAST_LIKED = 5


@dataclass
class PlainRow:
    """Items of a row, and what it is about."""

    items: list[int]
    about: int = -1
    category: str | None = None


def page(
    engine: Engine,
    slot: int,
    lists: Lists,
    user: int,
    ranked: Sequence[int],
    now_s: int,
    *,
    allowed: Bools | None = None,
    preferred: Sequence[str] = (),
) -> list[PlainRow]:
    """Return the rows of one page, an empty one where a row is left out. `ranked` are the user's candidates, best first."""
    listable = listable_items(engine, slot, now_s, now_s)
    listable &= True if allowed is None else allowed
    shown, found = set[int](), list[PlainRow]()
    used: list[int] = []
    for spec in engine.config.rows:
        row, order = PlainRow([]), list[int]()
        if spec.kind in ("new_in", "category"):
            row.category = spec.category if spec.category is not None else favourite(engine, slot, preferred)
        if spec.kind == "for_you":
            order = [item for item in lists.items[user].tolist() if item >= 0]
        elif spec.kind == "popular_now":
            order = by(engine.popularity.trending()[: engine.n_items], least=0.0)
        elif spec.kind == "again":
            order = by(again_scores(engine, slot, now_s), least=0.0)
        elif spec.kind == "because":
            row.about, order = followers(engine, slot, listable, used, spec.least)
            used.append(row.about)
        elif spec.kind == "new_in":
            order = newest(engine, row.category, now_s)
        else:
            trending = engine.popularity.trending()[: engine.n_items]
            order = [*ranked, *by(trending, least=-1.0)]
            order = [item for item in order if row.category in categories(engine, item)]
        row.items = [item for item in dict.fromkeys(order) if listable[item] and item not in shown][: spec.size]
        if len(row.items) < spec.least:
            row.items = []
        shown |= set(row.items)
        found.append(row)
    return found


def categories(engine: Engine, item: int) -> tuple[str, ...]:
    return engine.catalogue.labels["category"].values(item)


def by(scores: NDArray[np.floating], least: float) -> list[int]:
    """Return items by score, the best first, equal ones by number."""
    return [item for item in np.lexsort((np.arange(len(scores)), -scores)).tolist() if scores[item] > least]


def favourite(engine: Engine, slot: int, preferred: Sequence[str]) -> str | None:
    """Return the category that the liked entries of the history name most, by weight; without any the first preferred one."""
    users, sums = engine.users, dict[str, float]()
    first = users.history_length - int(users.lengths[slot])
    for column in range(first, users.history_length):
        own = categories(engine, int(users.items[slot, column]))
        for name in own:
            if users.weights[slot, column] > 0:
                sums[name] = sums.get(name, 0.0) + float(users.weights[slot, column]) / len(own)
    best: str | None = None
    for column in range(users.history_length - 1, first - 1, -1):
        for name in categories(engine, int(users.items[slot, column])):
            if name in sums and (best is None or sums[name] > sums[best]):
                best = name
    if best is not None:
        return best
    known = {name for item in range(engine.n_items) for name in categories(engine, item)}
    return next((name for name in preferred if name in known), None)


def newest(engine: Engine, category: str | None, now_s: int) -> list[int]:
    """Return a category's items that were published lately, the newest first, equal ones by number."""
    fresh = engine.catalogue.freshness(now_s, engine.config.new_s, now_s)
    inside = [item for item in range(engine.n_items) if fresh[item] > 0 and category in categories(engine, item)]
    return sorted(inside, key=lambda item: (-int(engine.catalogue.published_s[item]), item))


def followers(engine: Engine, slot: int, listable: Bools, used: Sequence[int], least: int) -> tuple[int, list[int]]:
    """Return the strongest of the last liked items that enough items follow from, and these, the best first."""
    config, n_items = engine.config, engine.n_items
    popularity = engine.popularity.all_time[:n_items]
    recent = Recent.of(*engine.users.newest(np.array([slot]), config.recent_items), engine.users.lengths[[slot]])
    strengths = recent.strengths[0].tolist()
    liked = [r for r in range(len(strengths) - 1, -1, -1) if strengths[r] > 0][:LAST_LIKED]
    for r in sorted(liked, key=lambda r: -strengths[r]):
        item = int(recent.items[0, r])
        if item in used:
            continue
        columns = (recent.items, recent.ages_s, recent.strengths, recent.places)
        alone = Recent(*(np.where(np.arange(len(strengths)) == r, column, 0).astype(column.dtype) for column in columns))
        scores, _ = cooccurrence_scores(alone, engine.neighbours, popularity, config.reading)
        order = [other for other in by(scores[0], least=0.0) if listable[other] and other != item]
        if len(order) >= least:
            return item, order
    return -1, []

