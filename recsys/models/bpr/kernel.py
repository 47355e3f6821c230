"""Gradient steps of BPR, compiled.

Shapes: T interactions of U users one after another, of which user u has `starts[u]` to `starts[u + 1]`; I items; D factors. The last of
D + 1 columns is an item's bias, and 1 in users' vectors.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import dot
from recsys.jit import compiled, compiled_sums
from recsys.models.random_kernel import below, drawn, following

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_TRIES = 20
"""Draws of an item that the user has not touched, and of one that the user likes, before a step is left out."""


@compiled_sums
def _move(user: F32, liked: F32, other: F32, gradient: np.float32, step: np.float32, ridge: np.float32) -> None:
    """Move all three vectors (D + 1,) up the gradient of ln σ(user · (liked − other)) − ½ ridge · (squared lengths)."""
    last = len(user) - 1
    for d in range(last):
        own, up, down = user[d], liked[d], other[d]
        user[d] += step * (gradient * (up - down) - ridge * own)
        liked[d] += step * (gradient * own - ridge * up)
        other[d] -= step * (gradient * own + ridge * down)
    liked[last] += step * (gradient - ridge * liked[last])
    other[last] -= step * (gradient + ridge * other[last])


@compiled_sums
def _move_user(user: F32, liked: F32, other: F32, gradient: np.float32, step: np.float32, ridge: np.float32) -> None:
    """Do as `_move` does with the user alone."""
    for d in range(len(user) - 1):
        user[d] += step * (gradient * (liked[d] - other[d]) - ridge * user[d])


@compiled
def _has(own: I32, item: np.int64) -> bool:
    """Return whether `own` (n,), ascending, has the item."""
    at = np.searchsorted(own, item)
    return bool(at < len(own) and own[at] == item)


@compiled
def _negative(state: np.uint64, user: F32, vectors: F32, own: I32, kept: F32, others: I32, n_drawn: int) -> tuple[np.uint64, np.int64]:
    """Return the next state, and of `n_drawn` items that are not among `own` the one with the highest score; −1 if none is found."""
    best, highest = np.int64(-1), np.float32(-np.inf)
    for _ in range(n_drawn):
        item = np.int64(-1)
        for _ in range(_TRIES):
            state = following(state)
            item = drawn(state, kept, others)
            if not _has(own, item):
                break
            item = np.int64(-1)
        if item < 0:
            continue
        score = dot(user, vectors[item]) if n_drawn > 1 else np.float32(0)
        if best < 0 or score > highest:
            best, highest = item, score
    return state, best


@compiled
def _liked(state: np.uint64, items: I32, weights: F32) -> tuple[np.uint64, np.int64]:
    """Return the next state, and an item with a weight above 0; −1 if none is found."""
    for _ in range(_TRIES):
        state = following(state)
        at = below(state, len(items))
        if weights[at] > 0:
            return state, np.int64(items[at])
    return state, np.int64(-1)


@compiled
def _slope(difference: np.float32) -> np.float32:
    """Return σ(−difference), the gradient of ln σ."""
    return np.float32(1 / (1 + math.exp(difference)))


@compiled
def epoch(
    order: I64,
    users: I32,
    items: I32,
    weights: F32,
    starts: I64,
    touched: I32,
    kept: F32,
    others: I32,
    n_drawn: int,
    step: np.float32,
    ridge: np.float32,
    state: np.uint64,
    user_vectors: F32,
    item_vectors: F32,
) -> np.uint64:
    """Move the vectors (U, D + 1) and (I, D + 1) by one step for each interaction, in the given `order` (T,); return the next state.

    A preference is compared with a drawn item that the user has not touched, a dislike with a drawn preference of its user. `touched` (T,)
    are each user's items, ascending.
    """
    for place in range(len(order)):
        at = order[place]
        own = slice(starts[users[at]], starts[users[at] + 1])
        user = user_vectors[users[at]]
        if weights[at] > 0:
            liked = np.int64(items[at])
            state, other = _negative(state, user, item_vectors, touched[own], kept, others, n_drawn)
        else:
            other = np.int64(items[at])
            state, liked = _liked(state, items[own], weights[own])
        if liked < 0 or other < 0:
            continue
        slope = _slope(dot(user, item_vectors[liked]) - dot(user, item_vectors[other]))
        _move(user, item_vectors[liked], item_vectors[other], slope * abs(weights[at]), step, ridge)
    return state


@compiled
def fold_in(
    items: I32,
    weights: F32,
    starts: I64,
    kept: F32,
    others: I32,
    n_drawn: int,
    passes: int,
    step: np.float32,
    ridge: np.float32,
    first: np.uint64,
    vectors: F32,
    out: F32,
) -> None:
    """Learn the vectors of users with a preference against fixed items (I, D + 1), and write them into `out` (U, D + 1), which is zero.

    The steps are those of `epoch`, over a user's history from its oldest item on, `passes` times; every user draws from the state `first`.
    """
    for at in range(len(out)):
        own = slice(starts[at], starts[at + 1])
        history, given, user, state = items[own], weights[own], out[at], first
        if not (given > 0).any():
            continue
        touched = np.sort(history)
        user[-1] = 1
        for run in range(passes):
            size = step * np.float32(1 - run / passes)
            for k in range(len(history)):
                if given[k] > 0:
                    liked = np.int64(history[k])
                    state, other = _negative(state, user, vectors, touched, kept, others, n_drawn)
                else:
                    other = np.int64(history[k])
                    state, liked = _liked(state, history, given)
                if liked < 0 or other < 0:
                    continue
                slope = _slope(dot(user, vectors[liked]) - dot(user, vectors[other]))
                _move_user(user, vectors[liked], vectors[other], slope * abs(given[k]), size, ridge)
