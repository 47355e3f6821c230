"""Users' rows packed and read many at once; their layout is in `recsys.state.user_row`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.state import user_row_kernel, user_row_reading_kernel
from recsys.state.user_row import FIRST_LAYOUT, LAYOUT, LEAST_BYTES, torn, unknown_layout, unpack_first

U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]


def pack_rows(
    items: U32,
    times_s: U32,
    weights: NDArray[np.int8],
    lengths: NDArray[np.int32],
    slots: I64,
    older: Sequence[U32],
    n_embeddings: I64,
) -> list[bytes]:
    """Return the rows of `slots` (R,) of a table: interactions (C, H), right-aligned, of which the last `lengths` (C,) are used; older
    items of each; and how many embeddings (R,) will follow, which these rows end before."""
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
    """Return the newest `at_most` interactions and the older items of each row, of either layout. Raises LayoutError when any of them is
    torn."""
    sizes = np.fromiter(map(len, packed), np.int64, len(packed))
    if len(packed) and int(sizes.min()) < LEAST_BYTES:
        raise torn()
    buffer = np.frombuffer(b"".join(packed), np.uint8)
    ends = np.cumsum(sizes)
    starts = ends - sizes
    n, n_older = (buffer[starts + at] + 256 * buffer[starts + at + 1].astype(np.int64) for at in (2, 4))  # in heads of either layout
    layouts, lengths, older_ends = buffer[starts], np.minimum(n, at_most), np.cumsum(n_older)
    if (odd := layouts[(layouts != LAYOUT) & (layouts != FIRST_LAYOUT)]).size:
        raise unknown_layout(int(odd[0]))
    shape = (len(packed), int(lengths.max(initial=0)))
    items, times_s, weights = np.zeros(shape, np.uint32), np.zeros(shape, np.uint32), np.zeros(shape, np.int8)
    all_older = np.empty(int(n_older.sum()), np.uint32)
    rows, older_starts = np.flatnonzero(layouts == LAYOUT), older_ends - n_older
    if not user_row_reading_kernel.read(buffer, starts, ends, rows, items, times_s, weights, all_older, older_starts, older_ends):
        raise torn()
    found = Unpacked(items, times_s, weights, lengths, {})
    for row in np.flatnonzero(n_older).tolist():
        found.older[row] = all_older[older_starts[row] : older_ends[row]].copy()
    for row in np.flatnonzero(layouts == FIRST_LAYOUT).tolist():
        own, used = unpack_first(packed[row]), slice(shape[1] - int(lengths[row]), shape[1])
        for column, grid in ((own.items, items), (own.times_s, times_s), (own.weights, weights)):
            grid[row, used] = column[len(column) - int(lengths[row]) :]
        if len(own.older):
            found.older[row] = own.older.copy()
    return found
