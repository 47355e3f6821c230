"""Compiled test-then-learn loops of the baselines: each writes the rank of every target, then learns the event.

Shapes: n touches, N items, U users, V variants. Ranks are infinite where an event is no target.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.streams.protocol import Touches
from recsys.arithmetic_kernel import add
from recsys.jit import compiled

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

NEWEST = 20
"""The short variant of item-kNN reads this many of the user's newest items."""
WINDOW = 5
"""Transitions reach this many touches forward and back."""
MOST_USERS = 2_000
"""Of an item with more users, the newest count as neighbours, and the newest of its touches as transitions."""
_LARGEST_EXPONENT = 200.0


@compiled
def _mean_rank(scores: NDArray[np.floating], n_ranked: int, target: int, left_out: I64) -> float:
    """Return the mean rank of `target` among the first `n_ranked` items without those `left_out`, of which it is none."""
    mine = scores[target]
    above, same = 0, -1
    for item in range(n_ranked):
        above += scores[item] > mine
        same += scores[item] == mine
    for item in left_out:
        above -= scores[item] > mine
        same -= scores[item] == mine
    return 1.0 + above + same / 2.0


@compiled
def _touch(own: I64, n_own: I64, start: int, user: int, item: int, is_first: bool) -> None:
    """Put `item` at the newest place of the user's distinct items."""
    if is_first:
        own[start + n_own[user]] = item
        n_own[user] += 1
        return
    place = start + n_own[user] - 1
    moved = own[place]
    while moved != item:
        place -= 1
        own[place], moved = moved, own[place]
    own[start + n_own[user] - 1] = item


@compiled
def popularity_ranks(touches: Touches, clock: F64, half_life: float, counts_repeats: bool, n_events: int, ranks: F64) -> None:
    """Rank by the number of touches, of which each is worth half after every `half_life` of the `clock` (n,), for ever if that is infinite.

    Only the first `n_events` touches are read. `counts_repeats`: repeated touches count, too.
    """
    own, n_own = np.empty(touches.own_starts[-1], np.int64), np.zeros(len(touches.own_starts) - 1, np.int64)
    scores = np.zeros(touches.items.max() + 1, np.float64)
    n_seen, base = 0, clock[0]
    for event in range(n_events):
        user, item, kind = touches.users[event], touches.items[event], touches.kinds[event]
        start = touches.own_starts[user]
        if kind:
            ranks[event] = _mean_rank(scores, n_seen, item, own[start : start + n_own[user] * (kind == 1)])
        if touches.is_first[event]:
            _touch(own, n_own, start, user, item, True)
            n_seen = max(n_seen, item + 1)
        if touches.is_first[event] or counts_repeats:
            exponent = (clock[event] - base) / half_life
            if exponent > _LARGEST_EXPONENT:
                scores *= 0.5**exponent
                base, exponent = clock[event], 0.0
            scores[item] += 2.0**exponent


@compiled
def _add_neighbours(
    scores: F32,
    weight: np.float32,
    item: int,
    together: F32,
    n_seen: int,
    own: I64,
    n_own: I64,
    touches: Touches,
    index: I64,
    index_ends: I64,
) -> None:
    """Add `weight` times the number of users that each item shares with `item`, from the matrix `together` or, if it is empty, from the
    users of the item."""
    if len(together):
        add(scores[:n_seen], together[item, :n_seen], weight)
        return
    first = max(index_ends[item, 0], index_ends[item, 1] - MOST_USERS)
    for place in range(first, index_ends[item, 1]):
        start = touches.own_starts[index[place]]
        for other in own[start : start + n_own[index[place]]]:
            if other != item:
                scores[other] += weight


