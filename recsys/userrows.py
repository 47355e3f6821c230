"""Users' rows: the packed value that Redis keeps for a user, made and read for many users at once.

Layout 2, little-endian; bit-packed columns as in `recsys.bitpacking`, each padded to whole bytes:

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.bitpacking import I64, MAX_WIDTH, SLACK_BYTES, U8, U32, bit_lengths, pack, packed_bytes, unpack, windows
from recsys.errors import LayoutError

LAYOUT = 2
FIRST_LAYOUT = 1

_HEAD = np.dtype(
    [
        *(("layout", "u1"), ("n_embeddings", "u1"), ("n", "<u2"), ("m", "<u2"), ("n_weights", "u1")),
        *(("item_width", "u1"), ("gap_width", "u1"), ("n_jumps", "u1"), ("smallest_item", "<u4"), ("newest_s", "<u4")),
    ]
)
_OLDER_HEAD = np.dtype([("width", "u1"), ("smallest", "<u4")])
_FIRST_HEAD = struct.Struct("<BBHHH")
_EMBEDDING = struct.Struct("<IHf")
_MAX_PALETTE = 16
_JUMPS_TRIED = np.array([0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 255])
"""How many gaps of a row may be wider than its gap width; of these the one that makes it shortest is taken."""
_SHORT_PLACES = 256
"""Histories up to this long name places by one byte."""
_CLASS_EDGES = np.array([16, 48, 104, 256, 512, 1024, 4096, 65536])
_CLASSED_ROWS = 256
"""Fewer rows than this are worked on together, however unlike in length: calls cost more than columns that nobody uses."""
_CACHED_ROWS = 2_048
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


@dataclass(frozen=True, slots=True)
class Histories:
    """Histories side by side, newest first: items u32, times_s u32, weights i8, all (R, C), and how much of each row is used, (R,). What is
    not used is 0."""

    items: U32
    times_s: U32
    weights: NDArray[np.int8]
    lengths: I64


def by_length(lengths: I64) -> Iterator[I64]:
    """Positions of rows that are alike in length, so that a grid over them is mostly used, a cacheful at a time."""
    if len(lengths) < _CLASSED_ROWS:
        if len(lengths):
            yield np.arange(len(lengths))
        return
    classes = np.searchsorted(_CLASS_EDGES, lengths)
    for one in np.unique(classes).tolist():
        rows = np.flatnonzero(classes == one)
        for at in range(0, len(rows), _CACHED_ROWS):
            yield rows[at : at + _CACHED_ROWS]


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
    """Column by column, in plain steps; `unpack_histories` does the same for many rows at once."""
    if len(packed) < _HEAD.itemsize:
        raise _torn()
    head = dict(zip(_HEAD.names or (), np.frombuffer(packed, _HEAD, 1)[0].item(), strict=True))
    n, m, n_jumps, n_weights = head["n"], head["m"], head["n_jumps"], head["n_weights"]
    n_gaps, gap_width, jump_bytes = max(n - 1, 0), head["gap_width"] & 63, (head["gap_width"] >> 6) + 1
    rest = _Cursor(packed, _HEAD.itemsize)
    items = rest.bits(n, head["item_width"]) + head["smallest_item"]
    gaps = rest.bits(n_gaps, gap_width)
    places = rest.numbers(n_jumps, 1 if n <= _SHORT_PLACES else 2)
    jumps = rest.numbers(n_jumps, jump_bytes)
    if n_jumps and (places[-1] >= n_gaps or (np.diff(places) <= 0).any() or (jumps >> max(MAX_WIDTH - gap_width, 0)).any()):
        raise _torn()
    gaps[places] += jumps << gap_width
    if n_weights > min(n, _MAX_PALETTE):
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
    times_s = head["newest_s"] - np.cumsum(np.concatenate((np.zeros(min(n, 1), np.int64), gaps)))
    return UserRow(
        items[::-1].astype(np.uint32),
        (times_s[::-1] & 0xFFFF_FFFF).astype(np.uint32),
        weights[::-1].copy(),
        older[::-1].astype(np.uint32),
        _unpack_embeddings(packed, rest.at, head["n_embeddings"]),
    )


class _Cursor:
    """Reads column after column of one row. Raises LayoutError at its end."""

    def __init__(self, packed: bytes, at: int) -> None:
        self._packed, self.at = packed, at

    def _take(self, n_bytes: int) -> U8:
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
        return bits.astype(np.int64) @ (1 << np.arange(width, dtype=np.int64))

    def numbers(self, count: int, n_bytes: int) -> I64:
        """So many values of so many bytes each."""
        taken = self._take(count * n_bytes).reshape(count, n_bytes)
        return taken.astype(np.int64) @ (1 << np.arange(0, 8 * n_bytes, 8, dtype=np.int64))


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


# -- many rows: packing ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the columns of rows start, in bytes from each row's start, and where the history part ends. All (R,)."""

    gaps: I64
    places: I64
    jumps: I64
    palette: I64
    codes: I64
    end: I64

    @classmethod
    def of(cls, n: I64, n_weights: I64, item_width: I64, gap_width: I64, n_jumps: I64, jump_bytes: I64) -> _Places:
        gaps = _HEAD.itemsize + packed_bytes(n, item_width)
        places = gaps + packed_bytes(np.maximum(n - 1, 0), gap_width)
        jumps = places + n_jumps * _place_bytes(n)
        palette = jumps + n_jumps * jump_bytes
        codes = palette + np.where(n_weights > 0, n_weights, n)
        end = codes + np.where(n_weights > 0, packed_bytes(n, _code_widths(n_weights)), 0)
        return cls(gaps, places, jumps, palette, codes, end)


