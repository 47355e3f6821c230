"""Items drawn by popularity, which stand for all others in the loss."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Negatives(NamedTuple):
    """K drawn items (K,), and the logarithms of how often each is expected among them (K,)."""

    items: torch.Tensor
    log_draws: torch.Tensor

    def to(self, device: torch.device) -> Negatives:
        return Negatives(self.items.to(device), self.log_draws.to(device))


class Popularity:
    """Draws items by popularity^0.75, in K · log I. Source: Mikolov et al. 2013 (the exponent)."""

    def __init__(self, counts: torch.Tensor, generator: torch.Generator) -> None:
        """`counts` (I,) are the items' interactions; `generator` decides the draws."""
        shares = (counts.double() + 1.0) ** 0.75
        self._up_to = torch.cumsum(shares / shares.sum(), 0)  # (I,)
        self._log_shares = torch.log(shares / shares.sum())
        self._generator = generator

    def draw(self, n: int) -> Negatives:
        """Return `n` items, drawn with replacement."""
        places = torch.rand(n, dtype=torch.float64, generator=self._generator) * self._up_to[-1]
        items = torch.searchsorted(self._up_to, places, right=True).clamp_max_(len(self._up_to) - 1)
        return Negatives(items, (self._log_shares[items] + torch.log(torch.tensor(float(n)))).float())
