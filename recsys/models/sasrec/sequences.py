"""Training data of SASRec: users' preferences as sequences, held-back targets, and the windows of an epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.models.sasrec.config import SASRecConfig

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sequences:
    """Preferences of U users, one user after another: user u owns `items[starts[u]:starts[u+1]]`, oldest first.

    Shapes: items (n,), starts (U+1,); unseen (n,), if given, marks what the model of a warm start was not trained on.
    """

    items: NDArray[np.int64]
    starts: NDArray[np.int64]
    unseen: NDArray[np.bool_] | None = None

    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts)


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Validation data of V users: `inputs` (T,), each user's newest items without the last, and `targets` (V,), the last items.

    User v owns `inputs[starts[v]:starts[v+1]]`; starts (V+1,).
    """

    inputs: torch.Tensor
    starts: I64
    targets: torch.Tensor


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
    inputs = np.concatenate([sequences.items[end - n : end] for end, n in zip(last.tolist(), kept.tolist(), strict=True)])
    starts = np.concatenate(([0], np.cumsum(kept)))
    remaining = np.ones(len(sequences.items), bool)
    remaining[last] = False
    shorter = lengths.copy()
    shorter[chosen] -= 1
    training = Sequences(sequences.items[remaining], np.concatenate([[0], np.cumsum(shorter)]))
    return training, HeldBack(torch.from_numpy(inputs), starts, torch.from_numpy(sequences.items[last]))


def windows(sequences: Sequences, window: int, batch: int, random: np.random.Generator) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Cut every sequence into runs of `window` steps, from a random place on, and batch runs of similar length: one epoch.

    Each batch is (inputs (B, L), targets (B, L)), left-aligned; −1 marks targets that are padding. In one epoch nearly every item except a
    sequence's first is a target once: a cut that leaves fewer than two items makes no run.
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
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        steps = np.arange(int(run_sizes[chosen].max()))
        inside = steps < run_sizes[chosen, None]  # (B, L)
        place = np.where(inside, run_starts[chosen, None] + steps, 0)
        inputs = np.where(inside, sequences.items[place], 0)
        targets = np.where(inside, sequences.items[np.where(inside, place + 1, 0)], -1)
        batches.append((torch.from_numpy(inputs), torch.from_numpy(targets)))
    return [batches[i] for i in random.permutation(len(batches)).tolist()]
