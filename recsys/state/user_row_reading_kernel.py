"""Reads user rows one after another, compiled; their layout is in `user_row`.

Shapes: R rows, W columns that are read into, right-aligned. In a row everything goes from the newest to the oldest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled
from recsys.state.user_columns import Columns
from recsys.state.user_row_kernel import (
    BELOW,
    EMBEDDING_HEAD_BYTES,
    HAS_OLDER,
    HAS_TOUCHES,
    HEAD_BYTES,
    MAX_WIDTH,
    MOST_EMBEDDINGS,
    N_OLDER_BYTES,
    OLDER_HEAD_BYTES,
    SHORT_PLACES,
    TOUCHES_HEAD_BYTES,
    bit_length,
)

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
I8 = NDArray[np.int8]
I64 = NDArray[np.int64]
Whole = Any
"""int or np.int64, which are one kind where it is compiled."""


@compiled
def read(packed: U8, starts: I64, ends: I64, columns: Columns, older: U32, older_starts: I64, older_ends: I64) -> bool:
    """Read R rows, `packed[starts[row]:ends[row]]`, into `columns` (R, W): the newest W entries of each, right-aligned; and older items,
    oldest first, into their place in `older`. Return False if one is torn."""
    scratch, marked = np.empty(1 << 16, np.int64), np.empty(1 << 16, np.int64)
    for row in range(len(starts)):
        own = older[older_starts[row] : older_ends[row]]
        if not _read_row(packed[starts[row] : ends[row]], columns, row, own, scratch, marked):
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
def _read_row(packed: U8, columns: Columns, row: Whole, older: U32, scratch: I64, marked: I64) -> bool:
    size = len(packed)
    if size < HEAD_BYTES + (N_OLDER_BYTES if packed[1] & HAS_OLDER else 0):
        return False
    n, m = _get(packed, 2, 2), len(older)
    n_tags, item_width, n_jumps = np.int64(packed[6]), np.int64(packed[7]), np.int64(packed[9])
    gap_width, jump_bytes = np.int64(packed[8]) & 63, (np.int64(packed[8]) >> 6) + 1
    if item_width > MAX_WIDTH or gap_width > MAX_WIDTH or n_tags > n or bool(packed[1] & HAS_OLDER) != (m > 0):
        return False
    items_at = HEAD_BYTES + (N_OLDER_BYTES if m else 0)
    gaps_at = items_at + (n * item_width + 7) // 8
    places_at = gaps_at + (max(n - 1, 0) * gap_width + 7) // 8
    tags_at = places_at + n_jumps * ((1 if n <= SHORT_PLACES else 2) + jump_bytes)
    code_width = bit_length(max(n_tags - 1, 0))
    end = tags_at + (2 * n_tags + (n * code_width + 7) // 8 if n_tags else 2 * n)
    if end > size:
        return False
    _get_bits(packed, items_at, n, item_width, scratch)
    if not _read_items(scratch, n, _get(packed, 10, 4), columns.items[row]):
        return False
    _get_bits(packed, gaps_at, max(n - 1, 0), gap_width, scratch)
    if not _add_jumps(packed, places_at, n, gap_width, n_jumps, jump_bytes, scratch):
        return False
    if not _read_times(scratch, n, _get(packed, 14, 4), columns.times_s[row]):
        return False
    if not _read_tags(packed, tags_at, n, n_tags, code_width, scratch, columns.weights[row], columns.types[row]):
        return False
    _read_as_single(columns, row, n)
    if packed[1] & HAS_TOUCHES:
        end = _read_touches(packed, end, n, columns, row, scratch, marked)
        if end < 0:
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
    for _ in range(packed[1] & MOST_EMBEDDINGS):
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
def _read_times(gaps: I64, n: Whole, newest_s: Whole, times_s: U32) -> bool:
    """Read the newest of n times, right-aligned (W,). Return False if one of the n is before 1970."""
    for i in range(n):
        if i:
            newest_s -= gaps[i - 1]
        if newest_s < 0:
            return False
        if i < len(times_s):
            times_s[len(times_s) - 1 - i] = newest_s
    return True


@compiled
def _read_tags(packed: U8, at: Whole, n: Whole, n_tags: Whole, width: Whole, codes: I64, weights: I8, types: U8) -> bool:
    """Read the newest of n weights and types, right-aligned (W,). Return False if a code is of no distinct pair."""
    n_columns, behind = len(weights), n_tags if n_tags else n
    if n_tags:
        _get_bits(packed, at + 2 * n_tags, n, width, codes)
    for i in range(n):
        code = codes[i] if n_tags else np.int64(i)
        if n_tags and code >= n_tags:
            return False
        if i < n_columns:
            weights[n_columns - 1 - i], types[n_columns - 1 - i] = np.int8(packed[at + code]), packed[at + behind + code]
    return True


@compiled
def _read_as_single(columns: Columns, row: Whole, n: Whole) -> None:
    """Fill in what n entries have that were touched once."""
    n_columns = columns.items.shape[1]
    for column in range(max(n_columns - n, 0), n_columns):
        columns.first_s[row, column] = columns.times_s[row, column]
        columns.counts[row, column] = 1
        columns.visits[row, column] = columns.weights[row, column] > 0


@compiled
def _read_touches(packed: U8, at: Whole, n: Whole, columns: Columns, row: Whole, scratch: I64, marked: I64) -> Whole:
    """Read touches, visits and first times of the newest of n entries, where they are not those of a single touch. Return where they end,
    −1 if they are torn."""
    n_columns, size = columns.items.shape[1], len(packed)
    bits_at = at + TOUCHES_HEAD_BYTES
    counts_at = bits_at + (n + 7) // 8
    if counts_at > size:
        return -1
    touches_width, visits_width = np.int64(packed[at]) & 15, np.int64(packed[at]) >> 4
    seconds_width, n_marked = np.int64(packed[at + 1]), 0
    _get_bits(packed, bits_at, n, 1, scratch)
    for i in range(n):
        if scratch[i]:
            marked[n_marked] = i
            n_marked += 1
    visits_at = counts_at + (n_marked * touches_width + 7) // 8
    seconds_at = visits_at + (n_marked * visits_width + 7) // 8
    end = seconds_at + (n_marked * seconds_width + 7) // 8
    if touches_width > 8 or visits_width > 8 or seconds_width > MAX_WIDTH or end > size:
        return -1
    for part in range(3):
        part_at = counts_at if part == 0 else visits_at if part == 1 else seconds_at
        _get_bits(packed, part_at, n_marked, touches_width if part == 0 else visits_width if part == 1 else seconds_width, scratch)
        for i in range(n_marked):
            column = n_columns - 1 - marked[i]
            if column < 0:
                break
            if part == 0:
                columns.counts[row, column] = scratch[i]
            elif part == 1:
                columns.visits[row, column] = scratch[i]
            else:
                first_s = np.int64(columns.times_s[row, column]) - scratch[i]
                if first_s < 0:
                    return -1
                columns.first_s[row, column] = first_s
    return end