@compiled
def cooccurrence_ranks(touches: Touches, together: F32, index: I64, index_ends: I64, ranks: F64) -> None:
    """Rank by the items that users share with the user's own: ranks (n, 6).

    Item-kNN by cosine over the whole history, and over the `NEWEST` newest items; both once more with the similarity of 1 of an item to
    itself, which only matters for repeats; then the newest item alone, by the number of shared users and by cosine.
    `together` (N, N) is zero, or empty where it would be too large. `index` has room for each item's users from `index_ends[item, 0]`
    (N, 2) on; the second column is where they end.
    """
    own, n_own = np.empty(touches.own_starts[-1], np.int64), np.zeros(len(touches.own_starts) - 1, np.int64)
    n_items = len(index_ends)
    recent, whole, scores = np.zeros(n_items, np.float32), np.zeros(n_items, np.float32), np.zeros(n_items, np.float32)
    inverse, n_seen = np.zeros(n_items, np.float32), 0
    for event in range(len(touches.users)):
        user, item, kind = touches.users[event], touches.items[event], touches.kinds[event]
        start = touches.own_starts[user]
        if kind:
            mine = own[start : start + n_own[user]]
            left_out = mine[: len(mine) * (kind == 1)]
            recent[:n_seen] = 0
            for place in range(len(mine) - 1, -1, -1):
                if place == len(mine) - 1 - NEWEST:
                    whole[:n_seen] = recent[:n_seen]
                of, to = mine[place], whole if place < len(mine) - NEWEST else recent
                _add_neighbours(to, inverse[of], of, together, n_seen, own, n_own, touches, index, index_ends)
            if len(mine) <= NEWEST:
                whole[:n_seen] = recent[:n_seen]
            for variant, sums in enumerate((whole, recent)):
                for at in range(n_seen):
                    scores[at] = sums[at] * inverse[at]
                ranks[event, variant] = _mean_rank(scores, n_seen, item, left_out)
                if kind == 2:
                    for of in mine[max(len(mine) - NEWEST, 0) * variant :]:
                        scores[of] += np.float32(1)
                    ranks[event, 2 + variant] = _mean_rank(scores, n_seen, item, left_out)
            recent[:n_seen] = 0
            _add_neighbours(recent, np.float32(1), mine[-1], together, n_seen, own, n_own, touches, index, index_ends)
            ranks[event, 4] = _mean_rank(recent, n_seen, item, left_out)
            for at in range(n_seen):
                recent[at] *= inverse[at]
            ranks[event, 5] = _mean_rank(recent, n_seen, item, left_out)
        if touches.is_first[event]:
            if len(together):
                for of in own[start : start + n_own[user]]:
                    together[of, item] += 1
                    together[item, of] += 1
            index[index_ends[item, 1]] = user
            index_ends[item, 1] += 1
            inverse[item] = np.float32(1 / np.sqrt(index_ends[item, 1] - index_ends[item, 0]))
            n_seen = max(n_seen, item + 1)
        _touch(own, n_own, start, user, item, touches.is_first[event])


@compiled
def user_ranks(touches: Touches, sizes: I64, index: I64, index_ends: I64, ranks: F64) -> None:
    """Rank by the summed cosines of the most similar users that have the item: ranks (n, 2 · S) for the neighbourhood `sizes` (S,),
    ascending, then once more with the user itself as a neighbour of similarity 1.

    `index` and `index_ends` as in `cooccurrence_ranks`.
    """
    n_users, n_sizes = len(touches.own_starts) - 1, len(sizes)
    own, n_own = np.empty(touches.own_starts[-1], np.int64), np.zeros(n_users, np.int64)
    shared, found, cosines = np.zeros(n_users, np.float32), np.empty(n_users, np.int64), np.empty(n_users, np.float32)
    scores, with_own, n_seen = np.zeros(len(index_ends), np.float32), np.zeros(len(index_ends), np.float32), 0
    for event in range(len(touches.users)):
        user, item, kind = touches.users[event], touches.items[event], touches.kinds[event]
        start = touches.own_starts[user]
        if kind:
            mine = own[start : start + n_own[user]]
            left_out = mine[: len(mine) * (kind == 1)]
            n_found = 0
            for of in mine:
                for place in range(max(index_ends[of, 0], index_ends[of, 1] - MOST_USERS), index_ends[of, 1]):
                    other = index[place]
                    if other != user:
                        if shared[other] == 0:
                            found[n_found] = other
                            n_found += 1
                        shared[other] += 1
            for at in range(n_found):
                cosines[at] = shared[found[at]] / np.sqrt(np.float32(n_own[found[at]]) * np.float32(len(mine)))
                shared[found[at]] = 0
            order = _most_similar(cosines[:n_found], sizes[-1])
            scores[:n_seen] = 0
            used = 0
            for size in range(n_sizes):
                while used < min(len(order), sizes[size]):
                    other = found[order[used]]
                    for of in own[touches.own_starts[other] : touches.own_starts[other] + n_own[other]]:
                        scores[of] += cosines[order[used]]
                    used += 1
                ranks[event, size] = _mean_rank(scores, n_seen, item, left_out)
                if kind == 2:
                    with_own[:n_seen] = scores[:n_seen]
                    for of in mine:
                        with_own[of] += np.float32(1)
                    ranks[event, n_sizes + size] = _mean_rank(with_own, n_seen, item, left_out)
        if touches.is_first[event]:
            index[index_ends[item, 1]] = user
            index_ends[item, 1] += 1
            n_seen = max(n_seen, item + 1)
        _touch(own, n_own, start, user, item, touches.is_first[event])


