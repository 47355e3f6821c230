"""The interests of ComiRec as torch reads them in training.

Shapes: B histories of up to L entries, n entries of all, K interests, I items, C compared items, D dimensions, H hidden units, T targets.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from recsys.models.sampled_softmax import loss_of_logits
from recsys.models.two_tower.reading_kernel import EDGES_S, N_AGES, N_RANKS

I64 = NDArray[np.int64]

_SPREAD = 0.05


class Sizes(NamedTuple):
    """Numbers of items, factors, interests and hidden units."""

    items: int
    factors: int
    interests: int
    hidden: int


class Interests(NamedTuple):
    """Trained numbers. The last dimension of items is a bias: that of a user's vectors is 1.

    `items` (I, D+1); `read` (I, D), what an item is as part of a history; `widen` (D, H), `shift` (H,) and `narrow` (H, K), which say how
    much each interest reads an item; `ranks` (R, K) and `ages` (A, K), how much it reads an entry of a rank and an age.
    """

    items: torch.Tensor
    read: torch.Tensor
    widen: torch.Tensor
    shift: torch.Tensor
    narrow: torch.Tensor
    ranks: torch.Tensor
    ages: torch.Tensor

    @staticmethod
    def shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the tensors by name."""
        n, d, k, h = sizes.items, sizes.factors, sizes.interests, sizes.hidden
        return {
            "items": (n, d + 1), "read": (n, d), "widen": (d, h), "shift": (h,), "narrow": (h, k),
            "ranks": (N_RANKS, k), "ages": (N_AGES, k),
        }  # fmt: skip

    @classmethod
    def random(cls, sizes: Sizes, seed: int) -> Interests:
        """Return first numbers; the seed decides them."""
        generator = torch.Generator().manual_seed(seed)
        found = cls(**{name: torch.zeros(shape) for name, shape in cls.shapes(sizes).items()})
        for table in (found.items, found.read):
            table.normal_(0, _SPREAD, generator=generator)
        found.items[:, -1] = 0
        found.widen.normal_(0, 1.0, generator=generator)
        found.narrow.normal_(0, sizes.hidden**-0.5, generator=generator)
        return found

    def copied(self) -> Interests:
        """Return a copy without gradients."""
        return Interests(*(one.detach().clone() for one in self))

    def belongs(self) -> torch.Tensor:
        """Return how much each interest reads each item, as logits (I, K): tanh(e W₁ + b) W₂. Source: Cen et al. 2020, eq. 6."""
        return torch.tanh(self.read @ self.widen + self.shift) @ self.narrow

    def users(self, read: Read) -> torch.Tensor:
        """Return the vectors (B, K, D+1) of histories that are not empty: Σ a e / ‖a‖, so that they are as long as an item's own whether an
        interest reads one entry or all."""
        vectors = functional.embedding(read.items, self.read)  # (B, L, D)
        logits = torch.tanh(vectors @ self.widen + self.shift) @ self.narrow  # (B, L, K)
        logits = logits + functional.embedding(read.ranks, self.ranks) + functional.embedding(read.ages, self.ages)
        shares = torch.softmax(logits.masked_fill(~read.inside.unsqueeze(2), -torch.inf), dim=1)  # (B, L, K)
        found = shares.transpose(1, 2) @ vectors / torch.linalg.vector_norm(shares, dim=1).unsqueeze(2)  # (B, K, D)
        return functional.pad(found, (0, 1), value=1.0)


class Read(NamedTuple):
    """B histories of up to L entries, left-aligned, oldest first: `items`, classes of `ranks` and `ages`, and which are `inside`; all
    (B, L)."""

    items: torch.Tensor
    ranks: torch.Tensor
    ages: torch.Tensor
    inside: torch.Tensor

    @classmethod
    def of(cls, items: NDArray[np.integer], ts_ms: I64, lengths: I64) -> Read:
        """Read items of histories of `lengths` (B,), each item once in one, and the times of their interactions (n,)."""
        ends = np.cumsum(lengths)
        columns = np.arange(int(lengths.max(initial=1)))
        inside = columns < lengths[:, None]
        at = np.where(inside, (ends - lengths)[:, None] + columns, 0)
        n_newer = np.maximum(lengths[:, None] - 1 - columns, 0)
        ranks = np.minimum(np.log2(1 + n_newer).astype(np.int64), N_RANKS - 1)
        ages_s = ((ts_ms[ends - 1][:, None] - ts_ms[at]) / 1_000).astype(np.float32)
        ages = np.searchsorted(EDGES_S, ages_s, side="right").astype(np.int64)
        return cls(*(torch.from_numpy(each) for each in (np.asarray(items, np.int64)[at], ranks, ages, inside)))

    def thinned(self, share: float, chance: np.random.Generator) -> Read:
        """Return the histories without a share of their entries; the newest of each stays."""
        if not share:
            return self
        kept = torch.from_numpy(chance.random(self.items.shape) >= share) | (self.ranks == 0)
        return self._replace(inside=self.inside & kept)


def loss_of(
    users: torch.Tensor, items: torch.Tensor, rows: torch.Tensor, places: torch.Tensor, log_shares: torch.Tensor | None
) -> torch.Tensor:
    """Return the mean over targets of log Σ_c e^(s_c − log share_c) − s_target, where s is the largest product of an item and an interest.

    So training sees the score that serving ranks by. Shapes: users (B, K, D), items (C, D); target t is of user `rows[t]` and is item
    `places[t]` (T,); log_shares (C,).
    """
    return loss_of_logits((users @ items.T).amax(dim=1), rows, places, log_shares)
