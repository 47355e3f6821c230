"""Inputs of a sequence model beside items and their order: how strong each preference is and of which type, and the time until the next.

Shapes: T interactions of U users one after another, D dimensions, S signals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.models.base import F32
from recsys.models.sasrec import attention_kernel
from recsys.models.sasrec.gated_kernel import N_TIMES
from recsys.models.sasrec.norm import Norm

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

N_STRENGTHS = 8
N_TYPES = 64
"""Event types have codes up to 63 in user rows."""
_UNITS = 32
"""Weights count in units of 1/32, as in users' rows: the strongest is 127 of them."""


class ReadSequences(NamedTuple):
    """Sequences of U users, one after another: user u has `items[starts[u]:starts[u + 1]]`, at least one, and the same of `weights`, of
    `types`, codes of event types, of `ages_s`, seconds before the user's newest, and of `gaps_s`, from each to the next one or to the
    moment of the list; starts (U+1,), all others (T,)."""

    items: I64
    weights: F32
    types: U8
    ages_s: F32
    gaps_s: F32
    starts: I64

    @classmethod
    def until(cls, items: I64, weights: F32, types: U8, ages_s: F32, moments_s: F32, starts: I64) -> ReadSequences:
        """Read sequences until the moments of their lists, `moments_s` (U,): seconds after the time that ages count from."""
        gaps_s = np.empty_like(ages_s)
        gaps_s[:-1] = ages_s[:-1] - ages_s[1:]
        gaps_s[starts[1:] - 1] = ages_s[starts[1:] - 1] + moments_s
        return cls(items, weights, types, ages_s, np.maximum(gaps_s, 0), starts)

    def part(self, users: slice) -> ReadSequences:
        """Return some of the sequences."""
        own = self.starts[users.start : users.stop + 1]
        rows = slice(own[0], own[-1])
        signals = self.weights[rows], self.types[rows], self.ages_s[rows], self.gaps_s[rows]
        return ReadSequences(self.items[rows], *signals, own - own[0])


def gap_classes(gaps_s: F32) -> I64:
    """Return the power of two of each gap in seconds, of any shape."""
    classes: I64 = np.log2(np.float32(1) + gaps_s).astype(np.int64)
    return np.minimum(classes, N_TIMES - 1)


def strength_classes(weights: F32) -> I64:
    """Return the power of two of each weight above 0, of any shape."""
    units = np.clip(weights * np.float32(_UNITS), 1, 127)
    classes: I64 = np.log2(units).astype(np.int64)
    return classes


def type_classes(types: NDArray[np.integer]) -> I64:
    """Return the classes of codes of event types, of any shape; those of types that came later are one."""
    return np.minimum(types.astype(np.int64), N_TYPES - 1)


class Embeddings:
    """Tables of a network by which it reads a sequence. Holds its parameters, not copies of them."""

    def __init__(self, items: torch.Tensor, positions: torch.Tensor, signals: Sequence[torch.Tensor | None]) -> None:
        """Shapes: items (I, D), positions (window, D), signals (N_TIMES, D), (N_STRENGTHS, D) and (N_TYPES, D) for gaps, strengths and
        types, None for what is not read."""
        self._items, self._positions = items.detach().numpy(), positions.detach().numpy()
        self._is_read = [table is not None for table in signals]
        tables = [table.detach().numpy() for table in signals if table is not None]
        self._starts = np.cumsum([0, *(0 if table is None else len(table) for table in signals)])
        self._signals: F32 = np.concatenate(tables) if tables else np.zeros((0, self.width), np.float32)

    @property
    def reads_gaps(self) -> bool:
        """Return whether the time until the next item is read."""
        return self._is_read[0]

    @property
    def width(self) -> int:
        """Return D."""
        return int(self._items.shape[1])

    def write(self, read: ReadSequences, norm: Norm, x: torch.Tensor, normed: torch.Tensor) -> None:
        """Write the embeddings to `x`, and their layer norm to `normed`; both (T, D)."""
        classes = gap_classes(read.gaps_s), strength_classes(read.weights), type_classes(read.types)
        columns = [one + start for one, start, is_read in zip(classes, self._starts[:-1], self._is_read, strict=True) if is_read]
        signals = np.stack(columns, axis=1) if columns else np.zeros((len(read.items), 0), np.int64)
        attention_kernel.embedded(
            self._items, self._positions, self._signals, read.items, signals, read.starts, norm.scale, norm.shift, norm.added, x.numpy(),
            normed.numpy(),
        )  # fmt: skip
