"""Judgement of a network by the held-back last items: which weights are kept, and when training ends."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch.nn import functional

from recsys.models.sasrec.network import Network
from recsys.models.sasrec.sequences import HeldBack

PLACES = 10
_BLOCK_SCORES, _CARD_SCORES = 4_000_000, 256_000_000
"""Scores that are held at once, on a processor (16 MB) and on a graphics card."""


@dataclass(frozen=True, slots=True, order=True)
class Judged:
    """NDCG@10 of the held-back items, and the mean cross-entropy of them, negated, which decides between equal ones."""

    ndcg: float
    negated_loss: float

    @classmethod
    @torch.no_grad()
    def of(cls, network: Network, held_back: HeldBack) -> Self:
        """Judge a network. All items are ranked but those that the user had before, except the target; ties count against it.

        States are those of the processor, which serves; scores are computed where the network is.
        """
        device = network.items.device
        gains, loss, newest_states = 0.0, 0.0, (network if device.type == "cpu" else deepcopy(network).cpu()).newest_states()
        step = max(1, min(256, (_CARD_SCORES if device.type == "cuda" else _BLOCK_SCORES) // network.items.shape[0]))
        for first in range(0, len(held_back.targets), step):
            targets = held_back.targets[first : first + step].to(device)
            states = torch.from_numpy(newest_states(held_back.inputs.part(slice(first, first + len(targets))))).to(device)
            scores = states @ network.items.T  # (B, I)
            loss += float(functional.cross_entropy(scores, targets, reduction="sum"))
            own = scores.gather(1, targets.unsqueeze(1))  # (B, 1)
            seen_starts = held_back.seen_starts[first : first + step + 1]
            rows = torch.from_numpy(np.repeat(np.arange(len(targets)), np.diff(seen_starts))).to(device)
            scores[rows, torch.from_numpy(held_back.seen[seen_starts[0] : seen_starts[-1]]).to(device)] = -torch.inf
            ranks = 1.0 + (scores >= own).sum(1) - (scores.gather(1, targets.unsqueeze(1)) >= own).squeeze(1).long()
            gains += float((1.0 / torch.log2(1.0 + ranks))[ranks <= PLACES].sum())
        return cls(gains / len(held_back.targets), -loss / len(held_back.targets))
