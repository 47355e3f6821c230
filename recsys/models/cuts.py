"""Cuts of histories for training: what is read of a user, and which preferences are predicted from it.

Shapes: B histories, n entries of all, T targets, V users.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.models.base import Histories
from recsys.models.training_set import TrainingSet

I64 = NDArray[np.int64]

READS = ("before", "others")
"""Of a user's preferences, what is read to predict one."""


class Cutting(Protocol):
    """Options of a configuration that say how users are cut."""

    @property
    def history_length(self) -> int:
        """Number of a user's newest items that are read."""
        ...

    @property
    def cuts(self) -> int:
        """Number of times that each user is looked at in an epoch."""
        ...

    @property
    def targets(self) -> int:
        """Number of preferences that are predicted from one history, at most."""
        ...

    @property
    def reads(self) -> str:
        """Say which preferences are read to predict one: those `before` it in time, or all `others`."""
        ...

    @property
    def batch_users(self) -> int:
        """Histories in a batch."""
        ...


class Batch(NamedTuple):
    """Histories of `users` (B,): `items` and `ts_ms` (n,), oldest first, of which user b has `lengths[b]`; `targets` (T,) and the row
    of each, `rows` (T,)."""

    items: NDArray[np.int32]
    ts_ms: I64
    lengths: I64
    users: I64
    rows: I64
    targets: I64


def cut(training: TrainingSet, config: Cutting, chance: np.random.Generator) -> Iterator[Batch]:
    """Look at every user with two preferences or more some times, in random order; yield the batches of an epoch."""
    starts = training.user_starts()
    able = np.flatnonzero(np.diff(starts) >= 2)
    users = chance.permutation(np.repeat(able, np.minimum(config.cuts, np.diff(starts)[able] - 1)))
    choose = _before if config.reads == "before" else _others
    for first in range(0, len(users), config.batch_users):
        own = users[first : first + config.batch_users]
        read, lengths, targets, n_targets = choose(starts[own], starts[own + 1], config, chance)
        rows = np.repeat(np.arange(len(own)), n_targets)
        yield Batch(training.items[read], training.ts_ms[read], lengths, own, rows, training.items[targets].astype(np.int64))


def _before(starts: I64, ends: I64, config: Cutting, chance: np.random.Generator) -> tuple[I64, I64, I64, I64]:
    """Cut the preferences of users, whose own are from `starts` to `ends` (B,), at a random place. Return the places of the newest before
    it and how many these are of each user, and the same of the next ones."""
    cuts = starts + 1 + (chance.random(len(starts)) * (ends - starts - 1)).astype(np.int64)
    lengths, n_targets = np.minimum(cuts - starts, config.history_length), np.minimum(ends - cuts, config.targets)
    return _ranges(cuts - lengths, lengths), lengths, _ranges(cuts, n_targets), n_targets


def _others(starts: I64, ends: I64, config: Cutting, chance: np.random.Generator) -> tuple[I64, I64, I64, I64]:
    """Do as `_before` does with random targets, and the newest of all other preferences."""
    counts = ends - starts
    places, rows = _ranges(starts, counts), np.repeat(np.arange(len(starts)), counts)
    drawn = np.lexsort((chance.random(len(places)), rows))
    behind = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
    n_targets = np.minimum(config.targets, counts - 1)
    chosen = drawn[behind < n_targets[rows]]
    is_target = np.zeros(len(places), bool)
    is_target[chosen] = True
    n_left = counts - n_targets
    newer = np.repeat(np.cumsum(n_left), n_left) - np.arange(int(n_left.sum()))
    return places[~is_target][newer <= config.history_length], np.minimum(n_left, config.history_length), places[chosen], n_targets


def _ranges(starts: I64, lengths: I64) -> I64:
    """Return the numbers of ranges of `lengths` (B,) from `starts` (B,), one after another."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(int(lengths.sum()))


def newest(training: TrainingSet, users: I64, length: int) -> Histories:
    """Return the newest preferences of some users (V,), as serving reads them."""
    bounds = training.user_starts()
    starts, ends = bounds[users], bounds[users + 1]
    width = min(length, int((ends - starts).max(initial=1)))
    at = ends[:, None] - width + np.arange(width)
    inside = at >= starts[:, None]
    at = np.where(inside, at, 0)
    items = np.where(inside, training.items[at], np.int32(-1)).astype(np.int32)
    ages_s = np.where(inside, (training.ts_ms[ends - 1][:, None] - training.ts_ms[at]) / 1_000, 0).astype(np.float32)
    return Histories(items, inside.astype(np.float32), ages_s)
