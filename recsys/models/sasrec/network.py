"""The network of SASRec: causal self-attention over a user's history. Source: Kang & McAuley 2018."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from recsys.models.sasrec.config import SASRecConfig
from recsys.models.sasrec.states import Layer, NewestStates, Norm, Product


class Block(nn.Module):
    """One pre-norm layer: causal self-attention, then a two-layer network of the same width, each added to its input."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.network_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, width)
        self.narrow = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, L, D) to (B, L, D). Position i attends to positions up to i."""
        n_rows, length, width = x.shape
        q, k, v = (
            part.view(n_rows, length, self.heads, width // self.heads).transpose(1, 2)  # (B, H, L, D/H)
            for part in self.qkv(self.attention_norm(x)).chunk(3, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.dropout if self.training else 0.0)
        x = x + self._drop(self.project(mixed.transpose(1, 2).reshape(n_rows, length, width)))
        return x + self._network(x)

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

    def _network(self, x: torch.Tensor) -> torch.Tensor:
        return self._drop(self.narrow(self._drop(torch.relu(self.widen(self.network_norm(x))))))

    def _drop(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(x, self.dropout, self.training)


class Network(nn.Module):
    """Item embeddings (tied with the output), learned positions counted from the oldest item of the window, blocks, final norm."""

    def __init__(self, n_items: int, config: SASRecConfig) -> None:
        super().__init__()
        self.items = nn.Parameter(torch.empty(n_items, config.factors))
        self.positions = nn.Parameter(torch.empty(config.window, config.factors))
        self.blocks = nn.ModuleList(Block(config.factors, config.heads, config.dropout) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.factors)
        self.dropout = config.dropout

    def initialise(self, generator: torch.Generator) -> None:
        """Draw all weights from `generator`; biases become zero."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name in ("items", "positions"):
                    parameter.normal_(0.0, 0.05, generator=generator)
                elif parameter.ndim == 2:
                    parameter.normal_(0.0, parameter.shape[1] ** -0.5, generator=generator)
                elif not name.endswith("norm.weight"):
                    parameter.zero_()

    def embed(self, sequences: torch.Tensor) -> torch.Tensor:
        """Return item plus position embeddings. Shapes: (B, L) item positions in, left-aligned; (B, L, D) out."""
        return functional.embedding(sequences, self.items) + self.positions[: sequences.shape[1]]

    def forward(self, sequences: torch.Tensor) -> torch.Tensor:
        """Return the state after each position.

        Shapes: (B, L) left-aligned item positions in; (B, L, D) out. Attention is causal, so padding on the right changes nothing.
        """
        x = functional.dropout(self.embed(sequences), self.dropout, self.training)
        for block in self.blocks:
            x = block(x)
        normed: torch.Tensor = self.norm(x)
        return normed

    def newest_states(self) -> NewestStates:
        """Return a callable that computes `forward` at the last position of each sequence alone, at less than half the cost."""
        layers = [block.layer() for block in self.blocks if isinstance(block, Block)]
        return NewestStates(self.items, self.positions, layers, Norm.of(self.norm))
