"""The block of HSTU: attention with SiLU instead of a softmax, a gate, and biases of distance and time. Source: Zhai et al. 2024."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from recsys.models.base import F32
from recsys.models.sasrec import attention_kernel, gated_kernel
from recsys.models.sasrec.gated_kernel import N_TIMES
from recsys.models.sasrec.noise import Noise, dropped
from recsys.models.sasrec.norm import Norm
from recsys.models.sasrec.products import product
from recsys.models.sasrec.signals import Embeddings, ReadSequences
from recsys.models.sasrec.states import Product

I64 = NDArray[np.int64]


class GatedBlock(nn.Module):
    """One layer: x + W (norm(A V) · U) with U, Q, V, K = SiLU(W′ norm(x)), and A = SiLU(Q Kᵀ / √d + distance + time) / window.

    A sum, not a mean: how often something was chosen stays visible.
    """

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.uqvk = nn.Linear(width, 4 * width)
        self.distances = nn.Parameter(torch.empty(heads, window))
        self.times = nn.Parameter(torch.empty(heads, N_TIMES))
        self.gate_norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, pairs: Pairs, noise: Noise | None, numbers: torch.dtype) -> torch.Tensor:
        """Map (B, L, D) float32 to the same. Position i attends to positions up to i. Products are computed in `numbers`."""
        n_rows, length, width = x.shape
        depth = width // self.heads
        gates, *rest = functional.silu(product(self.uqvk, self.attention_norm(x), numbers)).chunk(4, dim=-1)
        q, v, k = (part.view(n_rows, length, self.heads, depth).transpose(1, 2) for part in rest)  # (B, H, L, d)
        logits = q @ k.transpose(2, 3) * depth**-0.5 + pairs.bias(self.distances, self.times).to(numbers)  # (B, H, L, L)
        shares = functional.silu(logits) * (pairs.seen.to(numbers) / self.distances.shape[1])
        mixed = (shares @ v).transpose(1, 2).reshape(n_rows, length, width)
        return x + dropped(product(self.project, self.gate_norm(mixed.float()) * gates, numbers), noise)


class Pairs:
    """Distances and times between the positions of a batch, which all layers share."""

    def __init__(self, ages_s: torch.Tensor, gaps_s: torch.Tensor | None = None) -> None:
        """Shapes: ages_s (B, L), seconds before any one moment of the row; gaps_s (B, L), from each to the moment that it is read at."""
        places = torch.arange(ages_s.shape[1], device=ages_s.device)
        between = places.unsqueeze(1) - places  # (L, L)
        self.seen = between >= 0
        self._distances = between.clamp_min(0)
        moments_s = ages_s if gaps_s is None else ages_s - gaps_s
        seconds = (ages_s.unsqueeze(1) - moments_s.unsqueeze(2)).clamp_min(0.0)  # (B, L, L): from the column to the moment of the row
        self._times = torch.log2(1.0 + seconds).long().clamp_max(N_TIMES - 1)

    def bias(self, distances: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Return what is added to the logits, (B, H, L, L), by the biases of one layer: (H, window) and (H, N_TIMES)."""
        by_time = functional.embedding(self._times, times.T).permute(0, 3, 1, 2)
        return by_time + distances[:, self._distances]


class GatedStates:
    """Computes newest states of a network of gated blocks. Holds its parameters, not copies of them; may be called in several threads."""

    def __init__(self, embeddings: Embeddings, blocks: Sequence[GatedBlock], norm: Norm, reads_times: bool = True) -> None:
        self._embeddings, self._norm, self._reads_times = embeddings, norm, reads_times
        self._layers = [_Layer(block) for block in blocks]

    def __call__(self, read: ReadSequences) -> F32:
        """Return the state after the newest position of each sequence, (U, D)."""
        width, starts = self._embeddings.width, read.starts
        x, normed, mixed = torch.empty((3, len(read.items), width))
        self._embeddings.write(read, self._layers[0].attention_norm, x, normed)
        ages_s, moments_s = read.ages_s, read.ages_s - read.gaps_s if self._embeddings.reads_gaps else read.ages_s
        if not self._reads_times:
            ages_s = moments_s = np.zeros_like(ages_s)
        for layer, following in zip(self._layers[:-1], self._layers[1:], strict=True):
            uqvk = layer.uqvk.silu(normed)
            gated_kernel.gated_causal(uqvk.numpy(), ages_s, moments_s, starts, layer.heads, layer.distances, layer.times, mixed.numpy())
            layer.finish(x, mixed, uqvk, following.attention_norm, normed)
        newest, last = self._layers[-1], torch.from_numpy(starts[1:] - 1)
        gates_queries, values_keys = newest.gates_queries.silu(normed[last]), newest.values_keys.silu(normed)
        x, normed, mixed = x[last], normed[: len(last)], mixed[: len(last)]
        queries = gates_queries.numpy()[:, width:]
        gated_kernel.gated_newest(
            np.ascontiguousarray(queries),
            values_keys.numpy(),
            ages_s,
            moments_s,
            starts,
            newest.heads,
            newest.distances,
            newest.times,
            mixed.numpy(),
        )
        newest.finish(x, mixed, gates_queries, self._norm, normed)
        states: F32 = normed.numpy()
        return states


class _Silu:
    """A linear layer with SiLU after it."""

    def __init__(self, layer: Product) -> None:
        self._layer = layer

    def silu(self, x: torch.Tensor) -> torch.Tensor:
        found = x @ self._layer.weights
        gated_kernel.silu(found.numpy(), self._layer.bias.numpy())
        return found


class _Layer:
    """One block's parts for inference; they share its parameters."""

    def __init__(self, block: GatedBlock) -> None:
        self.heads, whole = block.heads, Product.of(block.uqvk)
        width = whole.bias.shape[0] // 4
        self.uqvk, self.gates_queries, self.values_keys = (
            _Silu(whole.part(outputs)) for outputs in (slice(None), slice(2 * width), slice(2 * width, None))
        )
        self.distances, self.times = block.distances.detach().numpy(), block.times.detach().numpy()
        self.attention_norm, self._gate_norm = Norm.of(block.attention_norm), Norm.of(block.gate_norm)
        self._project = Product.of(block.project)

    def finish(self, x: torch.Tensor, mixed: torch.Tensor, gates: torch.Tensor, following: Norm, normed: torch.Tensor) -> None:
        """Write the layer's output to `x`, and the `following` norm of that to `normed`; all (T, D). `mixed` is overwritten.

        The first D columns of `gates` are the gates.
        """
        norm = self._gate_norm
        gated_kernel.norm_and_gate(mixed.numpy(), norm.scale, norm.shift, norm.added, gates.numpy(), normed.numpy())
        torch.mm(normed, self._project.weights, out=mixed)
        bias = self._project.bias.numpy()
        attention_kernel.add_and_norm(x.numpy(), mixed.numpy(), bias, following.scale, following.shift, following.added, normed.numpy())
