"""Packed rows: an item's neighbours as a header and appended 8-byte records.

A row is an 8-byte header (generation u32, length of its compacted body in bytes u32) and records (neighbour u32, weight u32 in units of
1/64), all little-endian. The value of a neighbour is the sum of its records, so appending is adding. Compaction replaces a prefix by its
sums and bumps the generation; a reader that holds a copy of generation g and n bytes need only read what follows byte n while g stands.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys.errors import LayoutError, ShapeError

U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]

WEIGHT_ONE = 64
"""Units of a record's weight that make 1.0."""
HEADER_BYTES = 8
RECORD_BYTES = 8
MAX_WEIGHT = 0xFFFF_FFFF
MOST_NUMBERS = 1 << 32
"""As many item numbers as a record can hold: the cap of a row that has none."""
"""Heaviest single record, in units; a larger sum is written as several records."""

_U32 = np.dtype("<u4")
_HEADER = struct.Struct("<II")


class Row(NamedTuple):
    """A decoded row. `base_length` is the compacted body's length in bytes; `neighbours` and `weights` are (R,), unsummed, as stored."""

    generation: int
    base_length: int
    neighbours: U32
    weights: U32


def records(body: bytes | memoryview) -> tuple[U32, U32]:
    """Decode a headerless body into neighbours (R,) and weights (R,) in units of 1/64.

    Raises: LayoutError if the length is no multiple of 8 bytes.
    """
    if len(body) % RECORD_BYTES:
        raise LayoutError(f"records are torn: {len(body)} bytes are no multiple of {RECORD_BYTES}; drop the row and replay its range")
    pairs = np.frombuffer(body, dtype=_U32)
    return pairs[0::2], pairs[1::2]


def parse_header(row: bytes) -> tuple[int, int]:
    """Return the generation and length in bytes of the compacted body of a whole row.

    Raises: LayoutError if the header is torn or the compacted body is said to be longer than what follows.
    """
    if len(row) < HEADER_BYTES:
        raise LayoutError(f"a row of {len(row)} bytes has no {HEADER_BYTES}-byte header; drop the row and replay its range")
    generation, base_length = _HEADER.unpack_from(row)
    if base_length % RECORD_BYTES or base_length > len(row) - HEADER_BYTES:
        there = len(row) - HEADER_BYTES
        raise LayoutError(f"a row's header claims {base_length} compacted bytes of {there}; drop the row and replay its range")
    return generation, base_length


def parse_row(row: bytes) -> Row:
    """Decode a whole row, header included.

    Raises: LayoutError if the header is torn, a record is torn, or the compacted body is said to be longer than what follows.
    """
    generation, base_length = parse_header(row)
    neighbours, weights = records(memoryview(row)[HEADER_BYTES:])
    return Row(generation, base_length, neighbours, weights)


def pack_header(generation: int, base_length: int) -> bytes:
    """Encode a header; `generation` wraps at 2**32, `base_length` is in bytes."""
    return np.array([generation & 0xFFFF_FFFF, base_length], dtype=_U32).tobytes()


def run_ends(values: NDArray[np.integer[Any]]) -> I64:
    """Return where each run of equal values ends, (R,)."""
    if not len(values):
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.concatenate((values[1:] != values[:-1], [True]))) + 1


def sum_pairs(rows: NDArray[np.integer[Any]], neighbours: U32, weights: I64) -> tuple[I64, U32, I64]:
    """Return the same additions with each (row, neighbour) once, sorted by row, then neighbour. Weights ≥ 0."""
    if not len(rows):
        return rows.astype(np.int64), neighbours, weights
    row_bits, neighbour_bits, weight_bits = (int(part.max()).bit_length() for part in (rows, neighbours, weights))
    low = np.uint64(neighbour_bits)
    key = (rows.astype(np.uint64) << low) | neighbours
    if row_bits + neighbour_bits + weight_bits <= 64:  # the weight rides along: sorting numbers takes a third of sorting places
        packed = np.sort((key << np.uint64(weight_bits)) | weights.astype(np.uint64))
        key = packed >> np.uint64(weight_bits)
        weights = (packed & np.uint64((1 << weight_bits) - 1)).astype(np.int64)
    else:
        order = np.argsort(key)
        key, weights = key[order], weights[order]
    starts = np.concatenate(([True], key[1:] != key[:-1]))
    first = np.flatnonzero(starts)
    key = key[first]
    return (key >> low).astype(np.int64), (key & np.uint64((1 << neighbour_bits) - 1)).astype(np.uint32), np.add.reduceat(weights, first)


