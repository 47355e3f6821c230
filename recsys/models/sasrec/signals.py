"""Inputs of a sequence model beside items and their order: how strong each preference is, and the time until the next one.

Shapes: T interactions of U users one after another, D dimensions, S signals.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.models.base import F32
from recsys.models.sasrec import attention_kernel
from recsys.models.sasrec.gated_kernel import N_TIMES
from recsys.models.sasrec.norm import Norm

I64 = NDArray[np.int64]

N_STRENGTHS = 8
_UNITS = 32
"""Weights count in units of 1/32, as in users' rows: the strongest is 127 of them."""


class ReadSequences(NamedTuple):
    """Sequences of U users, one after another: user u has `items[starts[u]:starts[u + 1]]`, at least one, and the same of `weights`, of
    `ages_s`, seconds before the user's newest, and of `gaps_s`, from each to the next one or to the moment of the list; starts (U+1,), all
    others (T,)."""

    items: I64
    weights: F32
    ages_s: F32
    gaps_s: F32
    starts: I64

    @classmethod
    def until(cls, items: I64, weights: F32, ages_s: F32, moments_s: F32, starts: I64) -> ReadSequences:
        """Read sequences until the moments of their lists, `moments_s` (U,): seconds after the time that ages count from."""
        gaps_s = np.empty_like(ages_s)
        gaps_s[:-1] = ages_s[:-1] - ages_s[1:]
        gaps_s[starts[1:] - 1] = ages_s[starts[1:] - 1] + moments_s
        return cls(items, weights, ages_s, np.maximum(gaps_s, 0), starts)

    def part(self, users: slice) -> ReadSequences:
        """Return some of the sequences."""
        own = self.starts[users.start : users.stop + 1]
        rows = slice(own[0], own[-1])
        return ReadSequences(self.items[rows], self.weights[rows], self.ages_s[rows], self.gaps_s[rows], own - own[0])


def gap_classes(gaps_s: F32) -> I64:
    """Return the power of two of each gap in seconds, of any shape."""
    return np.minimum(np.log2(np.float32(1) + gaps_s).astype(np.int64), N_TIMES - 1)


def strength_classes(weights: F32) -> I64:
    """Return the power of two of each weight above 0, of any shape."""
    units = np.clip(weights * np.float32(_UNITS), 1, 127)
    return np.log2(units).astype(np.int64)


class Embeddings:
    """Tables of a network by which it reads a sequence. Holds its parameters, not copies of them."""

    def __init__(self, items: torch.Tensor, positions: torch.Tensor, gaps: torch.Tensor | None, strengths: torch.Tensor | None) -> None:
        """Shapes: items (I, D), positions (window, D), gaps (N_TIMES, D), strengths (N_STRENGTHS, D)."""
        self._items, self._positions = items.detach().numpy(), positions.detach().numpy()
        self.reads_gaps, self._reads_strengths = gaps is not None, strengths is not None
        tables = [one.detach().numpy() for one in (gaps, strengths) if one is not None]
        self._signals: F32 = np.concatenate(tables) if tables else np.zeros((0, self.width), np.float32)

    @property
    def width(self) -> int:
        """Return D."""
        return int(self._items.shape[1])

    def write(self, read: ReadSequences, norm: Norm, x: torch.Tensor, normed: torch.Tensor) -> None:
        """Write the embeddings to `x`, and their layer norm to `normed`; both (T, D)."""
        columns: list[I64] = []
        if self.reads_gaps:
            columns.append(gap_classes(read.gaps_s))
        if self._reads_strengths:
            columns.append(strength_classes(read.weights) + (N_TIMES if self.reads_gaps else 0))
        signals = np.stack(columns, axis=1) if columns else np.zeros((len(read.items), 0), np.int64)
        attention_kernel.embedded(
            self._items, self._positions, self._signals, read.items, signals, read.starts, norm.scale, norm.shift, norm.added, x.numpy(),
            normed.numpy(),
        )  # fmt: skip
