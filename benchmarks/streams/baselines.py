"""Baselines of `benchmarks.streams`. Each has its constants chosen on the oldest 40 % of a protocol's targets, by recall at 10."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.streams import kernels
from benchmarks.streams.protocol import PROTOCOLS, Stream, recall

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

HALF_LIVES = tuple(round(10 * 2 ** (step / 2)) for step in range(28))
"""Half-lives to choose from, in touches: 10 to 115,852."""
HALF_LIVES_H = tuple(round(0.25 * 2 ** (step / 2), 3) for step in range(28))
"""Half-lives to choose from, in hours: 15 minutes to four months."""
NEIGHBOURHOODS = (20, 80, 320)
"""Most similar users of user-kNN to choose from."""
DENSE_ITEMS = 8_192
"""Up to this many items, shared users are counted in a matrix: 268 MB. Above it they are counted for each target."""


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """Ranks of a protocol's targets (T,), oldest first, and the constants that were chosen, in words."""

    ranks: F64
    chosen: str


def baselines(stream: Stream) -> dict[str, dict[str, Baseline]]:
    """Return all baselines by protocol and name. A protocol without targets has empty ranks."""
    if not len(stream.events):
        return {protocol: {} for protocol in PROTOCOLS}
    together, users, transitions, own = _cooccurrence(stream), _users(stream), _transitions(stream), _own(stream)
    last_item = np.concatenate((together[:, 4:], transitions), axis=1)
    found = {}
    for protocol in PROTOCOLS:
        repeats = protocol == "again"  # an item of the user's own may be a target
        found[protocol] = {
            "popularity": _popularity(stream, protocol),
            "recent_popularity": _recent_popularity(stream, protocol),
            "item_knn": _best(stream, protocol, together[:, : 4 if repeats else 2], _with_self(_HISTORIES, "an item is similar to itself")),
            "user_knn": _best(stream, protocol, users[:, : 6 if repeats else 3], _with_self(_NEIGHBOURHOODS, "the user among them")),
            "last_item": _best(stream, protocol, last_item, _LAST_ITEM),
        }
        if repeats:
            for column, name in enumerate(("own_most_frequent", "own_most_recent")):
                found[protocol][name] = Baseline(own[stream.targets(protocol), column], "")
    return found


_HISTORIES = ["whole history", f"newest {kernels.NEWEST} items"]
_NEIGHBOURHOODS = [f"{size} users" for size in NEIGHBOURHOODS]
_LAST_ITEM = ["shared users", "cosine", "next touch", f"next {kernels.WINDOW} touches", f"{kernels.WINDOW} touches around"]


def _with_self(names: list[str], added: str) -> list[str]:
    return names + [f"{name}, {added}" for name in names]


def _best(stream: Stream, protocol: str, ranks: F64, names: list[str]) -> Baseline:
    """Return the variant, a column of `ranks` (n, V), with the highest recall at 10 on the oldest targets; of equal ones the first."""
    choosing = ranks[stream.choosing(protocol)]
    column = int(np.argmax([recall(choosing[:, variant], 10) for variant in range(ranks.shape[1])]))
    return Baseline(ranks[stream.targets(protocol), column], names[column])


def _popularity(stream: Stream, protocol: str) -> Baseline:
    return _best_decay(stream, protocol, [("events", np.inf)])


def _recent_popularity(stream: Stream, protocol: str) -> Baseline:
    decays = [("events", float(half_life)) for half_life in HALF_LIVES] + [("hours", half_life) for half_life in HALF_LIVES_H]
    return _best_decay(stream, protocol, decays)


def _best_decay(stream: Stream, protocol: str, decays: list[tuple[str, float]]) -> Baseline:
    """Return the best decay of popularity. Where repeats are targets it may count them, too."""
    choosing, targets = stream.choosing(protocol), stream.targets(protocol)
    if not len(targets):
        return Baseline(np.zeros(0), "")
    variants = [(*decay, counts_repeats) for counts_repeats in ((False, True) if protocol == "again" else (False,)) for decay in decays]
    scores = [-1.0] * len(variants)
    if len(choosing) and len(variants) > 1:
        n_events = int(choosing[-1]) + 1
        scores = [recall(_decayed(stream, *variant, n_events)[choosing], 10) for variant in variants]
    unit, half_life, counts_repeats = variants[int(np.argmax(scores))]
    parts = [] if np.isinf(half_life) else [f"half-life {half_life:,g} {unit}"]
    if protocol == "again":
        parts.append("all touches" if counts_repeats else "first touches")
    return Baseline(_decayed(stream, unit, half_life, counts_repeats, len(stream.events))[targets], ", ".join(parts))


def _decayed(stream: Stream, unit: str, half_life: float, counts_repeats: bool, n_events: int) -> F64:
    clock = np.arange(len(stream.events), dtype=np.float64) if unit == "events" else stream.log.times_s[stream.events] / 3_600.0
    ranks = np.full(len(stream.events), np.inf)
    kernels.popularity_ranks(stream.touches, clock, half_life, counts_repeats, n_events, ranks)
    return ranks


def _index(stream: Stream) -> tuple[I64, I64]:
    """Return room for the users of every item, and where each item's begin and end, (N, 2)."""
    firsts = np.bincount(stream.touches.items[stream.touches.is_first], minlength=stream.touches.n_items)
    starts = (np.cumsum(firsts) - firsts).astype(np.int64)
    return np.empty(int(firsts.sum()), np.int64), np.ascontiguousarray(np.stack((starts, starts), axis=1))


def _cooccurrence(stream: Stream) -> F64:
    n_items = stream.touches.n_items
    side = n_items if n_items <= DENSE_ITEMS else 0
    ranks = np.full((len(stream.events), 6), np.inf)
    kernels.cooccurrence_ranks(stream.touches, np.zeros((side, side), np.float32), *_index(stream), ranks)
    return ranks


def _users(stream: Stream) -> F64:
    ranks = np.full((len(stream.events), 2 * len(NEIGHBOURHOODS)), np.inf)
    kernels.user_ranks(stream.touches, np.array(NEIGHBOURHOODS, np.int64), *_index(stream), ranks)
    return ranks


def _transitions(stream: Stream) -> F64:
    per_user = np.bincount(stream.touches.users, minlength=stream.log.n_users)
    ranks = np.full((len(stream.events), 3), np.inf)
    kernels.transition_ranks(stream.touches, np.concatenate(([0], np.cumsum(per_user))).astype(np.int64), ranks)
    return ranks


def _own(stream: Stream) -> F64:
    touches = stream.touches
    _, pairs = np.unique(touches.users * max(touches.n_items, 1) + touches.items, return_inverse=True)
    ranks = np.full((len(stream.events), 2), np.inf)
    kernels.own_ranks(touches, pairs.astype(np.int64), ranks)
    return ranks
