"""Writes user rows one after another, compiled; their layout is in `user_row`.

Shapes: R rows; C slots and H columns of a user table, right-aligned. In a row everything goes from the newest to the oldest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled
from recsys.state.user_columns import Columns, Histories

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
I8 = NDArray[np.int8]
I64 = NDArray[np.int64]
Whole = Any
"""int or np.int64, which are one kind where it is compiled."""

LAYOUT = 3
HEAD_BYTES, N_OLDER_BYTES, TOUCHES_HEAD_BYTES, OLDER_HEAD_BYTES, EMBEDDING_HEAD_BYTES = 18, 2, 2, 5, 10
MOST_EMBEDDINGS, HAS_TOUCHES, HAS_OLDER = 63, 64, 128
"""The second byte: embeddings, and whether the columns of repeated touches and of older items are there."""
MAX_WIDTH, MAX_PALETTE = 32, 255
SHORT_PLACES = 256
"""Histories up to this long name the places of jumps by one byte."""
_MOST_JUMPS = 255
BELOW = np.int64(1) << 32


def room(n: I64, m: I64) -> int:
    """Return the bytes that rows of `n` entries and `m` older items take at most, without their embeddings; (R,) each."""
    jumps = 6 * np.minimum(n, _MOST_JUMPS)
    heads = HEAD_BYTES + N_OLDER_BYTES + OLDER_HEAD_BYTES + TOUCHES_HEAD_BYTES + 2 * MAX_PALETTE
    return int((heads + 17 * n + jumps + 4 * m).sum())


@compiled
def write(held: Histories, slots: I64, older: U32, older_ends: I64, n_embeddings: I64, out: U8, ends: I64) -> None:
    """Write the rows of these `slots` (R,) of a table (C, H) one after another to `out`, each up to its embeddings, of which there will be
    `n_embeddings` (R,); its end is noted in `ends` (R,). The older items of row r, oldest first, end at `older_ends[r]`."""
    columns, n_columns = held.columns, held.columns.items.shape[1]
    scratch, counts = np.empty(max(n_columns, len(older)), np.int64), np.empty(256, np.int64)
    at, first_older = 0, 0
    for row in range(len(slots)):
        slot, start = slots[row], at
        n, m = np.int64(held.lengths[slot]), older_ends[row] - first_older
        first, flags = n_columns - n, n_embeddings[row]
        at += HEAD_BYTES + (N_OLDER_BYTES if m else 0)
        item_width, smallest, at = _put_items(out, at, columns.items[slot, first:], scratch)
        gap_width, jump_bytes, n_jumps, at = _put_times(out, at, columns.times_s[slot, first:], scratch, counts)
        n_tags, at = _put_tags(out, at, columns.weights[slot, first:], columns.types[slot, first:], scratch, counts)
        has_touches, at = _put_touches(out, at, columns, slot, first, scratch)
        out[start + 6], out[start + 7] = n_tags, item_width
        out[start + 8], out[start + 9] = gap_width | ((jump_bytes - 1) << 6), n_jumps
        _put(out, start + 2, n, 2)
        _put(out, start + 4, np.int64(held.spent[slot]), 2)
        _put(out, start + 10, smallest, 4)
        _put(out, start + 14, np.int64(columns.times_s[slot, n_columns - 1]) if n else np.int64(0), 4)
        if has_touches:
            flags |= HAS_TOUCHES
        if m:
            flags |= HAS_OLDER
            _put(out, start + HEAD_BYTES, m, N_OLDER_BYTES)
            older_width, smallest, end = _put_items(out, at + OLDER_HEAD_BYTES, older[first_older : first_older + m], scratch)
            out[at] = older_width
            _put(out, at + 1, smallest, 4)
            at = end
        out[start], out[start + 1] = LAYOUT, flags
        first_older += m
        ends[row] = at


@compiled
def _put(out: U8, at: Whole, value: Whole, n_bytes: Whole) -> Whole:
    """Write a number of `n_bytes` bytes; return where it ends."""
    for byte in range(n_bytes):
        out[at + byte] = (value >> (8 * byte)) & 0xFF
    return at + n_bytes


@compiled
def _put_bits(out: U8, at: Whole, values: I64, n: Whole, width: Whole) -> Whole:
    """Write the first `n` values side by side in `width` bits each; return where they end."""
    waiting, n_bits = 0, 0
    for i in range(n if width else 0):
        waiting |= values[i] << n_bits
        n_bits += width
        while n_bits >= 8:
            out[at] = waiting & 0xFF
            waiting >>= 8
            n_bits -= 8
            at += 1
    if n_bits:
        out[at] = waiting
        at += 1
    return at


@compiled
def bit_length(value: Whole) -> Whole:
    """Return the bits that a value ≥ 0 needs."""
    length = 0
    while value:
        value >>= 1
        length += 1
    return length


@compiled
def _put_items(out: U8, at: Whole, items: U32, scratch: I64) -> tuple[Whole, Whole, Whole]:
    """Write how far items (n,), oldest first, are above their smallest; return the width in bits, the smallest, and where they end."""
    n = len(items)
    smallest, largest = BELOW if n else np.int64(0), np.int64(0)
    for i in range(n):
        item = np.int64(items[i])
        smallest, largest = min(smallest, item), max(largest, item)
    width = bit_length(largest - smallest)
    for i in range(n):
        scratch[i] = np.int64(items[n - 1 - i]) - smallest
    return width, smallest, _put_bits(out, at, scratch, n, width)


@compiled
def _put_times(out: U8, at: Whole, times_s: U32, scratch: I64, counts: I64) -> tuple[Whole, Whole, Whole, Whole]:
    """Write the gaps between times (n,), oldest first, in the width that takes the fewest bytes, and the jumps over it; return the width
    in bits, bytes of a jump, how many there are, and where they end."""
    n, n_gaps = len(times_s), max(len(times_s) - 1, 0)
    counts[: MAX_WIDTH + 1] = 0
    for i in range(n_gaps):
        gap = (np.int64(times_s[n - 1 - i]) - np.int64(times_s[n - 2 - i])) & (BELOW - 1)
        scratch[i] = gap
        counts[bit_length(gap)] += 1
    widest = MAX_WIDTH
    while widest and not counts[widest]:
        widest -= 1
    place_bytes = 1 if n <= SHORT_PLACES else 2
    best_width, best_bytes, best_jump_bytes, best_jumps = widest, (n_gaps * widest + 7) // 8, 1, 0
    n_jumps = 0
    for width in range(widest - 1, -1, -1):
        n_jumps += counts[width + 1]
        if n_jumps > _MOST_JUMPS:
            break
        jump_bytes = (widest - width + 7) // 8
        n_bytes = (n_gaps * width + 7) // 8 + n_jumps * (place_bytes + jump_bytes)
        if n_bytes < best_bytes:
            best_width, best_bytes, best_jump_bytes, best_jumps = width, n_bytes, jump_bytes, n_jumps
    places_at = at + (n_gaps * best_width + 7) // 8
    jumps_at = places_at + best_jumps * place_bytes
    for i in range(n_gaps):
        jump = scratch[i] >> best_width
        if jump:
            places_at = _put(out, places_at, i, place_bytes)
            jumps_at = _put(out, jumps_at, jump, best_jump_bytes)
            scratch[i] &= (np.int64(1) << best_width) - 1
    _put_bits(out, at, scratch, n_gaps, best_width)
    return best_width, best_jump_bytes, best_jumps, jumps_at


@compiled
def _put_tags(out: U8, at: Whole, weights: I8, types: U8, scratch: I64, palette: I64) -> tuple[Whole, Whole]:
    """Write weights and types (n,), oldest first, as distinct pairs and codes, or one by one where that is shorter; return how many
    distinct ones there are, 0 for one by one, and where they end."""
    n, n_distinct = len(weights), 0
    for i in range(n):
        tag = (np.int64(weights[n - 1 - i]) & 0xFF) | (np.int64(types[n - 1 - i]) << 8)
        code = 0
        while code < n_distinct and palette[code] != tag:
            code += 1
        if code == n_distinct:
            if n_distinct == MAX_PALETTE:
                n_distinct += 1
                break
            palette[code] = tag
            n_distinct += 1
        scratch[i] = code
    width = bit_length(max(n_distinct - 1, 0))
    if n_distinct > MAX_PALETTE or 2 * n_distinct + (n * width + 7) // 8 > 2 * n:
        for i in range(n):
            out[at + i], out[at + n + i] = weights[n - 1 - i], types[n - 1 - i]
        return 0, at + 2 * n
    for code in range(n_distinct):
        out[at + code], out[at + n_distinct + code] = palette[code] & 0xFF, palette[code] >> 8
    return n_distinct, _put_bits(out, at + 2 * n_distinct, scratch, n, width)


@compiled
def _put_touches(out: U8, at: Whole, columns: Columns, slot: Whole, first: Whole, scratch: I64) -> tuple[bool, Whole]:
    """Write touches, visits and first times of the entries from the column `first` on that are not those of a single touch, and which
    those are; return whether there are any, and where they end."""
    n, n_marked, n_columns, are_several = columns.items.shape[1] - first, 0, columns.items.shape[1], False
    for column in range(first, n_columns):
        is_once = columns.counts[slot, column] == 1 and columns.visits[slot, column] == (columns.weights[slot, column] > 0)
        are_several |= not is_once or columns.first_s[slot, column] != columns.times_s[slot, column]
    if not are_several:
        return False, at
    most_touches, most_visits, most_s = np.int64(0), np.int64(0), np.int64(0)
    for i in range(n):
        column = n_columns - 1 - i
        touches, visits = np.int64(columns.counts[slot, column]), np.int64(columns.visits[slot, column])
        before_s = np.int64(columns.times_s[slot, column]) - np.int64(columns.first_s[slot, column])
        scratch[i] = touches != 1 or before_s != 0 or visits != (columns.weights[slot, column] > 0)
        if scratch[i]:
            n_marked += 1
            most_touches, most_visits, most_s = max(most_touches, touches), max(most_visits, visits), max(most_s, before_s)
    touches_width, visits_width, seconds_width = bit_length(most_touches), bit_length(most_visits), bit_length(most_s)
    out[at], out[at + 1] = touches_width | (visits_width << 4), seconds_width
    at = _put_bits(out, at + TOUCHES_HEAD_BYTES, scratch, n, 1)
    for part in range(3):
        marked = 0
        for i in range(n):
            column = n_columns - 1 - i
            touches, visits = np.int64(columns.counts[slot, column]), np.int64(columns.visits[slot, column])
            before_s = np.int64(columns.times_s[slot, column]) - np.int64(columns.first_s[slot, column])
            if touches != 1 or before_s != 0 or visits != (columns.weights[slot, column] > 0):
                scratch[marked] = touches if part == 0 else visits if part == 1 else before_s
                marked += 1
        width = touches_width if part == 0 else visits_width if part == 1 else seconds_width
        at = _put_bits(out, at, scratch, n_marked, width)
    return True, at
