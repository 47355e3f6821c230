"""A layer norm as inference reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from torch import nn

from recsys.models.base import F32


@dataclass(frozen=True, slots=True)
class Norm:
    """A layer norm: scale and shift (D,), and `added` to the variance."""

    scale: F32
    shift: F32
    added: float

    @classmethod
    def of(cls, norm: nn.LayerNorm) -> Self:
        return cls(norm.weight.detach().numpy(), norm.bias.detach().numpy(), norm.eps)
