"""Gated attention of sequences without padding, user by user: compiled, without gradients. Source: Zhai et al. 2024, HSTU.

Shapes: T interactions of U users one after another, of which user u has `starts[u]` to `starts[u + 1]`; D dimensions, shared by H heads.
`ages_s` (T,) are seconds before the user's newest interaction, and `moments_s` (T,) those of the moment that follows each: of the next
one, or of the list. `distances` (H, window) and `times` (H, N_TIMES) are added to the logits of a pair, by the number of interactions
between its two, and by the power of two of the seconds from one to the moment after the other.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import add, dot
from recsys.jit import compiled_sums
from recsys.models.sasrec.attention_kernel import norm

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

N_TIMES = 32
"""Powers of two of seconds: the last one is a century."""


@compiled_sums
def gated_causal(uqvk: F32, ages_s: F32, moments_s: F32, starts: I64, n_heads: int, distances: F32, times: F32, out: F32) -> None:
    """Write to `out` (T, D) what each interaction reads from those of its user up to itself.

    `uqvk` (T, 4 D): gates, queries, values and keys.
    """
    width = out.shape[1]
    depth, longest = width // n_heads, 1
    for user in range(len(starts) - 1):
        longest = max(longest, starts[user + 1] - starts[user])
    powers = np.empty(longest, np.int64)
    for user in range(len(starts) - 1):
        start = starts[user]
        for at in range(start, starts[user + 1]):
            _powers(ages_s, moments_s[at], start, at, powers)
            for head in range(n_heads):
                first = head * depth
                query, mixed = uqvk[at, width + first : width + first + depth], out[at, first : first + depth]
                _gather(query, uqvk, start, at, 2 * width + first, width, powers, distances[head], times[head], mixed)


@compiled_sums
def gated_newest(
    queries: F32, values_keys: F32, ages_s: F32, moments_s: F32, starts: I64, n_heads: int, distances: F32, times: F32, out: F32
) -> None:
    """Write to `out` (U, D) what each user's last interaction reads from all of them: queries (U, D), values and keys (T, 2 D).

    Every user has at least one interaction.
    """
    width = out.shape[1]
    depth, longest = width // n_heads, 1
    for user in range(len(starts) - 1):
        longest = max(longest, starts[user + 1] - starts[user])
    powers = np.empty(longest, np.int64)
    for user in range(len(out)):
        start, at = starts[user], starts[user + 1] - 1
        _powers(ages_s, moments_s[at], start, at, powers)
        for head in range(n_heads):
            first = head * depth
            query, mixed = queries[user, first : first + depth], out[user, first : first + depth]
            _gather(query, values_keys, start, at, first, width, powers, distances[head], times[head], mixed)


@compiled_sums
def _powers(ages_s: F32, moment_s: np.float32, start: int, at: int, powers: I64) -> None:
    """Write to `powers` the power of two of the seconds between each interaction from `start` to `at` and a moment."""
    for place in range(at + 1 - start):
        between = max(ages_s[start + place] - moment_s, np.float32(0))
        powers[place] = int(min(math.log2(np.float32(1) + between), N_TIMES - 1))


@compiled_sums
def _gather(
    query: F32, rows: F32, start: int, at: int, column: int, width: int, powers: I64, distances: F32, times: F32, out: F32
) -> None:
    """Write to `out` what one head's query reads from the interactions `start` to `at`.

    Their values begin at `column` of `rows`, their keys `width` columns later.
    """
    depth, keys = len(query), column + width
    scale, shared = np.float32(1 / math.sqrt(depth)), np.float32(1 / len(distances))
    out[:] = 0
    for place in range(at + 1 - start):
        row = rows[start + place]
        logit = dot(query, row[keys : keys + depth]) * scale + distances[at - start - place] + times[powers[place]]
        add(out, row[column : column + depth], logit / (np.float32(1) + np.float32(math.exp(-logit))) * shared)


@compiled_sums
def silu(x: F32, bias: F32) -> None:
    """Replace `x` (T, D) by y / (1 + e⁻ʸ) with y = x + bias; bias (D,)."""
    for at in range(len(x)):
        for d in range(x.shape[1]):
            y = x[at, d] + bias[d]
            x[at, d] = y / (np.float32(1) + np.float32(math.exp(-y)))


@compiled_sums
def norm_and_gate(x: F32, scale: F32, shift: F32, added: float, gates: F32, out: F32) -> None:
    """Write to `out` (T, D) the layer norm of `x` (T, D), multiplied by the first D columns of `gates`."""
    for at in range(len(x)):
        norm(x[at], scale, shift, np.float32(added), out[at])
        for d in range(x.shape[1]):
            out[at, d] *= gates[at, d]