@compiled
def _most_similar(cosines: F32, size: int) -> I64:
    """Return the places of the `size` largest of `cosines`, largest first, equal ones as they come."""
    if len(cosines) <= size:
        return np.argsort(-cosines, kind="mergesort")
    least = -np.partition(-cosines, size - 1)[size - 1]
    kept = np.empty(size, np.int64)
    n_kept = 0
    for at in range(len(cosines)):
        if cosines[at] > least:
            kept[n_kept] = at
            n_kept += 1
    for at in range(len(cosines)):
        if cosines[at] == least and n_kept < size:
            kept[n_kept] = at
            n_kept += 1
    return kept[np.argsort(-cosines[kept], kind="mergesort")]


@compiled
def transition_ranks(touches: Touches, sequence_starts: I64, ranks: F64) -> None:
    """Rank by what came next after the user's newest item, in all users' sequences: ranks (n, 3).

    The next touch; the next `WINDOW` touches, the d-th with weight 1/d; and those with the same before it at half the weight.
    `sequence_starts` (U + 1,): user u has room for its touches from there on.
    """
    n_users, n_items = len(sequence_starts) - 1, touches.items.max() + 1
    own, n_own = np.empty(touches.own_starts[-1], np.int64), np.zeros(n_users, np.int64)
    sequences, ends = np.empty(sequence_starts[-1], np.int64), sequence_starts[:-1].copy()
    newest, before = np.full(n_items, -1, np.int64), np.empty(len(sequences), np.int64)
    scores, n_seen = np.zeros((3, n_items), np.float32), 0
    for event in range(len(touches.users)):
        user, item, kind = touches.users[event], touches.items[event], touches.kinds[event]
        start = touches.own_starts[user]
        if kind:
            left_out = own[start : start + n_own[user] * (kind == 1)]
            scores[:, :n_seen] = 0
            place, n_read = newest[sequences[ends[user] - 1]], 0
            while place >= 0 and n_read < MOST_USERS:
                other = np.searchsorted(sequence_starts, place, side="right") - 1
                _add_transitions(sequences, place, sequence_starts[other], ends[other], scores)
                place, n_read = before[place], n_read + 1
            for variant in range(3):
                ranks[event, variant] = _mean_rank(scores[variant], n_seen, item, left_out)
        sequences[ends[user]] = item
        before[ends[user]], newest[item] = newest[item], ends[user]
        ends[user] += 1
        n_seen = max(n_seen, item + 1)
        _touch(own, n_own, start, user, item, touches.is_first[event])


@compiled
def _add_transitions(sequences: I64, place: int, start: int, end: int, scores: F32) -> None:
    """Add what stands around `place` in the sequence from `start` to `end`."""
    for distance in range(1, WINDOW + 1):
        weight = np.float32(1 / distance)
        if place + distance < end:
            item = sequences[place + distance]
            if distance == 1:
                scores[0, item] += weight
            scores[1, item] += weight
            scores[2, item] += weight
        if place - distance >= start:
            scores[2, sequences[place - distance]] += weight / np.float32(2)


@compiled
def own_ranks(touches: Touches, pairs: I64, ranks: F64) -> None:
    """Rank the user's own items, by how often and by how lately the user touched them, above all others: ranks (n, 2).

    `pairs` (n,) number the distinct pairs of user and item.
    """
    n_pairs = pairs.max() + 1
    counts, newest = np.zeros(n_pairs, np.int64), np.zeros(n_pairs, np.int64)
    own, n_own = np.empty(touches.own_starts[-1], np.int64), np.zeros(len(touches.own_starts) - 1, np.int64)
    for event in range(len(touches.users)):
        user, pair, kind = touches.users[event], pairs[event], touches.kinds[event]
        start = touches.own_starts[user]
        if kind == 2:
            more, same, later = 0, -1, 0
            for other in own[start : start + n_own[user]]:
                more += counts[other] > counts[pair]
                same += counts[other] == counts[pair]
                later += newest[other] > newest[pair]
            ranks[event, 0], ranks[event, 1] = 1.0 + more + same / 2.0, 1.0 + later
        counts[pair] += 1
        newest[pair] = event
        if touches.is_first[event]:
            own[start + n_own[user]] = pair
            n_own[user] += 1
