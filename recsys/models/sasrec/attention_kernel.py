"""Self-attention of sequences without padding, user by user: compiled, without gradients.

Shapes: T interactions of U users one after another, of which user u has `starts[u]` to `starts[u + 1]`; D dimensions, shared by the heads.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import add, dot
from recsys.jit import compiled_sums

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@compiled_sums
def causal(qkv: F32, starts: I64, n_heads: int, out: F32) -> None:
    """Write to `out` (T, D) what each interaction reads from those of its user up to itself, from queries, keys and values (T, 3 D)."""
    width = out.shape[1]
    depth = width // n_heads
    shares = np.empty(_longest(starts), np.float32)
    for user in range(len(starts) - 1):
        start = starts[user]
        for at in range(start, starts[user + 1]):
            for first in range(0, width, depth):
                query, mixed = qkv[at, first : first + depth], out[at, first : first + depth]
                _attend(query, qkv, start, at + 1, width + first, width, shares, mixed)


@compiled_sums
def newest(queries: F32, keys_values: F32, starts: I64, n_heads: int, out: F32) -> None:
    """Write to `out` (U, D) what each user's last interaction reads from all of them: queries (U, D), keys and values (T, 2 D).

    Every user has at least one interaction.
    """
    width = out.shape[1]
    depth = width // n_heads
    shares = np.empty(_longest(starts), np.float32)
    for user in range(len(out)):
        for first in range(0, width, depth):
            query, mixed = queries[user, first : first + depth], out[user, first : first + depth]
            _attend(query, keys_values, starts[user], starts[user + 1], first, width, shares, mixed)


@compiled_sums
def _longest(starts: I64) -> int:
    longest = 0
    for user in range(len(starts) - 1):
        longest = max(longest, starts[user + 1] - starts[user])
    return longest


@compiled_sums
def _attend(query: F32, rows: F32, start: int, end: int, column: int, width: int, shares: F32, out: F32) -> None:
    """Write to `out` what one head's query reads from the interactions `start` to `end`.

    Their keys begin at `column` of `rows`, their values `width` columns later. `shares` is overwritten.
    """
    depth, values = len(query), column + width
    highest = np.float32(-np.inf)
    for at in range(start, end):
        share = dot(query, rows[at, column : column + depth])
        shares[at - start] = share
        highest = max(highest, share)
    scale, total = np.float32(1 / math.sqrt(depth)), np.float32(0)
    for place in range(end - start):
        share = np.float32(math.exp((shares[place] - highest) * scale))
        shares[place] = share
        total += share
    out[:] = 0
    for at in range(start, end):
        add(out, rows[at, values : values + depth], shares[at - start] / total)


@compiled_sums
def embedded(
    items: F32, positions: F32, signals: F32, sequences: I64, read: I64, starts: I64, scale: F32, shift: F32, added: float, out: F32,
    normed: F32,
) -> None:  # fmt: skip
    """Write item plus position embeddings, and what signals add, to `out` (T, D), and their layer norm to `normed` (T, D).

    Shapes: items (I, D), positions (L, D), counted from each user's first interaction; signals (S, D); sequences (T,), item positions;
    read (T, R), the signals of each interaction.
    """
    for user in range(len(starts) - 1):
        for at in range(starts[user], starts[user + 1]):
            item, position = items[sequences[at]], positions[at - starts[user]]
            for d in range(out.shape[1]):
                out[at, d] = item[d] + position[d]
            for place in range(read.shape[1]):
                add(out[at], signals[read[at, place]], np.float32(1))
            norm(out[at], scale, shift, np.float32(added), normed[at])


@compiled_sums
def add_and_norm(x: F32, addend: F32, bias: F32, scale: F32, shift: F32, added: float, normed: F32) -> None:
    """Add `addend` (T, D) and `bias` (D,) to `x` (T, D), and write the layer norm of the sum to `normed` (T, D).

    `normed` may be `addend` itself.
    """
    for at in range(len(x)):
        for d in range(x.shape[1]):
            x[at, d] += addend[at, d] + bias[d]
        norm(x[at], scale, shift, np.float32(added), normed[at])


@compiled_sums
def rectify(x: F32, bias: F32) -> None:
    """Replace `x` (T, D) by max(x + bias, 0); bias (D,)."""
    for at in range(len(x)):
        for d in range(x.shape[1]):
            x[at, d] = max(x[at, d] + bias[d], np.float32(0))


@compiled_sums
def norm(row: F32, scale: F32, shift: F32, added: np.float32, out: F32) -> None:
    """Write the layer norm of `row` (D,) to `out` (D,)."""
    total, squares, width = np.float32(0), np.float32(0), np.float32(len(row))
    for d in range(len(row)):
        total += row[d]
    mean = total / width
    for d in range(len(row)):
        squares += (row[d] - mean) * (row[d] - mean)
    factor = np.float32(1 / math.sqrt(squares / width + added))
    for d in range(len(row)):
        out[d] = (row[d] - mean) * factor * scale[d] + shift[d]
