"""Pieces of records as compiled loops take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Texts:
    """Pieces of records one after another, and where they end, (n,)."""

    joined: NDArray[np.uint8]
    ends: I64

    @classmethod
    def of(cls, pieces: Sequence[bytes]) -> Texts:
        return cls(np.frombuffer(b"".join(pieces), np.uint8), np.cumsum([len(piece) for piece in pieces], dtype=np.int64))

    def size_of(self, numbers: I64) -> int:
        """Bytes of the pieces with these numbers together, any shape; −1 is none."""
        named = numbers[numbers >= 0]
        inner = named[named > 0]
        return int(self.ends[named].sum() - self.ends[inner - 1].sum())
