"""One pass of gradient steps over preferences in the order of time, compiled.

Shapes: T preferences, U users, I items, D factors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import dot
from recsys.jit import compiled, compiled_sums

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@compiled_sums
def _move_both(user: F32, item: F32, error: np.float32, step: np.float32, ridge: np.float32) -> None:
    """Move both vectors (D,) down the gradient of ½ error² + ½ ridge · (squared lengths). The user moves first, as published."""
    for d in range(len(user)):
        user[d] += step * (error * item[d] - ridge * user[d])
        item[d] += step * (error * user[d] - ridge * item[d])


@compiled_sums
def _move_user(user: F32, item: F32, error: np.float32, step: np.float32, ridge: np.float32) -> None:
    """Move the user alone."""
    for d in range(len(user)):
        user[d] += step * (error * item[d] - ridge * user[d])


@compiled
def _unlink(item: int, before: I32, after: I32) -> None:
    """Take an item out of the queue, if it is in it."""
    if after[item] >= 0:
        after[before[item]], before[after[item]] = after[item], before[item]
        after[item] = -1


@compiled
def _append(item: int, before: I32, after: I32) -> None:
    """Put an item at the end of the queue."""
    head = len(after) - 1
    last = before[head]
    after[last], before[item], after[item], before[head] = item, last, head, item


@compiled
def learn(
    users: I32,
    items: I32,
    weights: F32,
    n_steps: int,
    n_negatives: int,
    step: np.float32,
    ridge: np.float32,
    before: I32,
    after: I32,
    user_vectors: F32,
    item_vectors: F32,
) -> None:
    """Move the vectors (U, D) and (I, D) by each preference (T,) in turn, towards the score 1.

    A preference counts as much as its weight. `before` and `after` (I + 1,) are the queue of the items that have been preferred, the one
    that has waited longest first: a ring through the place I, −1 for items outside it.
    """
    head = len(after) - 1
    for at in range(len(items)):
        user, item = user_vectors[users[at]], items[at]
        _unlink(item, before, after)
        for _ in range(n_negatives):
            waited = after[head]
            if waited == head:
                break
            for _ in range(n_steps):
                _move_user(user, item_vectors[waited], -dot(user, item_vectors[waited]), step, ridge)
            _unlink(waited, before, after)
            _append(waited, before, after)
        for _ in range(n_steps):
            error = (np.float32(1) - dot(user, item_vectors[item])) * weights[at]
            _move_both(user, item_vectors[item], error, step, ridge)
        _append(item, before, after)


@compiled
def fold_in(
    items: I32, weights: F32, starts: I64, n_steps: int, step: np.float32, ridge: np.float32, item_vectors: F32, out: F32
) -> None:
    """Learn the vectors of users from their histories against fixed items (I, D), and write them into `out` (U, D), which is zero.

    User u owns the interactions from `starts[u]` to `starts[u + 1]`, oldest first. Dislikes move nothing. Steps are those of
    training, from 0.
    """
    for at in range(len(out)):
        user = out[at]
        for k in range(starts[at], starts[at + 1]):
            if weights[k] <= 0:
                continue
            item = item_vectors[items[k]]
            for _ in range(n_steps):
                _move_user(user, item, (np.float32(1) - dot(user, item)) * weights[k], step, ridge)