def _place_bytes(n: I64) -> I64:
    return 1 + (n > _SHORT_PLACES).astype(np.int64)


def _code_widths(n_weights: I64) -> I64:
    return bit_lengths(np.maximum(n_weights - 1, 0).astype(np.uint32))


def pack_histories(histories: Histories, n_older: I64, n_embeddings: I64) -> list[bytes]:
    """The rows up to and without their older items and embeddings, of which there will be so many: (R,) each."""
    items, n = histories.items, histories.lengths
    n_rows, n_columns = items.shape
    unused = None if (n == n_columns).all() else np.arange(n_columns) >= n[:, None]
    smallest, relative = _relative(items, unused)
    item_width = bit_lengths(relative.max(axis=1, initial=0))
    gaps = histories.times_s[:, :-1] - histories.times_s[:, 1:]
    if unused is not None:
        gaps[unused[:, 1:]] = 0
    gap_width, jump_bytes, row, place = _jumps(gaps, n)
    jumps = gaps[row, place] >> gap_width[row].astype(np.uint32)
    gaps &= _masks(gap_width)[:, None]
    n_jumps = np.bincount(row, minlength=n_rows)
    n_weights, palette_row, palette, codes = _palettes(histories.weights, unused, n)

    at = _Places.of(n, n_weights, item_width, gap_width, n_jumps, jump_bytes)
    room = at.end + 4 * 8 * (n_columns // 8 + 1)  # a column is written with what is behind it, up to the widest of the grid
    start = np.cumsum(room) - room
    buffer = np.zeros(int(room.sum()), np.uint8)
    _write_columns(buffer, start + _HEAD.itemsize, relative, item_width)
    _write_columns(buffer, start + at.gaps, gaps, gap_width)
    rank = np.arange(len(row)) - (np.cumsum(n_jumps) - n_jumps)[row]
    _write_numbers(buffer, (start + at.places)[row] + rank * _place_bytes(n)[row], place, _place_bytes(n)[row])
    _write_numbers(buffer, (start + at.jumps)[row] + rank * jump_bytes[row], jumps.astype(np.int64), jump_bytes[row])
    coded = n_weights > 0
    first = np.cumsum(n_weights) - n_weights
    buffer[(start + at.palette)[palette_row] + np.arange(len(palette)) - first[palette_row]] = palette
    if not coded.all():
        windows(buffer, n_columns)[(start + at.palette)[~coded]] = histories.weights[~coded].view(np.uint8)
    if n_weights.max(initial=0) > 1:
        _write_columns(buffer, start + at.codes, codes, np.where(coded, _code_widths(n_weights), 0))

    head = np.zeros(n_rows, _HEAD)
    head["layout"], head["n_embeddings"], head["n"], head["m"], head["n_weights"] = LAYOUT, n_embeddings, n, n_older, n_weights
    head["item_width"], head["gap_width"], head["n_jumps"] = item_width, gap_width | ((jump_bytes - 1) << 6), n_jumps
    head["smallest_item"], head["newest_s"] = smallest, histories.times_s[:, 0] if n_columns else 0
    windows(buffer, _HEAD.itemsize)[start] = head.view(np.uint8).reshape(n_rows, _HEAD.itemsize)
    whole = buffer.tobytes()
    return [whole[first:last] for first, last in zip(start.tolist(), (start + at.end).tolist(), strict=True)]


def pack_older(items: Sequence[U32]) -> list[bytes]:
    """The part of a row for its older items (oldest first), at least one each."""
    parts: list[bytes] = [b""] * len(items)
    sizes = np.fromiter(map(len, items), np.int64, len(items))
    for rows in by_length(sizes):
        m = sizes[rows]
        used = np.arange(int(m.max())) < m[:, None]
        grid = np.zeros(used.shape, np.uint32)
        grid[used] = np.concatenate([items[row][::-1] for row in rows.tolist()])
        smallest, relative = _relative(grid, ~used)
        width = bit_lengths(relative.max(axis=1, initial=0))
        size = _OLDER_HEAD.itemsize + packed_bytes(m, width)
        room = size + 4 * 8 * (used.shape[1] // 8 + 1)
        start = np.cumsum(room) - room
        buffer = np.zeros(int(room.sum()), np.uint8)
        _write_columns(buffer, start + _OLDER_HEAD.itemsize, relative, width)
        head = np.zeros(len(rows), _OLDER_HEAD)
        head["width"], head["smallest"] = width, smallest
        windows(buffer, _OLDER_HEAD.itemsize)[start] = head.view(np.uint8).reshape(len(rows), _OLDER_HEAD.itemsize)
        whole = buffer.tobytes()
        for row, first, last in zip(rows.tolist(), start.tolist(), (start + size).tolist(), strict=True):
            parts[row] = whole[first:last]
    return parts


def _relative(values: U32, unused: NDArray[np.bool_] | None) -> tuple[U32, U32]:
    """The smallest used value of each row (R,), 0 where there is none, and how far the others are above it, 0 where unused."""
    if unused is None:
        smallest = values.min(axis=1) if values.shape[1] else np.zeros(len(values), np.uint32)
        return smallest, values - smallest[:, None]
    smallest = np.where(unused, np.uint32(0xFFFF_FFFF), values).min(axis=1, initial=0xFFFF_FFFF)
    smallest[unused.all(axis=1)] = 0
    relative = values - smallest[:, None]
    relative[unused] = 0
    return smallest, relative


def _jumps(gaps: U32, n: I64) -> tuple[I64, I64, I64, I64]:
    """The gap width that makes each row shortest (R,), bytes of its jumps (R,), and row and place of every gap that is wider."""
    n_rows, n_gaps = gaps.shape
    if not n_gaps:
        nothing = np.zeros(0, np.int64)
        return np.zeros(n_rows, np.int64), np.ones(n_rows, np.int64), nothing, nothing
    n_wider = _JUMPS_TRIED[: max(1, int(np.searchsorted(_JUMPS_TRIED, n_gaps)))]
    widths = bit_lengths(np.sort(gaps, axis=1)[:, -1 - n_wider])  # (R, tried): with that many gaps wider, at most
    jump_bytes = np.maximum((widths[:, :1] - widths + 7) // 8, 1)
    cost = packed_bytes(np.maximum(n - 1, 0)[:, None], widths) + n_wider * (_place_bytes(n)[:, None] + jump_bytes)
    best = (np.arange(n_rows), cost.argmin(axis=1))
    width = widths[best]
    row, place = np.divmod(np.flatnonzero(gaps > _masks(width)[:, None]), n_gaps)
    return width, jump_bytes[best], row, place


def _masks(widths: I64) -> U32:
    """The largest number of so many bits."""
    return ((np.int64(1) << widths) - 1).astype(np.uint32)


def _palettes(weights: NDArray[np.int8], unused: NDArray[np.bool_] | None, n: I64) -> tuple[I64, I64, U8, U32]:
    """How many distinct weights a row has (R,), 0 where they are kept one by one; row and value of each, row after row; codes (R, C)."""
    n_weights = np.minimum(n, 1)
    first = weights[:, :1].view(np.uint8)
    codes = np.zeros(weights.shape, np.uint32)
    unlike = weights != weights[:, :1]
    if unused is not None:
        unlike &= ~unused
    mixed = np.flatnonzero(unlike.any(axis=1))
    if not len(mixed):
        row = np.flatnonzero(n_weights)
        return n_weights, row, first[row].ravel(), codes
    bytes_of = weights[mixed].view(np.uint8)
    there = np.zeros((len(mixed), 256), np.bool_)
    rows = np.broadcast_to(np.arange(len(mixed))[:, None], bytes_of.shape)
    if unused is None:
        there[rows, bytes_of] = True
    else:
        used = ~unused[mixed]
        there[rows[used], bytes_of[used]] = True
    distinct = there.sum(axis=1)
    pays = (distinct <= _MAX_PALETTE) & (distinct + packed_bytes(n[mixed], _code_widths(distinct)) < n[mixed])
    n_weights[mixed] = np.where(pays, distinct, 0)
    code_of = there.cumsum(axis=1, dtype=np.uint8) - np.uint8(1)
    codes[mixed] = np.where(pays[:, None], np.take_along_axis(code_of, bytes_of.astype(np.int64), axis=1), 0)
    if unused is not None:
        codes[unused] = 0
    values = np.zeros((len(n), 256), np.bool_)
    values[np.arange(len(n)), first.ravel() if weights.shape[1] else 0] = n_weights > 0
    values[mixed] = there & pays[:, None]
    row, value = np.nonzero(values)
    return n_weights, row, value.astype(np.uint8), codes


def _write_columns(buffer: U8, start: I64, values: U32, widths: I64) -> None:
    """Each row of `values` (R, C) at its place, in its number of bits; up to C × width of them are written over."""
    for width in np.unique(widths).tolist():
        if width:
            rows = np.flatnonzero(widths == width)
            packed = pack(values if len(rows) == len(values) else values[rows], width)
            windows(buffer, packed.shape[1])[start[rows]] = packed


def _write_numbers(buffer: U8, at: I64, values: I64, n_bytes: I64) -> None:
    """Each value at its place, in its number of bytes."""
    for byte in range(int(n_bytes.max(initial=0))):
        here = n_bytes > byte
        buffer[at[here] + byte] = (values[here] >> (8 * byte)) & 0xFF


# -- many rows: reading ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Rows read together: `parts` are positions (R,) of rows that are alike in length, with their histories; `older` the older items by
    position, of the rows that have some."""

    parts: list[tuple[I64, Histories]]
    older: dict[int, U32]


def unpack_histories(packed: Sequence[bytes], at_most: int) -> Unpacked:
    """The newest `at_most` interactions and the older items of each row, of either layout. Raises LayoutError when any of them is torn."""
    found = Unpacked([], {})
    if not packed:
        return found
    sizes = np.fromiter(map(len, packed), np.int64, len(packed))
    if not sizes.all():
        raise _torn()
    behind = int(sizes.max()) + MAX_WIDTH + SLACK_BYTES  # columns are read with what is behind them, up to the longest beside them
    buffer = np.frombuffer(b"".join((*packed, bytes(behind))), np.uint8)
    starts = np.cumsum(sizes) - sizes
    layouts = buffer[starts]
    first = np.flatnonzero(layouts == FIRST_LAYOUT)
    if len(first):
        _unpack_first_layout(packed, first, at_most, found)
    second = np.flatnonzero(layouts == LAYOUT)
    if len(first) + len(second) < len(packed):
        raise _unknown_layout(int(layouts[(layouts != LAYOUT) & (layouts != FIRST_LAYOUT)][0]))
    if not len(second):
        return found
    if int(sizes[second].min()) < _HEAD.itemsize:
        raise _torn()
    heads = windows(buffer, _HEAD.itemsize)[starts[second]].view(_HEAD)[:, 0]
    for rows in by_length(np.minimum(heads["n"].astype(np.int64), at_most)):
        batch = _Batch.of(buffer, starts[second[rows]], sizes[second[rows]], heads[rows])
        found.parts.append((second[rows], batch.histories(at_most)))
        ends = batch.older(second[rows], found.older)
        batch.check_embeddings(ends)
    return found


def _unpack_first_layout(packed: Sequence[bytes], positions: I64, at_most: int, found: Unpacked) -> None:
    rows = [unpack_row(packed[position]) for position in positions.tolist()]
    lengths = np.array([min(len(row.items), at_most) for row in rows], np.int64)
    shape = (len(rows), int(lengths.max()))
    histories = Histories(np.zeros(shape, np.uint32), np.zeros(shape, np.uint32), np.zeros(shape, np.int8), lengths)
    for i, (position, row, n) in enumerate(zip(positions.tolist(), rows, lengths.tolist(), strict=True)):
        for column, grid in ((row.items, histories.items), (row.times_s, histories.times_s), (row.weights, histories.weights)):
            grid[i, :n] = column[::-1][:n]
        if len(row.older):
            found.older[position] = row.older.copy()
    found.parts.append((positions, histories))


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows of layout 2 in one buffer, their heads taken apart. All (R,); `places` from `starts`."""

    buffer: U8
    starts: I64
    sizes: I64
    n: I64
    m: I64
    n_embeddings: I64
    n_weights: I64
    item_width: I64
    gap_width: I64
    n_jumps: I64
    jump_bytes: I64
    smallest_item: U32
    newest_s: U32
    places: _Places

    @classmethod
    def of(cls, buffer: U8, starts: I64, sizes: I64, heads: NDArray[np.void]) -> _Batch:
        """Raises LayoutError when the columns that a head names do not fit its row."""
        names = ("n", "m", "n_embeddings", "n_weights", "item_width", "gap_width", "n_jumps")
        n, m, n_embeddings, n_weights, item_width, gap_width, n_jumps = (heads[name].astype(np.int64) for name in names)
        gap_width, jump_bytes = gap_width & 63, (gap_width >> 6) + 1
        places = _Places.of(n, n_weights, item_width, gap_width, n_jumps, jump_bytes)
        odd = (item_width > MAX_WIDTH) | (gap_width > MAX_WIDTH) | (n_weights > np.minimum(n, _MAX_PALETTE)) | (places.end > sizes)
        if odd.any():
            raise _torn()
        smallest, newest_s = heads["smallest_item"].astype(np.uint32), heads["newest_s"].astype(np.uint32)
        return cls(
            *(buffer, starts, sizes, n, m, n_embeddings, n_weights, item_width, gap_width, n_jumps, jump_bytes, smallest, newest_s, places)
        )

    def histories(self, at_most: int) -> Histories:
        """The newest `at_most` interactions of each row."""
        lengths = np.minimum(self.n, at_most)
        n_columns = int(lengths.max())
        unused = None if (lengths == n_columns).all() else np.arange(n_columns) >= lengths[:, None]
        items = _read_columns(self.buffer, self.starts + _HEAD.itemsize, lengths, self.item_width, n_columns)
        items += self.smallest_item[:, None]
        if unused is not None:
            items[unused] = 0
        if not self._above(items, unused):
            raise _torn()
        return Histories(items, self._times_s(lengths, n_columns, unused), self._weights(n_columns, unused), lengths)

    def _above(self, items: U32, unused: NDArray[np.bool_] | None) -> bool:
        """No sum of the smallest item and what an item is above it went beyond 32 bits."""
        above = items >= self.smallest_item[:, None]
        return bool(above.all() if unused is None else (above | unused).all())

    def _times_s(self, lengths: I64, n_columns: int, unused: NDArray[np.bool_] | None) -> U32:
        times_s = np.zeros((len(lengths), n_columns), np.uint32)
        if n_columns:
            gaps = _read_columns(self.buffer, self.starts + self.places.gaps, np.maximum(lengths - 1, 0), self.gap_width, n_columns - 1)
            self._add_jumps(gaps)
            times_s[:, 0] = self.newest_s
            times_s[:, 1:] = self.newest_s[:, None] - np.cumsum(gaps, axis=1, dtype=np.uint32)
            if unused is not None:
                times_s[unused] = 0
        return times_s

    def _add_jumps(self, gaps: U32) -> None:
        row: I64 = np.repeat(np.arange(len(self.n)), self.n_jumps)
        if not len(row):
            return
        rank: I64 = np.arange(len(row)) - (np.cumsum(self.n_jumps) - self.n_jumps)[row]
        n_bytes = _place_bytes(self.n)[row]
        place = _read_numbers(self.buffer, (self.starts + self.places.places)[row] + rank * n_bytes, n_bytes)
        n_bytes = self.jump_bytes[row]
        above = _read_numbers(self.buffer, (self.starts + self.places.jumps)[row] + rank * n_bytes, n_bytes)
        in_order = np.diff(place, prepend=-1) > 0
        if (place >= self.n[row] - 1).any() or not (in_order | (rank == 0)).all() or (above >> (MAX_WIDTH - self.gap_width[row])).any():
            raise _torn()
        read = place < gaps.shape[1]  # what is behind `at_most` is not
        gaps[row[read], place[read]] += (above[read] << self.gap_width[row[read]]).astype(np.uint32)

    def _weights(self, n_columns: int, unused: NDArray[np.bool_] | None) -> NDArray[np.int8]:
        """Every row's codes are looked at, so that a wrong one is found wherever it is."""
        at = self.starts + self.places.palette
        weights = np.zeros((len(at), n_columns), np.uint8)
        if n_columns:
            weights[:] = self.buffer[at][:, None]
        one_by_one = np.flatnonzero((self.n_weights == 0) & (self.n > 0))
        if len(one_by_one):
            most = min(n_columns, int(self.n[one_by_one].max()))
            weights[one_by_one, :most] = windows(self.buffer, most)[at[one_by_one]]
        coded = np.flatnonzero(self.n_weights > 1)
        if len(coded):
            n, k = self.n[coded], self.n_weights[coded]
            codes = _read_columns(self.buffer, (self.starts + self.places.codes)[coded], n, _code_widths(k), int(n.max()))
            if ((codes >= k[:, None]) & (np.arange(codes.shape[1]) < n[:, None])).any():
                raise _torn()
            palettes = windows(self.buffer, _MAX_PALETTE)[at[coded]]
            codes = np.minimum(codes[:, :n_columns], _MAX_PALETTE - 1)
            weights[coded, : codes.shape[1]] = np.take_along_axis(palettes, codes.astype(np.int64), axis=1)
        if unused is not None:
            weights[unused] = 0
        return weights.view(np.int8)

    def older(self, positions: I64, found: dict[int, U32]) -> I64:
        """Put the rows' older items, oldest first, into `found` under these positions; where the rows' embeddings start."""
        ends = self.starts + self.places.end
        some = np.flatnonzero(self.m)
        if not len(some):
            return ends
        if (self.places.end + _OLDER_HEAD.itemsize > self.sizes)[some].any():
            raise _torn()
        heads = windows(self.buffer, _OLDER_HEAD.itemsize)[ends[some]].view(_OLDER_HEAD)[:, 0]
        m, width = self.m[some], heads["width"].astype(np.int64)
        at = ends[some] + _OLDER_HEAD.itemsize
        ends[some] = at + packed_bytes(m, width)
        if (width > MAX_WIDTH).any() or (ends > self.starts + self.sizes).any():
            raise _torn()
        smallest = heads["smallest"].astype(np.uint32)
        for rows in by_length(m):
            items = _read_columns(self.buffer, at[rows], m[rows], width[rows], int(m[rows].max()))
            items += smallest[rows, None]
            if ((items < smallest[rows, None]) & (np.arange(items.shape[1]) < m[rows, None])).any():
                raise _torn()
            for row, position, count in zip(items, positions[some[rows]].tolist(), m[rows].tolist(), strict=True):
                found[position] = row[:count][::-1].copy()
        return ends

    def check_embeddings(self, at: I64) -> None:
        """Raises LayoutError when the embeddings, from these places on, do not end where their rows end."""
        ends = self.starts + self.sizes
        for number in range(int(self.n_embeddings.max())):
            more = self.n_embeddings > number
            if (at[more] + _EMBEDDING.size > ends[more]).any():
                raise _torn()
            dimension = _read_numbers(self.buffer, at[more] + 4, 2 + 0 * at[more])
            at[more] += _EMBEDDING.size + dimension
        if (at != ends).any():
            raise _torn()


def _read_columns(buffer: U8, at: I64, counts: I64, widths: I64, n_columns: int) -> U32:
    """From each place so many values of so many bits, (R, n_columns); what is behind a row's values is anything."""
    values = np.zeros((len(at), n_columns), np.uint32)
    for width in np.unique(widths).tolist():
        rows = np.flatnonzero(widths == width)
        most = int(counts[rows].max())
        if width and most:
            packed = windows(buffer, -(-most // 8) * width + SLACK_BYTES)[at[rows]]
            if len(rows) == len(values) and most == n_columns:
                return unpack(packed, most, width)
            values[rows, :most] = unpack(packed, most, width)
    return values


def _read_numbers(buffer: U8, at: I64, n_bytes: I64) -> I64:
    """The value at each place, of so many bytes."""
    values = np.zeros(len(at), np.int64)
    for byte in range(int(n_bytes.max(initial=0))):
        here = n_bytes > byte
        values[here] |= buffer[at[here] + byte].astype(np.int64) << (8 * byte)
    return values
