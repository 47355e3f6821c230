"""Counts how often items were shown to users, compiled.

Shapes: C slots and N places of a table, left-aligned, oldest first; U users; n events; K candidates.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]

MOST_SHOWN = 255


class Places(NamedTuple):
    """Entries of users (C, N), of which the first `lengths[slot]` are used."""

    items: U32
    counts: U8
    shown_s: U32
    chosen_s: U32
    lengths: I32


@compiled
def fold(
    places: Places, slots: I64, n_events: I64, items: U32, times_s: U32, is_shown: Bools, times: int, rest_s: int, is_reached: Bools
) -> None:
    """Apply events (n,), user after user and in order of arrival, to the entries of the users in `slots` (U,), `n_events` (U,) of each.
    Write True into `is_reached` (U,) for users to whom this batch shows an item the `times`-th time, or once more after it had rested
    for `rest_s`."""
    width, start = places.items.shape[1], 0
    for user in range(len(slots)):
        slot = slots[user]
        for event in range(start, start + n_events[user]):
            item, at_s, n, place = items[event], times_s[event], places.lengths[slot], 0
            while place < n and places.items[slot, place] != item:
                place += 1
            count, shown_s, chosen_s = np.uint8(0), np.uint32(0), np.uint32(0)
            if place < n:
                count, shown_s, chosen_s = places.counts[slot, place], places.shown_s[slot, place], places.chosen_s[slot, place]
            if at_s <= chosen_s:
                continue  # an impression before the last choice counts no more, and an older choice changes nothing
            if is_shown[event]:
                was_resting = count >= times and np.int64(at_s) - np.int64(shown_s) < rest_s
                is_reached[user] |= int(count) + 1 >= times and not was_resting
                count, shown_s = np.uint8(min(int(count) + 1, MOST_SHOWN)), max(shown_s, at_s)
            else:
                count, chosen_s = np.uint8(0 if shown_s <= at_s else min(int(count), 1)), at_s
            newest_s = max(shown_s, chosen_s)
            if place == n:
                if n == width:
                    if newest_s < max(places.shown_s[slot, 0], places.chosen_s[slot, 0]):
                        continue  # older than all that there is room for
                    place = 0
                else:
                    n += 1
                    places.lengths[slot] = n
            while place + 1 < n and max(places.shown_s[slot, place + 1], places.chosen_s[slot, place + 1]) <= newest_s:
                _move(places, slot, place + 1, place)
                place += 1
            while place > 0 and max(places.shown_s[slot, place - 1], places.chosen_s[slot, place - 1]) > newest_s:
                _move(places, slot, place - 1, place)
                place -= 1
            places.items[slot, place], places.counts[slot, place] = item, count
            places.shown_s[slot, place], places.chosen_s[slot, place] = shown_s, chosen_s
        start += n_events[user]


@compiled
def _move(places: Places, slot: int, source: int, target: int) -> None:
    """Copy an entry of a slot to another place."""
    places.items[slot, target], places.counts[slot, target] = places.items[slot, source], places.counts[slot, source]
    places.shown_s[slot, target], places.chosen_s[slot, target] = places.shown_s[slot, source], places.chosen_s[slot, source]


@compiled
def look_up(places: Places, slots: I64, numbers: I64, place_of: I32, counts: I32, shown_s: I64) -> None:
    """Write how often, and when last, the items `numbers` (U, K), −1 for none, were shown into `counts` and `shown_s` (U, K); 0 for never
    since the last choice. `place_of` (≥ items,) is zero before and after."""
    for user in range(len(slots)):
        slot = slots[user]
        n = places.lengths[slot]
        for place in range(n):
            if places.items[slot, place] < len(place_of):
                place_of[places.items[slot, place]] = place + 1
        for column in range(numbers.shape[1]):
            number = numbers[user, column]
            place = place_of[number] - 1 if number >= 0 else -1
            counts[user, column], shown_s[user, column] = 0, 0
            if place >= 0 and places.counts[slot, place] > 0:
                counts[user, column], shown_s[user, column] = places.counts[slot, place], places.shown_s[slot, place]
        for place in range(n):
            if places.items[slot, place] < len(place_of):
                place_of[places.items[slot, place]] = 0


@compiled
def resting(places: Places, slots: I64, times: int, rest_s: int, now_s: int, items: U32, ends: I64) -> None:
    """Write the items that were shown at least `times` times, the last time less than `rest_s` before `now_s`, into `items`, user after
    user, and where each user's end into `ends` (U,)."""
    found = 0
    for user in range(len(slots)):
        slot = slots[user]
        for place in range(places.lengths[slot]):
            if places.counts[slot, place] >= times and now_s - np.int64(places.shown_s[slot, place]) < rest_s:
                items[found] = places.items[slot, place]
                found += 1
        ends[user] = found


@compiled
def joined(first: U32, first_ends: I64, then: U32, then_ends: I64, items: U32, ends: I64) -> None:
    """Write each user's items of `first` and then those of `then` into `items`, user after user, and where each user's end into `ends`."""
    found, from_first, from_then = 0, 0, 0
    for user in range(len(ends)):
        for at in range(from_first, first_ends[user]):
            items[found] = first[at]
            found += 1
        for at in range(from_then, then_ends[user]):
            items[found] = then[at]
            found += 1
        from_first, from_then, ends[user] = first_ends[user], then_ends[user], found
