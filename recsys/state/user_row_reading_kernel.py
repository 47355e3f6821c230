"""Reads user rows one after another, compiled; their layout is in `user_row`.

Shapes: R rows, W columns that are read into, right-aligned. In a row everything goes from the newest to the oldest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled
from recsys.state.user_row_kernel import (
    BELOW,
    EMBEDDING_HEAD_BYTES,
    HEAD_BYTES,
    MAX_PALETTE,
    MAX_WIDTH,
    OLDER_HEAD_BYTES,
    SHORT_PLACES,
    bit_length,
)

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
I8 = NDArray[np.int8]
I64 = NDArray[np.int64]
Whole = Any
"""int or np.int64, which are one kind where it is compiled."""


@compiled
def read(
    packed: U8, starts: I64, ends: I64, rows: I64, items: U32, times_s: U32, weights: I8, older: U32, older_starts: I64, older_ends: I64
) -> bool:
    """Read some `rows`, which are `packed[starts[row]:ends[row]]`, into the same rows of `items`, `times_s` and `weights` (R, W): the
    newest W interactions of each, right-aligned; and older items, oldest first, into their place in `older`. Return False if one
    is torn."""
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
    """Read `n` values of `width` bits each."""
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
    code_width = bit_length(max(n_weights - 1, 0))
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
    """Read the newest of n items, right-aligned (W,). Return False if one of the n is beyond 32 bits."""
    largest, n_columns = np.int64(0), len(items)
    for i in range(n):
        item = above[i] + smallest
        largest = max(largest, item)
        if i < n_columns:
            items[n_columns - 1 - i] = item
    return bool(largest < BELOW)


@compiled
def _add_jumps(packed: U8, at: Whole, n: Whole, width: Whole, n_jumps: Whole, jump_bytes: Whole, gaps: I64) -> bool:
    """Put the upper bits of gaps (n − 1,) where they belong. Return False unless all are in order, at some gap, and within 32 bits."""
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
    """Read the newest of n times, right-aligned (W,)."""
    for i in range(min(n, len(times_s))):
        if i:
            newest_s = (newest_s - gaps[i - 1]) & (BELOW - 1)
        times_s[len(times_s) - 1 - i] = newest_s


@compiled
def _read_weights(packed: U8, at: Whole, n: Whole, n_weights: Whole, width: Whole, codes: I64, weights: I8) -> bool:
    """Read the newest of n weights, right-aligned (W,). Return False if a code is of no distinct weight."""
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
