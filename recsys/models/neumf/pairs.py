"""The network of NeuMF as torch reads it in training.

Shapes: B histories, n entries of all, I items, C compared items, D dimensions, H units of the first layer, G of the second.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

I64 = NDArray[np.int64]

_SPREAD = 0.05


class Pairs(NamedTuple):
    """Trained numbers. The last dimension of items is a bias: that of a user's vector is 1.

    `items` (I, D+1) and `read` (I, D), what an item is in the inner product and as part of a history there; `wide_items` and `wide_read`
    (I, H), the same in the first layer; `shift` (H,); `narrow` (H, G) and `narrow_shift` (G,) of the second layer; `out` (G,).
    """

    items: torch.Tensor
    read: torch.Tensor
    wide_items: torch.Tensor
    wide_read: torch.Tensor
    shift: torch.Tensor
    narrow: torch.Tensor
    narrow_shift: torch.Tensor
    out: torch.Tensor

    @staticmethod
    def shapes(n_items: int, factors: int, hidden: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the tensors by name."""
        n, d, h, g = n_items, factors, hidden, hidden // 2
        return {
            "items": (n, d + 1), "read": (n, d), "wide_items": (n, h), "wide_read": (n, h), "shift": (h,), "narrow": (h, g),
            "narrow_shift": (g,), "out": (g,),
        }  # fmt: skip

    @classmethod
    def random(cls, n_items: int, factors: int, hidden: int, seed: int) -> Pairs:
        """Return first numbers; the seed decides them."""
        generator = torch.Generator().manual_seed(seed)
        found = cls(**{name: torch.zeros(shape) for name, shape in cls.shapes(n_items, factors, hidden).items()})
        for table in (found.items, found.read):
            table.normal_(0, _SPREAD, generator=generator)
        found.items[:, -1] = 0
        for table in (found.wide_items, found.wide_read):
            table.normal_(0, 0.5, generator=generator)
        found.narrow.normal_(0, hidden**-0.5, generator=generator)
        found.out.normal_(0, 0.1, generator=generator)
        return found

    def copied(self) -> Pairs:
        """Return a copy without gradients."""
        return Pairs(*(one.detach().clone() for one in self))

    def users(self, items: I64, lengths: I64) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what histories of `lengths` (B,) are in the inner product, (B, D+1), and in the first layer, (B, H): sums over their items
        (n,), divided by the square root of their number."""
        starts = torch.from_numpy(np.cumsum(lengths) - lengths)
        scales, entries = torch.from_numpy(lengths.astype(np.float32) ** -0.5)[:, None], torch.from_numpy(items)
        narrow, wide = (
            functional.embedding_bag(entries, table, starts, mode="sum") * scales for table in (self.read, self.wide_read)
        )
        return functional.pad(narrow, (0, 1), value=1.0), wide

    def logits(self, users: tuple[torch.Tensor, torch.Tensor], compared: I64) -> torch.Tensor:
        """Return the scores (B, C) of the compared items (C,)."""
        rows = torch.from_numpy(compared)
        first = torch.relu(users[1].unsqueeze(1) + self.wide_items[rows] + self.shift)  # (B, C, H)
        second = torch.relu(first @ self.narrow + self.narrow_shift)  # (B, C, G)
        return users[0] @ self.items[rows].T + second @ self.out
