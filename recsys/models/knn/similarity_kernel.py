"""Nearest neighbours, compiled. Shapes: U users who are asked for, L entries of a history, K neighbours, M stored users, I items."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from recsys.index.scan_kernel import replace_least
from recsys.jit import compiled

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@compiled
def nearest(starts: I64, values: F32, size: int, kept: NDArray[np.bool_]) -> None:
    """Mark in `kept` (n,) the up to `size` largest values above 0 of each row, `values` (n,) from `starts[m]` to `starts[m + 1]`."""
    best, at = np.empty(size, np.float32), np.empty(size, np.int64)
    for row in range(len(starts) - 1):
        best[:], at[:] = 0, -1
        for place in range(starts[row], starts[row + 1]):
            kept[place] = False
            if values[place] > best[0]:
                replace_least(best, at, values[place], place)
        for found in at:
            if found >= 0:
                kept[found] = True


@compiled
def norm(n: int, m: int, n_items: int, shrink: float, centred: bool) -> float:
    """Return the denominator of the similarity of two users of `n` and `m` items; 0 where they cannot be compared."""
    if centred:
        squares = n * (1.0 - n / n_items) * m * (1.0 - m / n_items)
        return math.sqrt(squares) + shrink if squares > 1e-9 else 0.0
    return math.sqrt(n * m) + shrink


@compiled
def read_users(
    starts: I64, users: I32, sizes: I32, liked: I32, shrink: float, centred: bool, places: I32, weights: F32, lengths: I32
) -> None:
    """Write the nearest stored users of each history and their similarities above 0 into `places` and `weights` (U, K), −1 and 0 for none,
    and the number of liked items into `lengths` (U,).

    `liked` (U, L) are items, −1 for none. Users of item i are `users` from `starts[i]` to `starts[i + 1]`; `sizes` (M,) is how many items
    a stored user has. The similarity is cosine, or Pearson if `centred`.
    """
    n_items = len(starts) - 1
    common, touched = np.zeros(len(sizes), np.int32), np.empty(len(sizes), np.int32)
    best, at = np.empty(places.shape[1], np.float32), np.empty(places.shape[1], np.int64)
    for user in range(len(liked)):
        n, n_touched = 0, 0
        for column in range(liked.shape[1]):
            item = liked[user, column]
            if item < 0:
                continue
            n += 1
            for place in range(starts[item], starts[item + 1]):
                other = users[place]
                if common[other] == 0:
                    touched[n_touched] = other
                    n_touched += 1
                common[other] += 1
        best[:], at[:] = 0, -1
        for t in range(n_touched):
            other = touched[t]
            m = sizes[other]
            below = norm(n, m, n_items, shrink, centred)
            above = common[other] - (n * m / n_items if centred else 0.0)
            common[other] = 0
            if below > 0:
                similar = np.float32(above / below)
                if similar > best[0]:
                    replace_least(best, at, similar, other)
        lengths[user] = n
        for k in range(len(at)):
            places[user, k] = at[k]
            weights[user, k] = best[k] if at[k] >= 0 else np.float32(0)


@compiled
def explain_users(
    own_starts: I64, own_columns: I32, starts: I64, columns: I32, neighbours: I32, weights: F32, lengths: I32, n_items: int, shrink: float,
    centred: bool, places: I32, items: I64, sums: F32, scale: F32, added: F32,
) -> None:  # fmt: skip
    """Add to `added` (U, K, R) what each liked item at `places` (U, R) gave to the similarity of the `neighbours` (U, N) who have the
    `items` (U, K), times `scale` (U,).

    Stored users' items are `own_columns` from `own_starts` on the model's axis, ascending, and `columns` from `starts` as `items` are
    numbered. `sums` is zero before and after.
    """
    for user in range(len(items)):
        if scale[user] == 0:
            continue
        for k in range(neighbours.shape[1]):
            other = neighbours[user, k]
            if other < 0 or weights[user, k] == 0:
                continue
            for at in range(starts[other], starts[other + 1]):
                sums[columns[at]] = 1
            own = own_columns[own_starts[other] : own_starts[other + 1]]
            below = norm(lengths[user], len(own), n_items, shrink, centred)
            expected = len(own) / n_items if centred else 0.0
            for r in range(places.shape[1]):
                if places[user, r] < 0:
                    continue
                at = np.searchsorted(own, places[user, r])
                has = 1.0 if at < len(own) and own[at] == places[user, r] else 0.0
                given = np.float32((has - expected) / below * scale[user])
                if given != 0:
                    for place in range(items.shape[1]):
                        if items[user, place] >= 0:
                            added[user, place, r] += given * sums[items[user, place]]
            for at in range(starts[other], starts[other + 1]):
                sums[columns[at]] = 0
