"""Users' rows: the packed value that Redis keeps for a user, made and read for many users at once.

Layout 2, little-endian; values of so many bits lie side by side, the first in the lowest bits, and each column is padded to whole bytes:

    head       layout u8, embeddings u8, history length n u16, older items m u16, distinct weights k u8, item width u8, gap width u8 (its
               upper two bits: bytes of a jump − 1), jumps j u8, smallest item u32, newest time u32 seconds
    items      n × item width: item − smallest item, newest first, as everything below
    gaps       (n − 1) × gap width: seconds from each interaction to the one that arrived after it, modulo 2³², their lower bits
    jumps      for the j gaps that are wider: place among the gaps (u8, u16 above 256 interactions) ×j, then the bits above ×j
    weights    k ≤ 16 distinct values i8, then n codes of as many bits as k − 1 needs; k = 0: n × i8
    older      where m > 0: width u8, smallest u32, m × width: item − smallest
    embeddings each model tag u32, dimension d u16, scale f32, i8 × d

Layout 1, which is still read: head (layout u8, embeddings u8, n u16, m u16, reserved u16), oldest first items u32 × n, times u32 × n,
weights i8 × n, older u32 × m, embeddings. Weights are in units of 1/32.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.errors import LayoutError
from recsys.state import user_row_kernel
from recsys.state.user_row_kernel import MAX_PALETTE, MAX_WIDTH, SHORT_PLACES

LAYOUT = user_row_kernel.LAYOUT
FIRST_LAYOUT = 1

U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]

_HEAD = struct.Struct("<BBHHBBBBII")
_FIRST_HEAD = struct.Struct("<BBHHH")
_LEAST_BYTES = _FIRST_HEAD.size
_EMBEDDING = struct.Struct("<IHf")
_REMEDY = "upgrade or rebuild the state"


@dataclass(frozen=True, slots=True)
class Embedding:
    """A user vector as Redis keeps it: `tag` says which model version made it, `values` (D,) i8 times `scale` is the vector."""

    tag: int
    scale: float
    values: NDArray[np.int8]

    def vector(self) -> NDArray[np.float32]:
        """The vector, (D,) float32; each coordinate is off by at most half of `scale`."""
        return self.values.astype(np.float32) * np.float32(self.scale)


def model_tag(kind: str, version: str) -> int:
    """Return the stamp of embeddings that a version of a model kind made."""
    return zlib.crc32(f"{kind}/{version}".encode())


def pack_embeddings(tag: int, vectors: NDArray[np.float32]) -> list[bytes]:
    """Each row of `vectors` (U, D) as an int8 embedding stamped with `tag`."""
    dimension = vectors.shape[1]
    scales = np.abs(vectors).max(axis=1, initial=0.0) / 127.0
    quantised = np.rint(vectors / np.where(scales > 0, scales, 1.0)[:, None]).astype(np.int8).tobytes()
    return [
        _EMBEDDING.pack(tag, dimension, scale) + quantised[row * dimension : (row + 1) * dimension]
        for row, scale in enumerate(scales.tolist())
    ]


@dataclass(frozen=True, slots=True)
class UserRow:
    """One user's state, unpacked. Shapes: n history entries, oldest first; m older items."""

    items: U32
    times_s: U32
    weights: NDArray[np.int8]
    older: U32
    embeddings: tuple[Embedding, ...] = field(default=())


# -- one row -----------------------------------------------------------------------------------------------------------------------------


def unpack_row(packed: bytes) -> UserRow:
    """The row behind `packed`, of either layout. Raises LayoutError when lengths and header disagree."""
    layout = packed[0] if packed else 0
    if layout not in (FIRST_LAYOUT, LAYOUT):
        raise _unknown_layout(layout)
    return _unpack_first(packed) if layout == FIRST_LAYOUT else _unpack_second(packed)