def sum_records(neighbours: ArrayLike, weights: ArrayLike) -> tuple[U32, I64]:
    """Sum the weights of equal neighbours.

    Returns: distinct neighbours (N,) ascending and their exact sums (N,) in units. Both empty for no records. Raises: ShapeError if the
    arrays are not of one length."""
    keys, units = np.asarray(neighbours, dtype=np.uint32), np.asarray(weights)
    if keys.ndim != 1 or keys.shape != units.shape:
        raise ShapeError(f"neighbours and weights need one length, got {keys.shape} and {units.shape}")
    if len(keys) == 0:
        return np.empty(0, np.uint32), np.empty(0, np.int64)
    order = np.argsort(keys, kind="stable")
    keys, units = keys[order], units[order].astype(np.int64)
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    return keys[starts], np.add.reduceat(units, starts)


def neighbour_values(neighbours: ArrayLike, weights: ArrayLike) -> tuple[U32, NDArray[np.float32]]:
    """Return `sum_records` with the sums as float32 in units of 1.0; exact below 2¹⁸."""
    distinct, sums = sum_records(neighbours, weights)
    return distinct, sums.astype(np.float32) / np.float32(WEIGHT_ONE)


def pack_records(neighbours: ArrayLike, weights: ArrayLike) -> bytes:
    """Encode neighbours (R,) and weights (R,) in units as records; a weight above `MAX_WEIGHT` becomes several records.

    Raises: ShapeError if the arrays are not of one length, LayoutError if a weight is negative.
    """
    keys, units = np.asarray(neighbours, dtype=np.uint32), np.asarray(weights)
    if keys.ndim != 1 or keys.shape != units.shape:
        raise ShapeError(f"neighbours and weights need one length, got {keys.shape} and {units.shape}")
    if units.dtype != np.uint32:
        units = units.astype(np.int64)
        if len(units) and int(units.min()) < 0:
            raise LayoutError("a record's weight is negative; rows hold sums of weights of 0 and more")
        if len(units) and int(units.max()) > MAX_WEIGHT:
            pieces = np.maximum(1, -(-units // MAX_WEIGHT))
            keys, last = np.repeat(keys, pieces), np.cumsum(pieces) - 1
            split = np.full(len(keys), MAX_WEIGHT, dtype=np.int64)
            split[last] = units - (pieces - 1) * MAX_WEIGHT
            units = split
    packed = np.empty((len(keys), 2), dtype=_U32)  # (R, 2): neighbour, weight
    packed[:, 0] = keys
    packed[:, 1] = units
    return packed.tobytes()


def compact(row: bytes, cap: int) -> bytes:
    """Return the body that says the same as `row` in one record a neighbour, ascending by neighbour, at most `cap` neighbours.

    Beyond `cap` the lightest are cut; of equally light ones the highest numbers go first, so the result depends on the sums alone.
    Raises: LayoutError if the row is torn."""
    if cap < 1:
        raise ShapeError(f"the cap on neighbours must be at least 1, got {cap}")
    parsed = parse_row(row)
    neighbours, sums = sum_records(parsed.neighbours, parsed.weights)
    if len(neighbours) > cap:
        kept = np.sort(np.argsort(-sums, kind="stable")[:cap])  # stable: among equals the lowest number comes first
        neighbours, sums = neighbours[kept], sums[kept]
    return pack_records(neighbours, sums)


def compact_rows(packed: Sequence[bytes], cap: int) -> list[bytes]:
    """Return `compact` of each row, in one pass over the records of all of them. Raises: LayoutError if any row is torn."""
    if cap < 1:
        raise ShapeError(f"the cap on neighbours must be at least 1, got {cap}")
    if not packed:
        return []
    for row in packed:
        parse_header(row)
        if (len(row) - HEADER_BYTES) % RECORD_BYTES:
            records(memoryview(row)[HEADER_BYTES:])  # raises
    neighbours, weights = records(b"".join([memoryview(row)[HEADER_BYTES:] for row in packed]))
    sizes = (np.array([len(row) for row in packed], np.int64) - HEADER_BYTES) // RECORD_BYTES
    owners = np.repeat(np.arange(len(packed)), sizes)
    owners, neighbours, sums = sum_pairs(owners, neighbours, weights.astype(np.int64))
    counts = np.bincount(owners, minlength=len(packed))
    if int(counts.max(initial=0)) > cap or int(sums.max(initial=0)) > MAX_WEIGHT:  # rare: one by one
        return [compact(row, cap) for row in packed]
    body = pack_records(neighbours, sums)
    ends = (np.cumsum(counts) * RECORD_BYTES).tolist()
    return [body[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
