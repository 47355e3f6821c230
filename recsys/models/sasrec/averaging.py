"""A moving average of a network's weights. It has seen as many examples as they, and is calmer."""

from __future__ import annotations

from copy import deepcopy

import torch

from recsys.models.sasrec.network import Network

_YOUNG = 10
"""At step t the average keeps at most (1 + t) / (10 + t) of itself, so that it forgets the weights of the start: it spans about the newest
ninth of the steps."""


class Average:
    """The moving average of one network's weights, as a network of its own. Source: Polyak & Juditsky 1992; Karras et al. 2024."""

    def __init__(self, network: Network, keep: float) -> None:
        self.network = deepcopy(network).requires_grad_(False) if keep else network
        self._pairs = list(zip(self.network.parameters(), network.parameters(), strict=True)) if keep else []
        self._keep, self._steps = keep, 0

    @torch.no_grad()
    def step(self) -> None:
        """Move towards the network's weights. Call it after each step of the training."""
        keep = min(self._keep, (1 + self._steps) / (_YOUNG + self._steps))
        self._steps += 1
        for average, parameter in self._pairs:
            average.lerp_(parameter, 1 - keep)
