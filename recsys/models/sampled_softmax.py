"""Cross-entropy over all items, or over the items of a batch and random ones, corrected for how often each is drawn.

Shapes: B users, T targets, C compared items, I items, D dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


class Compared(NamedTuple):
    """Items that compete in a batch: their numbers (C,) ascending, and the logarithms of the shares of batches that each is in (C,); None
    where all items compete."""

    items: I64
    log_shares: torch.Tensor | None

    def places(self, targets: I64) -> torch.Tensor:
        """Return the places (T,) of targets among the items."""
        return torch.from_numpy(np.searchsorted(self.items, targets))


class Competition:
    """Draws the items that compete with the targets of a batch.

    Up to `most` items in all, everything competes. Above, these are the targets of the batch and `n_random` items drawn alike. An item of
    which the share p of all targets is in a batch of T targets with probability 1 − (1 − p)^T · (1 − n/I); its logit is lowered by the
    logarithm, so that the sum over the batch is an estimate of that over all items.
    Source: Yi et al. 2019 (in-batch softmax with a correction by the frequency of sampling).
    """

    def __init__(self, counts: NDArray[np.integer], most: int, n_random: int) -> None:
        """`counts` (I,): how often each item is a target."""
        self._shares = counts / max(int(counts.sum()), 1)
        self.is_whole = len(counts) <= most
        self._n_random = min(n_random, len(counts))

    def of(self, targets: I64, chance: np.random.Generator) -> Compared:
        """Return the items that compete with `targets` (T,)."""
        n_items = len(self._shares)
        if self.is_whole:
            return Compared(np.arange(n_items), None)
        drawn = chance.choice(n_items, self._n_random, replace=False)
        items = np.union1d(targets, drawn)
        missed = (1 - self._n_random / n_items) * np.power(1 - self._shares[items], len(targets))
        return Compared(items, torch.from_numpy(np.log(np.maximum(1 - missed, 1e-12)).astype(np.float32)))


def cross_entropy(
    users: torch.Tensor, items: torch.Tensor, rows: torch.Tensor, places: torch.Tensor, log_shares: torch.Tensor | None
) -> torch.Tensor:
    """Return the mean over targets of log Σ_c e^(u·v_c − log share_c) − u·v_target.

    Shapes: users (B, D), items (C, D); target t is of user `rows[t]` and is item `places[t]` (T,); log_shares (C,).
    """
    return loss_of_logits(users @ items.T, rows, places, log_shares)


def loss_of_logits(logits: torch.Tensor, rows: torch.Tensor, places: torch.Tensor, log_shares: torch.Tensor | None) -> torch.Tensor:
    """Return the same from the logits (B, C) of the compared items."""
    own = logits[rows, places]
    normalisers = torch.logsumexp(logits if log_shares is None else logits - log_shares, dim=1)  # (B,)
    return (normalisers[rows] - own).mean()
