"""Items that rise: whose share of all events is larger now than it was before.

Shapes: N items, C groups of items, K places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.labels import Labels
from recsys.state.half_lives import NAMED_HALF_LIVES_S
from recsys.state.popularity import Popularity

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

PLACES = {name: place for place, name in enumerate(NAMED_HALF_LIVES_S)}
"""Where each half-life is in the bank."""


@dataclass(frozen=True, slots=True)
class Rising:
    """Items (K,), first what rises most surely: `count` is how often each was chosen, halved at the short half-life, `rise` how many
    times as often as its share before would have it, and `score` the log-likelihood ratio of the two, which orders."""

    numbers: I64
    score: F64
    count: F64
    rise: F64

    def of(self, chosen: I64) -> Rising:
        """Return some of the items, by place."""
        return Rising(self.numbers[chosen], self.score[chosen], self.count[chosen], self.rise[chosen])


def rising(popularity: Popularity, listable: Bools, *, now: str, before: str, least: float) -> Rising:
    """Return all items that rise, of those `listable` (N,), best first; equal scores by number.

    An item with s of S events at the half-life `now`, and b of B at the longer one `before`, is expected to have e = (b + 1) · S / (B + 1)
    of them now. It rises if s > e and s ≥ `least`. Its score is that of a Poisson variable with mean e: 2 (s ln(s / e) − (s − e)). Shares
    are compared, not rates, so neither the hour of the day nor a young log makes everything rise.
    Source: Kleinberg 2002, "Bursty and Hierarchical Structure in Streams", has the Poisson model; the ratio is Wilks'.
    """
    n_items = len(listable)
    bank = popularity.bank_of(np.arange(n_items))[:, [PLACES[now], PLACES[before]]].astype(np.float64)
    short, long = bank[:, 0], bank[:, 1]
    expected = (long + 1) * (float(short.sum()) / (float(long.sum()) + 1))
    chosen = np.flatnonzero(listable & (short >= least) & (short > expected) & (expected > 0))
    count, mean = short[chosen], expected[chosen]
    score = 2 * (count * np.log(count / mean) - (count - mean))
    order = np.lexsort((chosen, -score))
    return Rising(chosen[order], score[order], count[order], count[order] / mean[order])


def by_value(found: Rising, labels: Labels, size: int) -> Iterator[tuple[str, Rising]]:
    """Yield each value that some of the items have, with its best `size` items: categories, or the values of another field."""
    places: dict[str, list[int]] = {}
    for place, number in enumerate(found.numbers.tolist()):
        for value in labels.values(number):
            held = places.setdefault(value, [])
            if len(held) < size:
                held.append(place)
    for value, chosen in places.items():
        yield value, found.of(np.array(chosen, np.int64))
