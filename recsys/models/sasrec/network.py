"""The network of SASRec: causal self-attention over a user's history. Source: Kang & McAuley 2018; gated blocks: Zhai et al. 2024."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from recsys.models.sasrec.config import SASRecConfig
from recsys.models.sasrec.gated import GatedBlock, GatedStates, Pairs
from recsys.models.sasrec.gated_kernel import N_TIMES
from recsys.models.sasrec.noise import Noise, dropped
from recsys.models.sasrec.norm import Norm
from recsys.models.sasrec.products import attend, product
from recsys.models.sasrec.signals import N_STRENGTHS, N_TYPES, Embeddings
from recsys.models.sasrec.states import Layer, NewestStates, Product


class Block(nn.Module):
    """One pre-norm layer: causal self-attention, then a two-layer network, each added to its input."""

    def __init__(self, width: int, heads: int, expand: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.network_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, expand * width)
        self.narrow = nn.Linear(expand * width, width)

    def forward(self, x: torch.Tensor, noise: Noise | None, numbers: torch.dtype) -> torch.Tensor:
        """Map (B, L, D) float32 to the same. Position i attends to positions up to i. Products are computed in `numbers`."""
        n_rows, length, width = x.shape
        q, k, v = (
            part.view(n_rows, length, self.heads, width // self.heads).transpose(1, 2)  # (B, H, L, D/H)
            for part in product(self.qkv, self.attention_norm(x), numbers).chunk(3, dim=-1)
        )
        mixed = attend(q, k, v).transpose(1, 2).reshape(n_rows, length, width)
        x = x + dropped(product(self.project, mixed, numbers), noise)
        inner = dropped(torch.relu(product(self.widen, self.network_norm(x), numbers)), noise)
        return x + dropped(product(self.narrow, inner, numbers), noise)

    def layer(self) -> Layer:
        """Return the block's parts for inference; they share its parameters."""
        return Layer(
            self.heads,
            Norm.of(self.attention_norm),
            Product.of(self.qkv),
            Product.of(self.project),
            Norm.of(self.network_norm),
            Product.of(self.widen),
            Product.of(self.narrow),
        )


SIGNALS = ("gaps", "strengths", "types")
"""Names of the options and of the tables of what is read beside items."""


class Signals(NamedTuple):
    """Inputs beside the items of a batch, (B, L) each: `ages_s`, seconds before any one moment of the row; `gaps_s`, from each to the
    moment that the next one is predicted for; `strengths`, classes of weights; `types`, of event types."""

    ages_s: torch.Tensor
    gaps_s: torch.Tensor
    strengths: torch.Tensor
    types: torch.Tensor

    def to(self, device: torch.device) -> Signals:
        return Signals(*(each.to(device) for each in self))


class Network(nn.Module):
    """Item embeddings (tied with the output), learned positions counted from the oldest item of the window, blocks, final norm."""

    def __init__(self, n_items: int, config: SASRecConfig) -> None:
        super().__init__()
        self.items = nn.Parameter(torch.empty(n_items, config.factors))
        self.positions = nn.Parameter(torch.empty(config.window, config.factors))
        self.gaps = nn.Parameter(torch.empty(N_TIMES, config.factors)) if config.gaps else None
        self.strengths = nn.Parameter(torch.empty(N_STRENGTHS, config.factors)) if config.strengths else None
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.blocks))
        self.types = nn.Parameter(torch.empty(N_TYPES, config.factors)) if config.types else None
        self.norm = nn.LayerNorm(config.factors)
        self._reads_times = bool(config.times)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw all weights from `generator`; biases become zero.

        What a layer adds to its input is scaled down by the root of the number of additions. Source: Radford et al. 2019.
        """
        added = (2 * len(self.blocks)) ** -0.5
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith((".distances", ".times")) or name in SIGNALS:
                    parameter.zero_()
                elif name in ("items", "positions"):
                    parameter.normal_(0.0, 0.05, generator=generator)
                elif parameter.ndim == 2:
                    scale = added if name.endswith(("project.weight", "narrow.weight")) else 1.0
                    parameter.normal_(0.0, scale * parameter.shape[1] ** -0.5, generator=generator)
                elif not name.endswith("norm.weight"):
                    parameter.zero_()

    def embed(self, sequences: torch.Tensor, signals: Signals, items: torch.Tensor | None = None) -> torch.Tensor:
        """Return item plus position embeddings, and what the signals add. Shapes: (B, L) item positions in, left-aligned; (B, L, D) out."""
        x = functional.embedding(sequences, self.items if items is None else items) + self.positions[: sequences.shape[1]]
        if self.gaps is not None:
            x = x + functional.embedding(torch.log2(1.0 + signals.gaps_s).long().clamp_max(N_TIMES - 1), self.gaps)
        if self.strengths is not None:
            x = x + functional.embedding(signals.strengths, self.strengths)
        if self.types is not None:
            x = x + functional.embedding(signals.types, self.types)
        return x

    def forward(
        self,
        sequences: torch.Tensor,
        signals: Signals,
        noise: Noise | None = None,
        numbers: torch.dtype = torch.float32,
        items: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the state after each position.

        Shapes: (B, L) left-aligned item positions in; (B, L, D) float32 out. Attention is causal, so padding on the right changes nothing.
        `noise` drops numbers in training; matrix products are computed in `numbers`. With `items` (R, D) sequences are places in it
        instead of in all items.
        """
        x = dropped(self.embed(sequences, signals, items), noise)
        if isinstance(self.blocks[0], GatedBlock):
            ages_s, gaps_s = signals.ages_s, signals.gaps_s if self.gaps is not None else None
            pairs = Pairs(ages_s, gaps_s) if self._reads_times else Pairs(torch.zeros(sequences.shape, device=sequences.device))
            for block in self.blocks:
                x = block(x, pairs, noise, numbers)
        else:
            for block in self.blocks:
                x = block(x, noise, numbers)
        normed: torch.Tensor = self.norm(x)
        return normed

    def newest_states(self) -> NewestStates | GatedStates:
        """Return a callable that computes `forward` at the last position of each sequence alone, at less than half the cost."""
        norm, gated = Norm.of(self.norm), [block for block in self.blocks if isinstance(block, GatedBlock)]
        embeddings = Embeddings(self.items, self.positions, (self.gaps, self.strengths, self.types))
        if gated:
            return GatedStates(embeddings, gated, norm, self._reads_times)
        return NewestStates(embeddings, [block.layer() for block in self.blocks if isinstance(block, Block)], norm)


def _block(config: SASRecConfig) -> Block | GatedBlock:
    if config.block == "hstu":
        return GatedBlock(config.factors, config.heads, config.window)
    return Block(config.factors, config.heads, config.expand)
