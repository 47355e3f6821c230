"""Items that touches keep off lists, and those worth repeating, compiled.

Shapes: U users, C slots and H columns of a user table (right-aligned, newest touch last), N items, G groups of items, K places.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
Whole = Any
"""int or np.int64, which are one kind where it is compiled."""

DAY_S = 86_400
ORDER_POWER = 0.7
"""How fast an item falls behind with each other item that was touched after it."""
LAST_WIDTH_S, FIRST_WIDTH_S = 4 * 3_600, 3 * 3_600
"""Standard deviation of the time of day, around that of the last and of the first touch.

The form and these constants did best on average over the first 40 % of four logs: foursquare-nyc, deskdrop and the OTTO and Yoochoose
samples (ADR 15)."""


class Entries(NamedTuple):
    """Entries of histories (C, H), of which the last `lengths[slot]` columns are used, for the `slots` (U,)."""

    items: U32
    times_s: U32
    first_s: U32
    weights: NDArray[np.int8]
    types: U8
    counts: U8
    lengths: I32
    slots: I64


@compiled
def off_lists(
    entries: Entries, groups: NDArray[np.uint16], table: I64, now_s: int, older: U32, older_ends: I64, off: U32, ends: I64
) -> None:
    """Write the items that stay off each user's lists at `now_s` into `off`, user after user, and where each user's end into `ends` (U,).

    `groups` (N,) and `table` (G, 2, 256) are those of the policy; `older` items, of which user u's end at `older_ends[u]`, are all off."""
    n_columns, n_off, start = entries.items.shape[1], 0, 0
    for user in range(len(entries.slots)):
        slot = entries.slots[user]
        for column in range(n_columns - entries.lengths[slot], n_columns):
            item = entries.items[slot, column]
            group = groups[item] if item < len(groups) else np.uint16(0)
            if _is_off(entries, slot, column, group, table, now_s):
                off[n_off] = item
                n_off += 1
        for place in range(start, older_ends[user]):
            off[n_off] = older[place]
            n_off += 1
        start, ends[user] = older_ends[user], n_off


@compiled
def _is_off(entries: Entries, slot: Whole, column: Whole, group: Whole, table: I64, now_s: int) -> bool:
    """Return whether an entry of an item in this group keeps it off at `now_s`."""
    off_s = table[group, 1 if entries.weights[slot, column] < 0 else 0, entries.types[slot, column]]
    return bool(off_s > 0 and np.int64(entries.times_s[slot, column]) + off_s > now_s)


@compiled
def again_scores(entries: Entries, groups: NDArray[np.uint16], table: I64, now_s: int, scores: F32) -> None:
    """Write how much each entry is worth repeating at `now_s` into the last columns of `scores` (U, H); 0 for dislikes, and for what the
    policy keeps off.

    An entry with n touches, which p others have followed, is worth n · (1 + p)^−0.7, up to e² times as much near the times of day of its
    last and its first touch."""
    n_columns = entries.items.shape[1]
    for user in range(len(entries.slots)):
        slot, place = entries.slots[user], 0
        for column in range(n_columns - 1, n_columns - entries.lengths[slot] - 1, -1):
            item = entries.items[slot, column]
            scores[user, column] = 0
            if entries.weights[slot, column] <= 0:
                continue
            place += 1
            if item < len(groups) and not _is_off(entries, slot, column, groups[item], table, now_s):
                near = _near(now_s - np.int64(entries.times_s[slot, column]), LAST_WIDTH_S)
                near += _near(now_s - np.int64(entries.first_s[slot, column]), FIRST_WIDTH_S)
                scores[user, column] = np.float32(max(entries.counts[slot, column], 1) * float(place) ** -ORDER_POWER * np.exp(near))


@compiled
def _near(apart_s: Whole, width_s: int) -> float:
    """Return 1 for times that are whole days apart, falling to 0 with the distance of their times of day."""
    apart = apart_s % DAY_S
    apart = min(apart, DAY_S - apart)
    return float(np.exp(-0.5 * (apart / width_s) ** 2))


@compiled
def again(entries: Entries, scores: F32, numbers: I64, by_item: F32, raw: F32) -> None:
    """Write the scores (U, H) of the items `numbers` (U, C), −1 for none, into `raw` (U, C). `by_item` (N,) is zero before and after."""
    n_columns = entries.items.shape[1]
    for user in range(len(entries.slots)):
        slot = entries.slots[user]
        first = n_columns - entries.lengths[slot]
        for column in range(first, n_columns):
            if scores[user, column] > 0:
                by_item[entries.items[slot, column]] = scores[user, column]
        for place in range(numbers.shape[1]):
            raw[user, place] = by_item[numbers[user, place]] if numbers[user, place] >= 0 else np.float32(0)
        for column in range(first, n_columns):
            if scores[user, column] > 0:
                by_item[entries.items[slot, column]] = 0


@compiled
def best_again(entries: Entries, scores: F32, numbers: I64) -> None:
    """Write each user's items of the highest `scores` (U, H) above 0 into `numbers` (U, K), best first, −1 for none."""
    n_columns, n_places = entries.items.shape[1], numbers.shape[1]
    best = np.zeros(n_places, np.float32)
    for user in range(len(entries.slots)):
        slot, found = entries.slots[user], 0
        numbers[user] = -1
        for column in range(n_columns - 1, n_columns - entries.lengths[slot] - 1, -1):
            score = scores[user, column]
            if score <= 0 or (found == n_places and score <= best[n_places - 1]):
                continue
            found = min(found + 1, n_places)
            at = found - 1
            while at > 0 and best[at - 1] < score:
                best[at], numbers[user, at] = best[at - 1], numbers[user, at - 1]
                at -= 1
            best[at], numbers[user, at] = score, entries.items[slot, column]
