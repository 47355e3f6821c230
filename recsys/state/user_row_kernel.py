"""User rows written and read one after another, compiled; what is in them and where is said in `userrows`.

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
_BELOW = np.int64(1) << 32


def room(n: I64, m: I64) -> int:
    """Bytes that rows of `n` interactions and `m` older items take at most, without their embeddings; (R,) each."""
    jumps = 6 * np.minimum(n, _MOST_JUMPS)
    return int((HEAD_BYTES + 9 * n + jumps + MAX_PALETTE + OLDER_HEAD_BYTES + 4 * m).sum())


# -- writing -----------------------------------------------------------------------------------------------------------------------------


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
    """A number of so many bytes; where it ends."""
    for byte in range(n_bytes):
        out[at + byte] = (value >> (8 * byte)) & 0xFF
    return at + n_bytes


@compiled
def _put_bits(out: U8, at: Whole, values: I64, n: Whole, width: Whole) -> Whole:
    """The first `n` values side by side in so many bits each; where they end."""
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
def _bit_length(value: Whole) -> Whole:
    length = 0
    while value:
        value >>= 1
        length += 1
    return length


@compiled
def _put_items(out: U8, at: Whole, items: U32, scratch: I64) -> tuple[Whole, Whole, Whole]:
    """How far items (n,), oldest first, are above their smallest: the width in bits, the smallest, and where they end."""
    n = len(items)
    smallest, largest = _BELOW if n else np.int64(0), np.int64(0)
    for i in range(n):
        item = np.int64(items[i])
        smallest, largest = min(smallest, item), max(largest, item)
    width = _bit_length(largest - smallest)
    for i in range(n):
        scratch[i] = np.int64(items[n - 1 - i]) - smallest
    return width, smallest, _put_bits(out, at, scratch, n, width)


@compiled
def _put_times(out: U8, at: Whole, times_s: U32, scratch: I64, counts: I64) -> tuple[Whole, Whole, Whole, Whole]:
    """Gaps between times (n,), oldest first, in the width that takes the fewest bytes, and the jumps over it: width in bits, bytes of a
    jump, how many there are, and where they end."""
    n, n_gaps = len(times_s), max(len(times_s) - 1, 0)
    counts[: MAX_WIDTH + 1] = 0
    for i in range(n_gaps):
        gap = (np.int64(times_s[n - 1 - i]) - np.int64(times_s[n - 2 - i])) & (_BELOW - 1)
        scratch[i] = gap
        counts[_bit_length(gap)] += 1
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
    """Weights (n,), oldest first, as distinct values and codes, or one by one where that is shorter: how many distinct ones, 0 for one by
    one, and where they end."""
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
    width = _bit_length(n_distinct - 1)
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


# -- reading -----------------------------------------------------------------------------------------------------------------------------


@compiled
def read(
    packed: U8, starts: I64, ends: I64, rows: I64, items: U32, times_s: U32, weights: I8, older: U32, older_starts: I64, older_ends: I64
) -> bool:
    """Read some `rows`, which are `packed[starts[row]:ends[row]]`, into the same rows of `items`, `times_s` and `weights` (R, W): the
    newest W interactions of each, right-aligned; and older items, oldest first, into their place in `older`. Whether none is torn."""
    scratch = np.empty(1 << 16, np.int64)
    for row in rows:
        own = older[older_starts[row] : older_ends[row]]
        if not _read_row(packed[starts[row] : ends[row]], items[row], times_s[row], weights[row], own, scratch):
            return False
    return True


@compiled
def _get(packed: U8, at: Whole, n_bytes: Whole) -> Whole:
    value = np.int64(0)
    for byte in range(n_bytes):
        value |= np.int64(packed[at + byte]) << (8 * byte)
    return value


@compiled
def _get_bits(packed: U8, at: Whole, n: Whole, width: Whole, values: I64) -> None:
    """Take `n` values of so many bits apart."""
    waiting, n_bits, mask = np.int64(0), 0, (np.int64(1) << width) - 1
    for i in range(n):
        while n_bits < width:
            waiting |= np.int64(packed[at]) << n_bits
            n_bits += 8
            at += 1
        values[i] = waiting & mask
        waiting >>= width
        n_bits -= width


@compiled
def _read_row(packed: U8, items: U32, times_s: U32, weights: I8, older: U32, scratch: I64) -> bool:
    size = len(packed)
    if size < HEAD_BYTES:
        return False
    n, m = _get(packed, 2, 2), len(older)
    n_weights, item_width, n_jumps = np.int64(packed[6]), np.int64(packed[7]), np.int64(packed[9])
    gap_width, jump_bytes = np.int64(packed[8]) & 63, (np.int64(packed[8]) >> 6) + 1
    if item_width > MAX_WIDTH or gap_width > MAX_WIDTH or n_weights > min(n, MAX_PALETTE):
        return False
    gaps_at = HEAD_BYTES + (n * item_width + 7) // 8
    places_at = gaps_at + (max(n - 1, 0) * gap_width + 7) // 8
    weights_at = places_at + n_jumps * ((1 if n <= SHORT_PLACES else 2) + jump_bytes)
    code_width = _bit_length(max(n_weights - 1, 0))
    end = weights_at + (n_weights + (n * code_width + 7) // 8 if n_weights else n)
    if end > size:
        return False
    _get_bits(packed, HEAD_BYTES, n, item_width, scratch)
    if not _read_items(scratch, n, _get(packed, 10, 4), items):
        return False
    _get_bits(packed, gaps_at, max(n - 1, 0), gap_width, scratch)
    if not _add_jumps(packed, places_at, n, gap_width, n_jumps, jump_bytes, scratch):
        return False
    _read_times(scratch, n, _get(packed, 14, 4), times_s)
    if not _read_weights(packed, weights_at, n, n_weights, code_width, scratch, weights):
        return False
    if m:
        if end + OLDER_HEAD_BYTES > size:
            return False
        older_at, older_width = end + OLDER_HEAD_BYTES, np.int64(packed[end])
        smallest, end = _get(packed, end + 1, 4), older_at + (m * older_width + 7) // 8
        if older_width > MAX_WIDTH or end > size:
            return False
        _get_bits(packed, older_at, m, older_width, scratch)
        if not _read_items(scratch, m, smallest, older):
            return False
    for _ in range(packed[1]):
        if end + EMBEDDING_HEAD_BYTES > size:
            return False
        end += EMBEDDING_HEAD_BYTES + _get(packed, end + 4, 2)
    return bool(end == size)


@compiled
def _read_items(above: I64, n: Whole, smallest: Whole, items: U32) -> bool:
    """The newest of n items, right-aligned (W,). Whether none of the n is beyond 32 bits."""
    largest, n_columns = np.int64(0), len(items)
    for i in range(n):
        item = above[i] + smallest
        largest = max(largest, item)
        if i < n_columns:
            items[n_columns - 1 - i] = item
    return bool(largest < _BELOW)


@compiled
def _add_jumps(packed: U8, at: Whole, n: Whole, width: Whole, n_jumps: Whole, jump_bytes: Whole, gaps: I64) -> bool:
    """Put the upper bits of gaps (n − 1,) where they belong. Whether all are in order, at some gap, and within 32 bits."""
    place_bytes, before = 1 if n <= SHORT_PLACES else 2, -1
    for jump in range(n_jumps):
        place = _get(packed, at + jump * place_bytes, place_bytes)
        above = _get(packed, at + n_jumps * place_bytes + jump * jump_bytes, jump_bytes)
        if place <= before or place >= n - 1 or above >> (MAX_WIDTH - width):
            return False
        gaps[place] += above << width
        before = place
    return True


@compiled
def _read_times(gaps: I64, n: Whole, newest_s: Whole, times_s: U32) -> None:
    """The newest of n times, right-aligned (W,)."""
    for i in range(min(n, len(times_s))):
        if i:
            newest_s = (newest_s - gaps[i - 1]) & (_BELOW - 1)
        times_s[len(times_s) - 1 - i] = newest_s


@compiled
def _read_weights(packed: U8, at: Whole, n: Whole, n_weights: Whole, width: Whole, codes: I64, weights: I8) -> bool:
    """The newest of n weights, right-aligned (W,). Whether all codes are of distinct weights that there are."""
    n_columns = len(weights)
    if n_weights:
        _get_bits(packed, at + n_weights, n, width, codes)
    for i in range(n):
        code = codes[i] if n_weights else np.int64(i)
        if n_weights and code >= n_weights:
            return False
        if i < n_columns:
            weights[n_columns - 1 - i] = np.int8(packed[at + code])
    return True
