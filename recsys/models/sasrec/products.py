"""Products of a training step, in the numbers that the processor is quick at."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

_LOWEST = -1e9
"""Added to logits of attention that must not count."""


def product(layer: nn.Linear, x: torch.Tensor, numbers: torch.dtype) -> torch.Tensor:
    """Return the linear layer of `x`, computed in `numbers`, its sums in float32."""
    return functional.linear(x.to(numbers), layer.weight.to(numbers), layer.bias.to(numbers))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return what each position reads from those up to itself; all (B, H, L, d).

    In bfloat16, whole products of a batch are quicker than torch's blocked attention on a processor.
    """
    if q.dtype != torch.bfloat16 or q.is_cuda:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    n_rows, heads, length, depth = q.shape
    later = torch.full((length, length), _LOWEST, dtype=q.dtype, device=q.device).triu(1)
    flat = [each.reshape(n_rows * heads, length, depth) for each in (q, k, v)]
    logits = torch.baddbmm(later.expand(n_rows * heads, length, length), flat[0], flat[1].transpose(1, 2), alpha=depth**-0.5)
    return (torch.softmax(logits, -1) @ flat[2]).view(q.shape)
