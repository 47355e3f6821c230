"""Random numbers inside compiled loops: a state of 64 bits that the caller keeps, so that a seed decides all of them.

Source: Marsaglia 2003 (xorshift); Vigna 2016 (its multiplied output); Walker 1977, in the form of Vose 1991 (table of aliases).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

_MULTIPLIER = np.uint64(2685821657736338717)
_A, _B, _C, _HALF = np.uint64(12), np.uint64(25), np.uint64(27), np.uint64(32)
_LOW = np.uint64(0xFFFFFF)


def first_state(seed: int) -> np.uint64:
    """Return the state that a seed begins with; it is never 0."""
    return np.uint64(np.random.SeedSequence(seed & 0xFFFFFFFFFFFFFFFF).generate_state(1, np.uint64)[0] | np.uint64(1))


@compiled
def following(state: np.uint64) -> np.uint64:
    """Return the next state."""
    state ^= state >> _A
    state ^= state << _B
    return state ^ (state >> _C)


@compiled
def below(state: np.uint64, n: int) -> np.int64:
    """Return the whole number of a state, from 0 to n − 1; n is at most 2³¹."""
    return np.int64((((state * _MULTIPLIER) >> _HALF) * np.uint64(n)) >> _HALF)


@compiled
def share(state: np.uint64) -> np.float32:
    """Return the number of a state in [0, 1), in steps of 2⁻²⁴. Of one state it is independent of `below`."""
    return np.float32((state * _MULTIPLIER) & _LOW) / np.float32(16_777_216)


@compiled
def drawn(state: np.uint64, kept: F32, others: I32) -> np.int64:
    """Return the place of a state by a table of `aliases`."""
    place = below(state, len(kept))
    return place if share(state) < kept[place] else np.int64(others[place])


@compiled
def aliases(weights: F64) -> tuple[F32, I32]:
    """Return a table by which `drawn` draws place i with a probability proportional to `weights[i]` ≥ 0, (n,): two (n,)."""
    n = len(weights)
    kept, others = np.ones(n, np.float32), np.arange(n).astype(np.int32)
    scaled = weights * (n / weights.sum())
    small, large, n_small, n_large = np.empty(n, np.int32), np.empty(n, np.int32), 0, 0
    for i in range(n):
        if scaled[i] < 1:
            small[n_small] = i
            n_small += 1
        else:
            large[n_large] = i
            n_large += 1
    while n_small and n_large:
        n_small -= 1
        low, high = small[n_small], large[n_large - 1]
        kept[low], others[low] = scaled[low], high
        scaled[high] -= 1 - scaled[low]
        if scaled[high] < 1:
            n_large -= 1
            small[n_small] = high
            n_small += 1
    return kept, others