def _unpack_first(packed: bytes) -> UserRow:
    if len(packed) < _FIRST_HEAD.size:
        raise _torn()
    _, n_embeddings, n, m, _ = _FIRST_HEAD.unpack_from(packed)
    at = _FIRST_HEAD.size
    if len(packed) < at + 9 * n + 4 * m:
        raise _torn()
    items = np.frombuffer(packed, "<u4", n, at)
    times_s = np.frombuffer(packed, "<u4", n, at + 4 * n)
    weights = np.frombuffer(packed, np.int8, n, at + 8 * n)
    older = np.frombuffer(packed, "<u4", m, at + 9 * n)
    return UserRow(items, times_s, weights, older, _unpack_embeddings(packed, at + 9 * n + 4 * m, n_embeddings))


def _unpack_second(packed: bytes) -> UserRow:
    """Column by column, in plain steps; `unpack_rows` does the same for many rows."""
    if len(packed) < _HEAD.size:
        raise _torn()
    _, n_embeddings, n, m, n_weights, item_width, widths, n_jumps, smallest_item, newest_s = _HEAD.unpack_from(packed)
    n_gaps, gap_width, jump_bytes = max(n - 1, 0), widths & 63, (widths >> 6) + 1
    rest = _Cursor(packed, _HEAD.size)
    items = rest.bits(n, item_width) + smallest_item
    gaps = rest.bits(n_gaps, gap_width)
    places = rest.numbers(n_jumps, 1 if n <= SHORT_PLACES else 2)
    jumps = rest.numbers(n_jumps, jump_bytes)
    if n_jumps and (places[-1] >= n_gaps or (np.diff(places) <= 0).any() or (jumps >> max(MAX_WIDTH - gap_width, 0)).any()):
        raise _torn()
    gaps[places] += jumps << gap_width
    if n_weights > min(n, MAX_PALETTE):
        raise _torn()
    weights = rest.numbers(n_weights or n, 1).astype(np.uint8).view(np.int8)
    if n_weights:
        codes = rest.bits(n, int(n_weights - 1).bit_length())
        if n and codes.max() >= n_weights:
            raise _torn()
        weights = weights[codes]
    older = np.zeros(0, np.int64)
    if m:
        width, smallest = rest.numbers(1, 1)[0], rest.numbers(1, 4)[0]
        older = rest.bits(m, int(width)) + smallest
    if max(items.max(initial=0), gaps.max(initial=0), older.max(initial=0)) >= 2**32:
        raise _torn()
    times_s = newest_s - np.cumsum(np.concatenate((np.zeros(min(n, 1), np.int64), gaps)))
    return UserRow(
        items[::-1].astype(np.uint32),
        (times_s[::-1] & 0xFFFF_FFFF).astype(np.uint32),
        weights[::-1].copy(),
        older[::-1].astype(np.uint32),
        _unpack_embeddings(packed, rest.at, n_embeddings),
    )


