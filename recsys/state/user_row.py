"""One user's row: the packed value that Redis keeps for a user. `recsys.state.user_rows` packs and reads many at once.

Layout 3, little-endian; a column's values lie side by side, the first in the lowest bits, and each column is padded to whole bytes:

    head       layout u8, flags u8 (embeddings in 6 bits, 64: there are touches, 128: there are older items), entries n u16, spent events
               u16, distinct tags k u8, item width u8, gap width u8 (its upper two bits: bytes of a jump − 1), jumps j u8, smallest item
               u32, newest touch u32 seconds; only with older items: their number m u16
    items      n × item width: item − smallest item, newest touch first, as everything below
    gaps       (n − 1) × gap width: seconds from each entry's last touch to that of the entry before it, their lower bits
    jumps      for the j gaps that are wider: place among the gaps (u8, u16 above 256 entries) ×j, then the bits above ×j
    tags       k distinct pairs: weights i8 ×k, types u8 ×k, then n codes of as many bits as k − 1 needs; k = 0: n × i8, n × u8
    touches    only with entries that were touched more than once: touches width in 4 bits, visits width in 4 bits, seconds width u8; n
               bits, set for such entries; then of these the touches, the visits, and the seconds from the first touch to the last
    older      only with older items: width u8, smallest u32, m × width: item − smallest
    embeddings each model tag u32, dimension d u16, scale f32, i8 × d

An entry that was touched once has one touch, one visit if its weight is above 0, and a first touch that is the last. Weights are in units
of 1/32. Layouts 1 and 2 kept a row for every event; a state that has them is of an older layout version and is rebuilt.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.errors import LayoutError
from recsys.state import user_row_kernel
from recsys.state.user_columns import Columns
from recsys.state.user_row_kernel import HAS_OLDER, HAS_TOUCHES, MAX_WIDTH, MOST_EMBEDDINGS, SHORT_PLACES

LAYOUT = user_row_kernel.LAYOUT

U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]

_HEAD = struct.Struct("<BBHHBBBBII")
_EMBEDDING = struct.Struct("<IHf")
_REMEDY = "upgrade or rebuild the state"


@dataclass(frozen=True, slots=True)
class Embedding:
    """A user vector as Redis keeps it: `tag` says which model version made it, `values` (D,) i8 times `scale` is the vector."""

    tag: int
    scale: float
    values: NDArray[np.int8]

    def vector(self) -> NDArray[np.float32]:
        """Return the vector, (D,) float32; each coordinate is off by at most half of `scale`."""
        return self.values.astype(np.float32) * np.float32(self.scale)


def model_tag(kind: str, version: str) -> int:
    """Return the stamp of embeddings that a version of a model kind made."""
    return zlib.crc32(f"{kind}/{version}".encode())


def pack_embeddings(tag: int, vectors: NDArray[np.float32]) -> list[bytes]:
    """Return each row of `vectors` (U, D) as an int8 embedding stamped with `tag`."""
    dimension = vectors.shape[1]
    scales = np.abs(vectors).max(axis=1, initial=0.0) / 127.0
    quantised = np.rint(vectors / np.where(scales > 0, scales, 1.0)[:, None]).astype(np.int8).tobytes()
    return [
        _EMBEDDING.pack(tag, dimension, scale) + quantised[row * dimension : (row + 1) * dimension]
        for row, scale in enumerate(scales.tolist())
    ]


@dataclass(frozen=True, slots=True)
class UserRow:
    """One user's state, unpacked. Shapes: n entries, oldest touch first; m older items. `spent` events of the user's budget."""

    columns: Columns
    spent: int
    older: U32
    embeddings: tuple[Embedding, ...] = field(default=())

    @property
    def items(self) -> U32:
        return self.columns.items

    @property
    def times_s(self) -> U32:
        return self.columns.times_s

    @property
    def weights(self) -> NDArray[np.int8]:
        return self.columns.weights


def unpack_row(packed: bytes) -> UserRow:
    """Return the row behind `packed`, read column by column in plain steps; `unpack_rows` does the same for many rows. Raises LayoutError
    when lengths and header disagree, or for another layout."""
    layout = packed[0] if packed else 0
    if layout != LAYOUT:
        raise unknown_layout(layout)
    if len(packed) < _HEAD.size:
        raise torn()
    _, flags, n, spent, n_tags, item_width, widths, n_jumps, smallest_item, newest_s = _HEAD.unpack_from(packed)
    rest = _Cursor(packed, _HEAD.size)
    m = int(rest.numbers(1, 2)[0]) if flags & HAS_OLDER else 0
    items = rest.bits(n, item_width) + smallest_item
    times_s = newest_s - np.cumsum(np.concatenate((np.zeros(min(n, 1), np.int64), _gaps(rest, n, widths, n_jumps))))
    weights, types = _tags(rest, n, n_tags)
    touches, visits, seconds = np.ones(n, np.int64), (weights > 0).astype(np.int64), np.zeros(n, np.int64)
    if flags & HAS_TOUCHES:
        touches_width, seconds_width = rest.numbers(2, 1).tolist()
        marked = np.flatnonzero(rest.bits(n, 1))
        for column, width, most in ((touches, touches_width & 15, 8), (visits, touches_width >> 4, 8), (seconds, seconds_width, MAX_WIDTH)):
            if width > most:
                raise torn()
            column[marked] = rest.bits(len(marked), width)
    older = np.zeros(0, np.int64)
    if flags & HAS_OLDER:
        width, smallest = rest.numbers(1, 1)[0], rest.numbers(1, 4)[0]
        older = rest.bits(m, int(width)) + smallest
    first_s = times_s - seconds
    if max(items.max(initial=0), older.max(initial=0)) >= 2**32 or min(times_s.min(initial=0), first_s.min(initial=0)) < 0:
        raise torn()
    if (m == 0) == bool(flags & HAS_OLDER):
        raise torn()
    kinds = (np.uint32, np.uint32, np.uint32, np.int8, np.uint8, np.uint8, np.uint8)
    values = (items, times_s, first_s, weights, types, touches, visits)
    columns = Columns(*(column[::-1].astype(kind) for column, kind in zip(values, kinds, strict=True)))
    return UserRow(columns, spent, older[::-1].astype(np.uint32), _unpack_embeddings(packed, rest.at, flags & MOST_EMBEDDINGS))


def _gaps(rest: _Cursor, n: int, widths: int, n_jumps: int) -> I64:
    """Read the gaps between n entries, with their jumps."""
    n_gaps, gap_width, jump_bytes = max(n - 1, 0), widths & 63, (widths >> 6) + 1
    gaps = rest.bits(n_gaps, gap_width)
    places = rest.numbers(n_jumps, 1 if n <= SHORT_PLACES else 2)
    jumps = rest.numbers(n_jumps, jump_bytes)
    if n_jumps and (places[-1] >= n_gaps or (np.diff(places) <= 0).any() or (jumps >> max(MAX_WIDTH - gap_width, 0)).any()):
        raise torn()
    gaps[places] += jumps << gap_width
    return gaps


def _tags(rest: _Cursor, n: int, n_tags: int) -> tuple[NDArray[np.int8], I64]:
    """Read the weights and the types of n entries."""
    if n_tags > n:
        raise torn()
    weights = rest.numbers(n_tags or n, 1).astype(np.uint8).view(np.int8)
    types = rest.numbers(n_tags or n, 1)
    if n_tags:
        codes = rest.bits(n, int(n_tags - 1).bit_length())
        if n and codes.max() >= n_tags:
            raise torn()
        weights, types = weights[codes], types[codes]
    return weights, types


class _Cursor:
    """Reads column after column of one row. Raises LayoutError at its end."""

    def __init__(self, packed: bytes, at: int) -> None:
        self._packed, self.at = packed, at

    def _take(self, n_bytes: int) -> NDArray[np.uint8]:
        if self.at + n_bytes > len(self._packed):
            raise torn()
        self.at += n_bytes
        return np.frombuffer(self._packed, np.uint8, n_bytes, self.at - n_bytes)

    def bits(self, count: int, width: int) -> I64:
        """Read `count` values of `width` bits each."""
        if width > MAX_WIDTH:
            raise torn()
        taken = self._take((count * width + 7) // 8)
        bits = np.unpackbits(taken, count=count * width, bitorder="little").reshape(count, width)
        values: I64 = bits.astype(np.int64) @ (1 << np.arange(width, dtype=np.int64))
        return values

    def numbers(self, count: int, n_bytes: int) -> I64:
        """Read `count` values of `n_bytes` bytes each."""
        taken = self._take(count * n_bytes).reshape(count, n_bytes)
        numbers: I64 = taken.astype(np.int64) @ (1 << np.arange(0, 8 * n_bytes, 8, dtype=np.int64))
        return numbers


def _unpack_embeddings(packed: bytes, at: int, n_embeddings: int) -> tuple[Embedding, ...]:
    found = []
    for _ in range(n_embeddings):
        if len(packed) < at + _EMBEDDING.size:
            raise torn()
        tag, dimension, scale = _EMBEDDING.unpack_from(packed, at)
        at += _EMBEDDING.size
        if len(packed) < at + dimension:
            raise torn()
        found.append(Embedding(tag, scale, np.frombuffer(packed, np.int8, dimension, at)))
        at += dimension
    if at != len(packed):
        raise torn()
    return tuple(found)


def torn() -> LayoutError:
    """Return the error of a row whose length and header disagree."""
    return LayoutError("user row is torn: its length and its header disagree; rebuild the state")


def unknown_layout(layout: int) -> LayoutError:
    """Return the error of a row of a layout that this version does not read."""
    return LayoutError(f"user row has layout {layout}, this version reads {LAYOUT}; {_REMEDY}")
