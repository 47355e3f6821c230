"""Inference of SASRec: the network's state after the newest position of each sequence.

It needs no gradients, and the last layer is computed for the newest position alone. Matrix products are torch's; everything between them is
one pass of a compiled loop, so a few users cost few calls and many users cost few passes over memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recsys.models.base import F32
from recsys.models.sasrec import attention_kernel
from recsys.models.sasrec.norm import Norm
from recsys.models.sasrec.signals import Embeddings, ReadSequences

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Product:
    """A linear layer from D to E: weights (D, E), a view, and bias (E,)."""

    weights: torch.Tensor
    bias: torch.Tensor

    @classmethod
    def of(cls, linear: nn.Linear) -> Self:
        return cls(linear.weight.detach().T, linear.bias.detach())

    def part(self, outputs: slice) -> Product:
        """Return the layer restricted to some of its outputs."""
        return Product(self.weights[:, outputs], self.bias[outputs])


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's parts, named as in the network."""

    heads: int
    attention_norm: Norm
    qkv: Product
    project: Product
    network_norm: Norm
    widen: Product
    narrow: Product


class NewestStates:
    """Computes newest states of a network. Holds its parameters, not copies of them; may be called in several threads."""

    def __init__(self, embeddings: Embeddings, layers: Sequence[Layer], norm: Norm) -> None:
        self._embeddings, self._layers, self._norm = embeddings, layers, norm
        width, newest = embeddings.width, layers[-1]
        self._queries, self._keys_values = newest.qkv.part(slice(width)), newest.qkv.part(slice(width, None))

    def __call__(self, read: ReadSequences) -> F32:
        """Return the state after the newest position of each sequence, (U, D)."""
        width, starts = self._embeddings.width, read.starts
        x, normed, mixed = torch.empty((3, len(read.items), width))
        wide = torch.empty((len(read.items), max(layer.widen.bias.shape[0] for layer in self._layers)))
        self._embeddings.write(read, self._layers[0].attention_norm, x, normed)
        *before, newest = self._layers
        for layer, following in zip(before, self._layers[1:], strict=True):
            qkv = torch.addmm(layer.qkv.bias, normed, layer.qkv.weights)
            attention_kernel.causal(qkv.numpy(), starts, layer.heads, mixed.numpy())
            _finish(layer, x, mixed, following.attention_norm, normed, wide)
        last = torch.from_numpy(starts[1:] - 1)
        queries = torch.addmm(self._queries.bias, normed[last], self._queries.weights)
        keys_values = torch.addmm(self._keys_values.bias, normed, self._keys_values.weights)
        x, normed, mixed, wide = x[last], normed[: len(last)], mixed[: len(last)], wide[: len(last)]
        attention_kernel.newest(queries.numpy(), keys_values.numpy(), starts, newest.heads, mixed.numpy())
        _finish(newest, x, mixed, self._norm, normed, wide)
        states: F32 = normed.numpy()
        return states


def _finish(layer: Layer, x: torch.Tensor, mixed: torch.Tensor, following: Norm, normed: torch.Tensor, wide: torch.Tensor) -> None:
    """Apply the rest of a layer after attention: write its output to `x`, and the `following` norm of that to `normed`; all (T, D).

    `mixed` and `wide` (T, E), E the width of the layer's network, are overwritten.
    """
    norm = layer.network_norm
    torch.mm(mixed, layer.project.weights, out=normed)
    attention_kernel.add_and_norm(x.numpy(), normed.numpy(), layer.project.bias.numpy(), norm.scale, norm.shift, norm.added, normed.numpy())
    torch.mm(normed, layer.widen.weights, out=wide)
    attention_kernel.rectify(wide.numpy(), layer.widen.bias.numpy())
    torch.mm(wide, layer.narrow.weights, out=mixed)
    bias = layer.narrow.bias.numpy()
    attention_kernel.add_and_norm(x.numpy(), mixed.numpy(), bias, following.scale, following.shift, following.added, normed.numpy())
