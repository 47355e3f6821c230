"""Writes user rows one after another, compiled; their layout is in `user_row`.

Shapes: R rows; C slots and H columns of a user table, right-aligned. In a row everything goes from the newest to the oldest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
I8 = NDArray[np.int8]
I64 = NDArray[np.int64]
Whole = Any
"""int or np.int64, which are one kind where it is compiled."""

LAYOUT = 2
HEAD_BYTES, OLDER_HEAD_BYTES, EMBEDDING_HEAD_BYTES = 18, 5, 10
MAX_WIDTH, MAX_PALETTE = 32, 16
SHORT_PLACES = 256
"""Histories up to this long name the places of jumps by one byte."""
_MOST_JUMPS = 255
BELOW = np.int64(1) << 32


def room(n: I64, m: I64) -> int:
    """Return the bytes that rows of `n` interactions and `m` older items take at most, without their embeddings; (R,) each."""
    jumps = 6 * np.minimum(n, _MOST_JUMPS)
    return int((HEAD_BYTES + 9 * n + jumps + MAX_PALETTE + OLDER_HEAD_BYTES + 4 * m).sum())


@compiled
def write(
    items: U32,
    times_s: U32,
    weights: I8,
    lengths: NDArray[np.int32],
    slots: I64,
    older: U32,
    older_ends: I64,
    n_embeddings: I64,
    out: U8,
    ends: I64,
) -> None:
    """Write the rows of these `slots` (R,) of a table (C, H) one after another to `out`, each up to its embeddings, of which there will be
    `n_embeddings` (R,); its end is noted in `ends` (R,). The older items of row r, oldest first, end at `older_ends[r]`."""
    n_columns = items.shape[1]
    scratch, counts = np.empty(max(n_columns, len(older)), np.int64), np.empty(256, np.int64)
    at, first_older = 0, 0
    for row in range(len(slots)):
        slot, start = slots[row], at
        n, m = np.int64(lengths[slot]), older_ends[row] - first_older
        first = n_columns - n
        item_width, smallest, at = _put_items(out, start + HEAD_BYTES, items[slot, first:], scratch)
        gap_width, jump_bytes, n_jumps, at = _put_times(out, at, times_s[slot, first:], scratch, counts)
        n_weights, at = _put_weights(out, at, weights[slot, first:], scratch, counts)
        out[start], out[start + 1], out[start + 6], out[start + 7] = LAYOUT, n_embeddings[row], n_weights, item_width
        out[start + 8], out[start + 9] = gap_width | ((jump_bytes - 1) << 6), n_jumps
        _put(out, start + 2, n, 2)
        _put(out, start + 4, m, 2)
        _put(out, start + 10, smallest, 4)
        _put(out, start + 14, np.int64(times_s[slot, n_columns - 1]) if n else np.int64(0), 4)
        if m:
            older_width, smallest, end = _put_items(out, at + OLDER_HEAD_BYTES, older[first_older : first_older + m], scratch)
            out[at] = older_width
            _put(out, at + 1, smallest, 4)
            at = end
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
def _put_weights(out: U8, at: Whole, weights: I8, scratch: I64, counts: I64) -> tuple[Whole, Whole]:
    """Write weights (n,), oldest first, as distinct values and codes, or one by one where that is shorter; return how many distinct ones
    there are, 0 for one by one, and where they end."""
    n, n_unlike = len(weights), 0
    for i in range(1, n):
        n_unlike += weights[i] != weights[0]
    if not n_unlike:
        for i in range(min(n, 1)):
            out[at + i] = weights[i]
        return min(n, 1), at + min(n, 1)
    counts[:] = 0
    for i in range(n):
        counts[np.int64(weights[i]) & 0xFF] = 1
    n_distinct = counts.sum()
    width = bit_length(n_distinct - 1)
    if n_distinct > MAX_PALETTE or n_distinct + (n * width + 7) // 8 >= n:
        for i in range(n):
            out[at + i] = weights[n - 1 - i]
        return 0, at + n
    code = 0
    for value in range(256):
        if counts[value]:
            out[at + code] = value
            counts[value] = code
            code += 1
    for i in range(n):
        scratch[i] = counts[np.int64(weights[n - 1 - i]) & 0xFF]
    return n_distinct, _put_bits(out, at + n_distinct, scratch, n, width)
