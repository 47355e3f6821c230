"""Greedy calibration, compiled.

Shapes: U users, P ranked candidates, N items, S sets of categories, W most categories of an item, C categories, G categories of one user.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled
from recsys.lists.touch_policy_kernel import Entries

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Whole = Any
"""int or np.int64, which are one kind where it is compiled."""

SMOOTHING = 0.01
"""Share of the user's own mix that is added to a list's, so that the divergence is finite (Steck 2018, α)."""

_ROUNDING = 1e-9
"""By as much a computed divergence may be below 0."""


class Categories(NamedTuple):
    """The set of each item, `of` (N or more,), and the categories of each set, `sets` (S, W), −1 behind the last."""

    of: I32
    sets: I32


class Mix(NamedTuple):
    """Scratch of one user after another: the user's categories `own` (G or more,), the `wanted` share of each, and what the list has
    `given` to each; the `known` terms of the divergence without another item, (G or more,). `added` (G or more, W + 1) is what an item of
    c categories adds to a term, where `stamps` is the present stamp."""

    own: I32
    wanted: F64
    given: F64
    known: F64
    added: F64
    stamps: I64


class Local(NamedTuple):
    """Categories of one user's candidates: how many there are, `lengths` (P,), and which of the user's own they are, −1 for none, `own`
    (P, W)."""

    lengths: I64
    own: I32


@compiled
def calibrate(
    numbers: I64,
    relevance: F32,
    entries: Entries,
    categories: Categories,
    size: int,
    strength: float,
    places: I32,
    order: I64,
) -> None:
    """Write the columns of `numbers` (U, P), −1 for none, into `order` (U, P): the first `size` by calibration, then the others as they
    were; all as they were for a user without a liked item that has a category.

    Each place gets the candidate i with the largest (1 − λ) · relevance(i) − λ · KL(p ‖ q), the first of equal ones; λ is the `strength`,
    p the user's mix of categories and q that of the list up to i, with `SMOOTHING`. Relevance (U, P) falls from column to column. An item
    gives each of its c categories 1/c, and one without categories changes neither mix. `places` (C or more,) are 0 before and after.
    Source: Steck 2018, eq. 2 to 7, by its greedy algorithm.
    """
    width, n_columns, stamp = categories.sets.shape[1], numbers.shape[1], 0
    most = max(entries.items.shape[1] * width, 1)
    empty = np.zeros((most, width + 1), np.int64)
    mix = Mix(np.empty(most, np.int32), np.empty(most), np.empty(most), np.empty(most), np.empty((most, width + 1)), empty)
    local = Local(np.empty(n_columns, np.int64), np.empty((n_columns, width), np.int32))
    taken = np.empty(n_columns, np.bool_)
    for user in range(len(numbers)):
        taken[:] = False
        n_own = _mix(entries, user, categories, places, mix.own, mix.wanted)
        n_candidates = 0
        while n_candidates < n_columns and numbers[user, n_candidates] >= 0:
            n_candidates += 1
        _localise(numbers[user], n_candidates, categories, places, local)
        for g in range(n_own):
            places[mix.own[g]] = 0
            mix.given[g] = 0
        n_chosen, n_named = min(size, n_candidates) if n_own else 0, 0
        divergence = -np.log(SMOOTHING)
        for at in range(n_chosen):
            stamp += 1
            chosen, divergence = _best(relevance[user], n_candidates, taken, local, mix, n_own, n_named, divergence, strength, stamp)
            taken[chosen] = True
            order[user, at] = chosen
            length = local.lengths[chosen]
            n_named += length > 0
            for w in range(length):
                if local.own[chosen, w] >= 0:
                    mix.given[local.own[chosen, w]] += 1.0 / length
        for column in range(n_columns):
            if not taken[column]:
                order[user, n_chosen] = column
                n_chosen += 1


@compiled
def _best(
    relevance: F32,
    n_candidates: Whole,
    taken: Bools,
    local: Local,
    mix: Mix,
    n_own: Whole,
    n_named: Whole,
    divergence: float,
    strength: float,
    stamp: Whole,
) -> tuple[int, float]:
    """Return the candidate for the next place, and the divergence of the list with it. `divergence` is that of the list so far, of which
    `n_named` items have categories."""
    rest = 0.0
    for g in range(n_own):
        mix.known[g] = _term(mix.wanted[g], mix.given[g], n_named + 1)
        rest += mix.known[g]
    chosen, best, reached = -1, -np.inf, divergence
    for column in range(n_candidates):
        if (1 - strength) * relevance[column] + _ROUNDING < best:
            break  # a divergence is at least 0, and no later candidate is worth more
        if taken[column]:
            continue
        length = local.lengths[column]
        after = rest if length else divergence
        for w in range(length):
            g = local.own[column, w]
            if g >= 0:
                if mix.stamps[g, length] != stamp:
                    mix.stamps[g, length] = stamp
                    mix.added[g, length] = _term(mix.wanted[g], mix.given[g] + 1.0 / length, n_named + 1) - mix.known[g]
                after += mix.added[g, length]
        gain = (1 - strength) * relevance[column] - strength * after
        if gain > best:
            chosen, best, reached = column, gain, after
    return chosen, reached


@compiled
def _term(wanted: float, given: float, n_items: Whole) -> float:
    """Return a category's part of the divergence: p · log(p / q̃), for its share p of the history and the `given` of `n_items`."""
    return float(wanted * np.log(wanted / ((1 - SMOOTHING) * given / n_items + SMOOTHING * wanted)))


@compiled
def _mix(entries: Entries, user: Whole, categories: Categories, places: I32, own: I32, wanted: F64) -> int:
    """Write the categories of the user's liked items into `own` (G or more,), and their shares into `wanted`; return their number. `places`
    (C,) say which of them each category is, counted from 1."""
    slot, n_columns, sets = entries.slots[user], entries.items.shape[1], categories.sets
    n_own, total = 0, 0.0
    for column in range(n_columns - entries.lengths[slot], n_columns):
        weight, item = float(entries.weights[slot, column]), entries.items[slot, column]
        if weight <= 0 or item >= len(categories.of):
            continue
        held, length = sets[categories.of[item]], 0
        while length < len(held) and held[length] >= 0:
            length += 1
        for w in range(length):
            if places[held[w]] == 0:
                own[n_own], wanted[n_own] = held[w], 0
                n_own += 1
                places[held[w]] = n_own
            wanted[places[held[w]] - 1] += weight / length
        total += weight if length else 0.0
    for g in range(n_own):
        wanted[g] /= total
    return n_own


@compiled
def _localise(numbers: I64, n_candidates: Whole, categories: Categories, places: I32, local: Local) -> None:
    """Write the categories of the candidates into `local`. `places` (C,) say which of the user's own each is, counted from 1."""
    for column in range(n_candidates):
        held, length = categories.sets[categories.of[numbers[column]]], 0
        while length < len(held) and held[length] >= 0:
            local.own[column, length] = places[held[length]] - 1
            length += 1
        local.lengths[column] = length
