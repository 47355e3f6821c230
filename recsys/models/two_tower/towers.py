"""The two towers as torch reads them in training.

Shapes: B histories, n entries of all, I items, F values, E dimensions of embeddings, S segments, D dimensions, H hidden units, C compared
items.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from recsys.models.base import F32
from recsys.models.item_values import ItemValues
from recsys.models.two_tower.reading_kernel import EDGES_S, N_AGES, N_RANKS

I64 = NDArray[np.int64]

_SPREAD = 0.05


class Towers(NamedTuple):
    """Trained numbers. The last dimension of items is a bias: that of a user's vector is 1.

    `items` (I, D+1) by id, `values` (F, D+1), `embeddings` (E, D+1); `read` (I, D), what an item is as part of a history; `ranks` (R,) and
    `ages` (A,), logarithms of what an entry counts; `widen` (D, H), `shift` (H,) and `narrow` (H, D) of the hidden layer; `segments` (S, D)
    of profiles.
    """

    items: torch.Tensor
    values: torch.Tensor
    embeddings: torch.Tensor
    read: torch.Tensor
    ranks: torch.Tensor
    ages: torch.Tensor
    widen: torch.Tensor
    shift: torch.Tensor
    narrow: torch.Tensor
    segments: torch.Tensor

    @staticmethod
    def shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the tensors by name."""
        n, d, h = sizes.items, sizes.factors, sizes.hidden
        return {
            "items": (n, d + 1), "values": (sizes.values, d + 1), "embeddings": (sizes.embeddings, d + 1), "read": (n, d),
            "ranks": (N_RANKS,), "ages": (N_AGES,), "widen": (d, h), "shift": (h,), "narrow": (h, d), "segments": (sizes.segments, d),
        }  # fmt: skip

    @classmethod
    def random(cls, sizes: Sizes, seed: int) -> Towers:
        """Return first numbers; the seed decides them."""
        generator = torch.Generator().manual_seed(seed)

        found = cls(**{name: torch.zeros(shape) for name, shape in cls.shapes(sizes).items()})
        for table in (found.items, found.values, found.embeddings, found.read):
            table.normal_(0, _SPREAD, generator=generator)
        found.widen.normal_(0, sizes.factors**-0.5, generator=generator)
        for biased in (found.items, found.values, found.embeddings):
            biased[:, -1] = 0
        return found

    def copied(self) -> Towers:
        """Return a copy without gradients."""
        return Towers(*(one.detach().clone() for one in self))

    def users(self, read: Read, members: torch.Tensor | None = None, shown: torch.Tensor | None = None) -> torch.Tensor:
        """Return the vectors (B, D+1) of histories that are not empty. `members` (B, S) are the segments of their users; where `shown` (B,)
        is 0 these stand alone."""
        weights = torch.exp(self.ranks[read.ranks] + self.ages[read.ages])  # (n,)
        sums = torch.zeros(len(read.starts)).index_add(0, read.rows, weights)
        scales = weights / sums.sqrt()[read.rows]
        pooled = functional.embedding_bag(read.items, self.read, read.starts, mode="sum", per_sample_weights=scales)  # (B, D)
        found = pooled + functional.relu(pooled @ self.widen + self.shift) @ self.narrow if len(self.shift) else pooled
        if shown is not None:
            found = found * shown[:, None]
        if members is not None:
            found = found + members @ self.segments
        return functional.pad(found, (0, 1), value=1.0)

    def vectors(
        self, items: I64, content: Content, by_id: torch.Tensor | None = None, own: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the vectors (C, D+1) of items; where `by_id` (C,) is 0 an item stands by what it says alone. `own` (C, D+1) are their rows
        of `items`, where these were read before."""
        found = functional.embedding(torch.from_numpy(items), self.items) if own is None else own
        if by_id is not None:
            found = found * by_id[:, None]
        if len(content.said.columns):
            starts, ends = content.said.starts[items], content.said.starts[items + 1]
            lengths = ends - starts
            offsets = np.cumsum(lengths) - lengths
            places = np.repeat(starts - offsets, lengths) + np.arange(int(lengths.sum()))
            columns, weights = content.said.columns[places].astype(np.int64), content.said.weights[places]
            found = found + functional.embedding_bag(
                torch.from_numpy(columns), self.values, torch.from_numpy(offsets), mode="sum", per_sample_weights=torch.from_numpy(weights)
            )
        if content.embedded is not None:
            found = found + torch.from_numpy(content.embedded[items]) @ self.embeddings
        return found


class Read(NamedTuple):
    """B histories, one after another, oldest first: `items`, and classes of their `ranks` and `ages` (n,), the history `rows` (n,) that
    each belongs to, and where histories begin, `starts` (B,)."""

    items: torch.Tensor
    ranks: torch.Tensor
    ages: torch.Tensor
    rows: torch.Tensor
    starts: torch.Tensor

    @classmethod
    def of(cls, items: NDArray[np.integer], ts_ms: I64, lengths: I64) -> Read:
        """Read items of histories of `lengths` (B,), each item once in one, and the times of their interactions (n,)."""
        ends = np.cumsum(lengths)
        rows = np.repeat(np.arange(len(lengths)), lengths)
        n_newer = (ends[rows] - 1) - np.arange(len(items))
        ranks = np.minimum(np.log2(1 + n_newer).astype(np.int64), N_RANKS - 1)
        ages_s = ((ts_ms[ends - 1][rows] - ts_ms) / 1_000).astype(np.float32)
        ages = np.searchsorted(EDGES_S, ages_s, side="right").astype(np.int64)
        arrays = np.asarray(items, np.int64), ranks, ages, rows, ends - lengths
        return cls(*(torch.from_numpy(array) for array in arrays))


class Sizes(NamedTuple):
    """Numbers of items, values, dimensions of embeddings, segments, factors and hidden units."""

    items: int
    values: int
    embeddings: int
    segments: int
    factors: int
    hidden: int


class Content(NamedTuple):
    """Holds what items say: values, and their `embedded` texts and images (I, E), None without any. `blocks` name the latter, in order."""

    said: ItemValues
    blocks: tuple[tuple[str, int], ...]
    embedded: F32 | None

    @property
    def says(self) -> NDArray[np.bool_]:
        """Mark the items that say something, (I,)."""
        found: NDArray[np.bool_] = np.diff(self.said.starts) > 0
        return found if self.embedded is None else found | self.embedded.any(axis=1)
