"""Training data of SASRec: users' preferences as sequences, held-back targets, and the windows of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.models.base import F32
from recsys.models.sasrec.config import SASRecConfig
from recsys.models.sasrec.network import Signals
from recsys.models.sasrec.signals import ReadSequences, strength_classes, type_classes

I64 = NDArray[np.int64]


class Batch(NamedTuple):
    """Runs of B sequences, left-aligned: `inputs` and `targets` (B, L), and what else is read of the inputs: ages before the newest of the
    run, and gaps to the moments that targets are predicted for.

    A target that is padding is −1.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    signals: Signals


@dataclass(frozen=True, slots=True)
class Sequences:
    """Preferences of U users, one user after another: user u owns `items[starts[u]:starts[u+1]]`, oldest first.

    Shapes: items (n,), starts (U+1,), times_s (n,), seconds; weights (n,), above 0; types (n,), codes of event types; unseen (n,), if
    given, marks what the model of a warm start was not trained on.
    """

    items: NDArray[np.int64]
    starts: NDArray[np.int64]
    times_s: NDArray[np.int64]
    weights: F32
    types: NDArray[np.uint8]
    unseen: NDArray[np.bool_] | None = None

    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts)


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Validation data of V users: `inputs`, each user's newest items without the last, and `targets` (V,), the last items, for lists that
    are made at the moment of these.

    `seen` are all items before the last: user v's are `seen[seen_starts[v]:seen_starts[v+1]]`.
    """

    inputs: ReadSequences
    targets: torch.Tensor
    seen: I64
    seen_starts: I64


def hold_back(sequences: Sequences, config: SASRecConfig, random: np.random.Generator) -> tuple[Sequences, HeldBack | None]:
    """Hold back the last item of some users, at most half of those with three or more; return the remaining training data and these.

    Of a warm start only users take part whose last item the earlier model was not trained on: the others would only show what it remembers.
    """
    lengths = sequences.lengths()
    able = np.flatnonzero(lengths >= 3)
    if sequences.unseen is not None:
        able = able[sequences.unseen[sequences.starts[able + 1] - 1]]
    n_users = min(config.validation_users, len(able) // 2)
    if n_users < 1:
        return sequences, None
    chosen = np.sort(random.choice(able, n_users, replace=False))
    last = sequences.starts[chosen + 1] - 1
    kept = np.minimum(lengths[chosen] - 1, config.window)
    inputs, starts = _joined(sequences.items, last, kept)
    times_s, _ = _joined(sequences.times_s, last, kept)
    weights, types = _joined(sequences.weights, last, kept)[0], _joined(sequences.types, last, kept)[0]
    ages_s = (np.repeat(sequences.times_s[last - 1], kept) - times_s).astype(np.float32)
    moments_s = (sequences.times_s[last] - sequences.times_s[last - 1]).astype(np.float32)
    seen, seen_starts = _joined(sequences.items, last, lengths[chosen] - 1)
    remaining = np.ones(len(sequences.items), bool)
    remaining[last] = False
    shorter = lengths.copy()
    shorter[chosen] -= 1
    bounds = np.concatenate([[0], np.cumsum(shorter)])
    rest = (sequences.times_s[remaining], sequences.weights[remaining], sequences.types[remaining])
    training = Sequences(sequences.items[remaining], bounds, *rest)
    read = ReadSequences.until(inputs, weights, types, ages_s, moments_s, starts)
    return training, HeldBack(read, torch.from_numpy(sequences.items[last]), seen, seen_starts)


def _joined(items: NDArray[Any], ends: I64, sizes: I64) -> tuple[NDArray[Any], I64]:
    """Return the `sizes` (V,) items before each of `ends` (V,), one range after another, and the start of each range (V+1,)."""
    ranges = [items[end - size : end] for end, size in zip(ends.tolist(), sizes.tolist(), strict=True)]
    return np.concatenate(ranges), np.concatenate(([0], np.cumsum(sizes)))


def windows(
    sequences: Sequences, window: int, positions: int, random: np.random.Generator, at_once: float | None = None
) -> list[Batch]:
    """Cut every sequence into runs of `window` steps, from a random place on, and batch runs of similar length: one epoch.

    A batch has at most `positions` positions, or a single run. In one epoch nearly every item except a sequence's first is a target once:
    a cut that leaves fewer than two items makes no run. With `at_once` this share of the targets is predicted from the moment of the item
    before, the others from their own.
    """
    starts: list[NDArray[np.int64]] = []
    sizes: list[NDArray[np.int64]] = []
    for first, length in zip(sequences.starts[:-1].tolist(), sequences.lengths().tolist(), strict=True):
        if length < 2:
            continue
        steps = length - 1
        shift = int(random.integers(window)) if steps > window else 0
        cuts = np.unique(np.concatenate([[0], np.arange(shift, steps, window), [steps]])).astype(np.int64)
        starts.append(first + cuts[:-1])
        sizes.append(np.diff(cuts))
    run_starts, run_sizes = np.concatenate(starts), np.concatenate(sizes)
    # Similar lengths need less padding; the noise makes the batches of two epochs differ.
    order = np.argsort(run_sizes + random.uniform(0, 4, len(run_sizes)), kind="stable")
    batches = []
    for part in _within(run_sizes[order], positions):
        chosen = order[part]
        steps = np.arange(int(run_sizes[chosen].max()))
        inside = steps < run_sizes[chosen, None]  # (B, L)
        place = np.where(inside, run_starts[chosen, None] + steps, 0)
        inputs = np.where(inside, sequences.items[place], 0)
        targets = np.where(inside, sequences.items[np.where(inside, place + 1, 0)], -1)
        newest_s = sequences.times_s[run_starts[chosen] + run_sizes[chosen] - 1]
        ages_s = np.where(inside, newest_s[:, None] - sequences.times_s[place], 0).astype(np.float32)
        gaps_s = np.where(inside, sequences.times_s[np.where(inside, place + 1, 0)] - sequences.times_s[place], 0).astype(np.float32)
        if at_once is not None:
            gaps_s[random.random(gaps_s.shape) < at_once] = 0
        classes = strength_classes(sequences.weights[place]), type_classes(sequences.types[place])
        signals = Signals(*(torch.from_numpy(each) for each in (ages_s, gaps_s, *classes)))
        batches.append(Batch(torch.from_numpy(inputs), torch.from_numpy(targets), signals))
    return [batches[i] for i in random.permutation(len(batches)).tolist()]


def share_of(batch: Batch, number: int, count: int) -> tuple[Batch, float]:
    """Return the rows of a batch that one of `count` processes reads, and their share of its targets; 0 where it has none."""
    if count == 1:
        return batch, 1.0
    signals = Signals(*(each[number::count] for each in batch.signals))
    own = Batch(batch.inputs[number::count], batch.targets[number::count], signals)
    return own, int((own.targets >= 0).sum()) / int((batch.targets >= 0).sum())


def _within(sizes: I64, positions: int) -> Iterator[slice]:
    """Yield runs one after another whose number times whose largest size is at most `positions`, or a single run."""
    first, longest = 0, 0
    for at, size in enumerate(sizes.tolist()):
        if at > first and max(longest, size) * (at + 1 - first) > positions:
            yield slice(first, at)
            first, longest = at, 0
        longest = max(longest, size)
    yield slice(first, len(sizes))