class _Cursor:
    """Reads column after column of one row. Raises LayoutError at its end."""

    def __init__(self, packed: bytes, at: int) -> None:
        self._packed, self.at = packed, at

    def _take(self, n_bytes: int) -> NDArray[np.uint8]:
        if self.at + n_bytes > len(self._packed):
            raise _torn()
        self.at += n_bytes
        return np.frombuffer(self._packed, np.uint8, n_bytes, self.at - n_bytes)

    def bits(self, count: int, width: int) -> I64:
        """So many values of so many bits each."""
        if width > MAX_WIDTH:
            raise _torn()
        taken = self._take((count * width + 7) // 8)
        bits = np.unpackbits(taken, count=count * width, bitorder="little").reshape(count, width)
        values: I64 = bits.astype(np.int64) @ (1 << np.arange(width, dtype=np.int64))
        return values

    def numbers(self, count: int, n_bytes: int) -> I64:
        """So many values of so many bytes each."""
        taken = self._take(count * n_bytes).reshape(count, n_bytes)
        numbers: I64 = taken.astype(np.int64) @ (1 << np.arange(0, 8 * n_bytes, 8, dtype=np.int64))
        return numbers


def _unpack_embeddings(packed: bytes, at: int, n_embeddings: int) -> tuple[Embedding, ...]:
    found = []
    for _ in range(n_embeddings):
        if len(packed) < at + _EMBEDDING.size:
            raise _torn()
        tag, dimension, scale = _EMBEDDING.unpack_from(packed, at)
        at += _EMBEDDING.size
        if len(packed) < at + dimension:
            raise _torn()
        found.append(Embedding(tag, scale, np.frombuffer(packed, np.int8, dimension, at)))
        at += dimension
    if at != len(packed):
        raise _torn()
    return tuple(found)


def _torn() -> LayoutError:
    return LayoutError("user row is torn: its length and its header disagree; rebuild the state")


def _unknown_layout(layout: int) -> LayoutError:
    return LayoutError(f"user row has layout {layout}, this version reads {FIRST_LAYOUT} and {LAYOUT}; {_REMEDY}")


# -- many rows ---------------------------------------------------------------------------------------------------------------------------


def pack_rows(
    items: U32,
    times_s: U32,
    weights: NDArray[np.int8],
    lengths: NDArray[np.int32],
    slots: I64,
    older: Sequence[U32],
    n_embeddings: I64,
) -> list[bytes]:
    """The rows of `slots` (R,) of a table: interactions (C, H), right-aligned, of which the last `lengths` (C,) are used; older items of
    each; and how many embeddings (R,) will follow, which these rows end before."""
    if not len(slots):
        return []
    sizes = np.fromiter(map(len, older), np.int64, len(older))
    out, ends = np.empty(user_row_kernel.room(lengths[slots].astype(np.int64), sizes), np.uint8), np.empty(len(slots), np.int64)
    user_row_kernel.write(items, times_s, weights, lengths, slots, np.concatenate(older), np.cumsum(sizes), n_embeddings, out, ends)
    whole = out[: int(ends[-1])].tobytes()
    return [whole[start:end] for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Rows read together, newest interaction in the last column: `items`, `times_s` and `weights` (R, W), of which the last `lengths` (R,)
    are used and the others 0; and the older items of the rows that have some, by position, oldest first."""

    items: U32
    times_s: U32
    weights: NDArray[np.int8]
    lengths: I64
    older: dict[int, U32]


def unpack_rows(packed: Sequence[bytes], at_most: int) -> Unpacked:
    """The newest `at_most` interactions and the older items of each row, of either layout. Raises LayoutError when any of them is torn."""
    sizes = np.fromiter(map(len, packed), np.int64, len(packed))
    if len(packed) and int(sizes.min()) < _LEAST_BYTES:
        raise _torn()
    buffer = np.frombuffer(b"".join(packed), np.uint8)
    ends = np.cumsum(sizes)
    starts = ends - sizes
    n, n_older = (buffer[starts + at] + 256 * buffer[starts + at + 1].astype(np.int64) for at in (2, 4))  # in heads of either layout
    layouts, lengths, older_ends = buffer[starts], np.minimum(n, at_most), np.cumsum(n_older)
    if (odd := layouts[(layouts != LAYOUT) & (layouts != FIRST_LAYOUT)]).size:
        raise _unknown_layout(int(odd[0]))
    shape = (len(packed), int(lengths.max(initial=0)))
    items, times_s, weights = np.zeros(shape, np.uint32), np.zeros(shape, np.uint32), np.zeros(shape, np.int8)
    all_older = np.empty(int(n_older.sum()), np.uint32)
    rows, older_starts = np.flatnonzero(layouts == LAYOUT), older_ends - n_older
    if not user_row_kernel.read(buffer, starts, ends, rows, items, times_s, weights, all_older, older_starts, older_ends):
        raise _torn()
    found = Unpacked(items, times_s, weights, lengths, {})
    for row in np.flatnonzero(n_older).tolist():
        found.older[row] = all_older[older_starts[row] : older_ends[row]].copy()
    for row in np.flatnonzero(layouts == FIRST_LAYOUT).tolist():
        own, used = _unpack_first(packed[row]), slice(shape[1] - int(lengths[row]), shape[1])
        for column, grid in ((own.items, items), (own.times_s, times_s), (own.weights, weights)):
            grid[row, used] = column[len(column) - int(lengths[row]) :]
        if len(own.older):
            found.older[row] = own.older.copy()
    return found
