"""Users' rows packed and read many at once; their layout is in `recsys.state.user_row`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ShapeError
from recsys.state import user_row_kernel, user_row_reading_kernel
from recsys.state.user_columns import Columns, Histories
from recsys.state.user_row import LAYOUT, torn, unknown_layout
from recsys.state.user_row_kernel import HAS_OLDER, HEAD_BYTES, MOST_EMBEDDINGS, N_OLDER_BYTES

U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]


def pack_rows(held: Histories, slots: I64, older: Sequence[U32], n_embeddings: I64) -> list[bytes]:
    """Return the rows of `slots` (R,) of a table of histories, right-aligned (C, H); older items of each; and how many embeddings (R,)
    will follow, which these rows end before."""
    if not len(slots):
        return []
    if int(n_embeddings.max()) > MOST_EMBEDDINGS:
        raise ShapeError(f"a user row holds {MOST_EMBEDDINGS} embeddings, got {int(n_embeddings.max())}")
    sizes = np.fromiter(map(len, older), np.int64, len(older))
    room = user_row_kernel.room(held.lengths[slots].astype(np.int64), sizes)
    out, ends = np.empty(room, np.uint8), np.empty(len(slots), np.int64)
    user_row_kernel.write(held, slots, np.concatenate(older), np.cumsum(sizes), n_embeddings, out, ends)
    whole = out[: int(ends[-1])].tobytes()
    return [whole[start:end] for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Rows read together, newest entry in the last column: `columns` (R, W), of which the last `lengths` (R,) are used and the others 0;
    what is `spent` of each budget (R,); and the older items of the rows that have some, by position, oldest first."""

    columns: Columns
    lengths: I64
    spent: I64
    older: dict[int, U32]


def unpack_rows(packed: Sequence[bytes], at_most: int) -> Unpacked:
    """Return the newest `at_most` entries and the older items of each row. Raises LayoutError when any of them is torn or of another
    layout."""
    sizes = np.fromiter(map(len, packed), np.int64, len(packed))
    if len(packed) and not int(sizes.min()):
        raise torn()
    buffer = np.frombuffer(b"".join(packed), np.uint8)
    ends = np.cumsum(sizes)
    starts = ends - sizes
    if (other := np.flatnonzero(buffer[starts] != LAYOUT)).size:
        raise unknown_layout(packed[other[0]][0])
    if len(packed) and int(sizes.min()) < HEAD_BYTES:
        raise torn()
    n, spent = (buffer[starts + at] + 256 * buffer[starts + at + 1].astype(np.int64) for at in (2, 4))
    n_older, with_older = np.zeros(len(packed), np.int64), np.flatnonzero(buffer[starts + 1] & HAS_OLDER)
    if len(with_older) and int(sizes[with_older].min()) < HEAD_BYTES + N_OLDER_BYTES:
        raise torn()
    at = starts[with_older] + HEAD_BYTES
    n_older[with_older] = buffer[at] + 256 * buffer[at + 1].astype(np.int64)
    lengths, older_ends = np.minimum(n, at_most), np.cumsum(n_older)
    columns = Columns.zeros(len(packed), int(lengths.max(initial=0)))
    all_older, older_starts = np.empty(int(n_older.sum()), np.uint32), older_ends - n_older
    if not user_row_reading_kernel.read(buffer, starts, ends, columns, all_older, older_starts, older_ends):
        raise torn()
    found = Unpacked(columns, lengths, spent, {})
    for row in np.flatnonzero(n_older).tolist():
        found.older[row] = all_older[older_starts[row] : older_ends[row]].copy()
    return found
