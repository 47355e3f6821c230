"""One user's row: the packed value that Redis keeps for a user. `recsys.state.user_rows` packs and reads many at once.

Layout 2, little-endian; a column's values lie side by side, the first in the lowest bits, and each column is padded to whole
bytes:

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
LEAST_BYTES = _FIRST_HEAD.size
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
    """One user's state, unpacked. Shapes: n history entries, oldest first; m older items."""

    items: U32
    times_s: U32
    weights: NDArray[np.int8]
    older: U32
    embeddings: tuple[Embedding, ...] = field(default=())


def unpack_row(packed: bytes) -> UserRow:
    """Return the row behind `packed`, of either layout. Raises LayoutError when lengths and header disagree."""
    layout = packed[0] if packed else 0
    if layout not in (FIRST_LAYOUT, LAYOUT):
        raise unknown_layout(layout)
    return unpack_first(packed) if layout == FIRST_LAYOUT else _unpack_second(packed)


def unpack_first(packed: bytes) -> UserRow:
    """Return the row behind `packed` of layout 1. Raises LayoutError when lengths and header disagree."""
    if len(packed) < _FIRST_HEAD.size:
        raise torn()
    _, n_embeddings, n, m, _ = _FIRST_HEAD.unpack_from(packed)
    at = _FIRST_HEAD.size
    if len(packed) < at + 9 * n + 4 * m:
        raise torn()
    items = np.frombuffer(packed, "<u4", n, at)
    times_s = np.frombuffer(packed, "<u4", n, at + 4 * n)
    weights = np.frombuffer(packed, np.int8, n, at + 8 * n)
    older = np.frombuffer(packed, "<u4", m, at + 9 * n)
    return UserRow(items, times_s, weights, older, _unpack_embeddings(packed, at + 9 * n + 4 * m, n_embeddings))


def _unpack_second(packed: bytes) -> UserRow:
    """Read column by column, in plain steps; `unpack_rows` does the same for many rows."""
    if len(packed) < _HEAD.size:
        raise torn()
    _, n_embeddings, n, m, n_weights, item_width, widths, n_jumps, smallest_item, newest_s = _HEAD.unpack_from(packed)
    n_gaps, gap_width, jump_bytes = max(n - 1, 0), widths & 63, (widths >> 6) + 1
    rest = _Cursor(packed, _HEAD.size)
    items = rest.bits(n, item_width) + smallest_item
    gaps = rest.bits(n_gaps, gap_width)
    places = rest.numbers(n_jumps, 1 if n <= SHORT_PLACES else 2)
    jumps = rest.numbers(n_jumps, jump_bytes)
    if n_jumps and (places[-1] >= n_gaps or (np.diff(places) <= 0).any() or (jumps >> max(MAX_WIDTH - gap_width, 0)).any()):
        raise torn()
    gaps[places] += jumps << gap_width
    if n_weights > min(n, MAX_PALETTE):
        raise torn()
    weights = rest.numbers(n_weights or n, 1).astype(np.uint8).view(np.int8)
    if n_weights:
        codes = rest.bits(n, int(n_weights - 1).bit_length())
        if n and codes.max() >= n_weights:
            raise torn()
        weights = weights[codes]
    older = np.zeros(0, np.int64)
    if m:
        width, smallest = rest.numbers(1, 1)[0], rest.numbers(1, 4)[0]
        older = rest.bits(m, int(width)) + smallest
    if max(items.max(initial=0), gaps.max(initial=0), older.max(initial=0)) >= 2**32:
        raise torn()
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
    return LayoutError(f"user row has layout {layout}, this version reads {FIRST_LAYOUT} and {LAYOUT}; {_REMEDY}")
