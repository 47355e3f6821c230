"""A moving average of a network's weights. It has seen as many examples as they, and is calmer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy

import torch

from recsys.models.sasrec.network import Network

_YOUNG = 10
"""At step t the average keeps at most (1 + t) / (10 + t) of itself, so that it forgets the weights of the start: it spans about the newest
ninth of the steps."""


class Average:
    """The moving average of one network's weights, as a network of its own. Source: Polyak & Juditsky 1992; Karras et al. 2024.

    With `by_rows` a step moves some items alone. An item that stayed for k steps is averaged when it next moves, or when all are: the
    average has come nearer to it by the product of what these steps keep, which is the same number but for rounding.
    """

    def __init__(self, network: Network, keep: float, *, by_rows: bool = False) -> None:
        self.network = deepcopy(network).requires_grad_(False) if keep else network
        self._keep, self._steps, self._log_kept = keep, 0, 0.0
        pairs = zip(self.network.parameters(), network.parameters(), strict=True) if keep else ()
        self._pairs = [(mean, own) for mean, own in pairs if not by_rows or own is not network.items]
        self._items = network.items if by_rows and keep else None
        n_rows, device = len(network.items) if self._items is not None else 0, network.items.device
        self._log_kept_at = torch.zeros(n_rows, dtype=torch.float64, device=device)

    @torch.no_grad()
    def step(self, rows: torch.Tensor | None = None, before: torch.Tensor | None = None) -> None:
        """Move towards the network's weights. Call it after each step of the training, which moved the items `rows` (R,), distinct ones,
        that were `before` (R, D)."""
        keep = min(self._keep, (1 + self._steps) / (_YOUNG + self._steps))
        self._steps += 1
        for average, parameter in self._pairs:
            average.lerp_(parameter, 1 - keep)
        if self._items is None:
            return
        assert rows is not None and before is not None
        averaged = self._caught_up(rows, before.detach()).lerp_(self._items[rows], 1 - keep)
        self._log_kept += math.log(keep)
        self.network.items[rows], self._log_kept_at[rows] = averaged, self._log_kept

    @torch.no_grad()
    def settle(self) -> None:
        """Average every item up to the last step; call it before the network is used."""
        if self._items is not None:
            self.network.items.copy_(self._caught_up(slice(None), self._items))
            self._log_kept_at[:] = self._log_kept

    def _caught_up(self, rows: torch.Tensor | slice, stayed: torch.Tensor) -> torch.Tensor:
        """Return the averages (R, D) of items that `stayed` (R, D) since they were last averaged."""
        nearer = 1 - torch.exp(self._log_kept - self._log_kept_at[rows]).float().unsqueeze(1)  # (R, 1)
        return torch.lerp(self.network.items[rows], stayed, nearer)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the living tensors by name, for a checkpoint; none where nothing is averaged."""
        return {**dict(self.network.named_parameters()), "log_kept_at": self._log_kept_at} if self._pairs else {}

    def values(self) -> dict[str, float]:
        """Return the rest of a checkpoint."""
        return {"steps": self._steps, "log_kept": self._log_kept}

    def restore(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, float]) -> None:
        """Go on from these."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        self._steps, self._log_kept = int(values["steps"]), values["log_kept"]
