"""SASRec: causal self-attention over a user's history, served with the last layer computed for the newest position alone.

Source: Kang & McAuley 2018; cross-entropy over all items as in Klenitskiy & Vasilev 2023 ("Turning Dross Into Gold Loss").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from recsys.errors import ShapeError
from recsys.models.base import F32, Histories

_BLOCK_TOKENS = 3_200
"""Positions encoded at once: 0.8 MB a tensor at 64 dimensions, so that a block stays in the processor's cache."""
_PADDED_TOKENS = 400
"""Positions of padding that cost no more than a block more."""


@dataclass(frozen=True, slots=True)
class SASRecConfig:
    """How the network looks and how it is trained."""

    factors: int = 64
    blocks: int = 2
    heads: int = 1
    window: int = 50
    """Newest preferences that the network reads."""
    dropout: float = 0.2
    learning_rate: float = 2e-3
    batch_sequences: int = 32
    max_epochs: int = 60
    patience: int = 3
    """Epochs without a better validation loss before the training ends."""
    validation_users: int = 1_000
    """Users whose last item is kept from training to see when to stop; at most half of all."""
    sampled_above: int = 20_000
    """With more items than this the cross-entropy runs over sampled negatives."""
    negatives: int = 4_096
    """Sampled negatives, shared by one batch."""
    fixed_epochs: int = 0
    """Above 0: train exactly so many epochs without validation (a refit)."""
    seed: int = 0


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
        """(B, L, D) to (B, L, D); position i sees positions up to i."""
        n_rows, length, width = x.shape
        q, k, v = (
            part.view(n_rows, length, self.heads, width // self.heads).transpose(1, 2)  # (B, H, L, D/H)
            for part in self.qkv(self.attention_norm(x)).chunk(3, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.dropout if self.training else 0.0)
        x = x + self._drop(self.project(mixed.transpose(1, 2).reshape(n_rows, length, width)))
        return x + self._network(x)

    def last(self, x: torch.Tensor, newest: torch.Tensor) -> torch.Tensor:
        """What `forward` answers at one position of each row. Shapes: x (B, L, D), newest (B,) positions; returns (B, D)."""
        n_rows, length, width = x.shape
        depth = width // self.heads
        normed = self.attention_norm(x)
        of_newest = torch.arange(n_rows), newest
        q = functional.linear(normed[of_newest], self.qkv.weight[:width], self.qkv.bias[:width])  # (B, D)
        k, v = functional.linear(normed, self.qkv.weight[width:], self.qkv.bias[width:]).chunk(2, dim=-1)  # (B, L, D)
        scores = torch.matmul(
            k.view(n_rows, length, self.heads, depth).transpose(1, 2), q.view(n_rows, self.heads, depth, 1)
        )  # (B, H, L, 1)
        later = torch.arange(length) > newest.unsqueeze(1)  # (B, L)
        scores = scores.mul_(depth**-0.5).masked_fill_(later.view(n_rows, 1, length, 1), -torch.inf)
        shares = torch.softmax(scores, dim=2).transpose(2, 3)  # (B, H, 1, L)
        mixed = torch.matmul(shares, v.view(n_rows, length, self.heads, depth).transpose(1, 2)).reshape(n_rows, width)
        out = x[of_newest] + self.project(mixed)
        result: torch.Tensor = out + self._network(out)
        return result

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
        """Draw all weights anew."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name in ("items", "positions"):
                    parameter.normal_(0.0, 0.05, generator=generator)
                elif parameter.ndim == 2:
                    parameter.normal_(0.0, parameter.shape[1] ** -0.5, generator=generator)
                elif not name.endswith("norm.weight"):
                    parameter.zero_()

    def embed(self, sequences: torch.Tensor) -> torch.Tensor:
        """Item plus position. Shapes: (B, L) item positions in, left-aligned; (B, L, D) out."""
        return functional.embedding(sequences, self.items) + self.positions[: sequences.shape[1]]

    def forward(self, sequences: torch.Tensor) -> torch.Tensor:
        """States after each position.

        Shapes: (B, L) left-aligned item positions; (B, L, D). Causality makes padding on the right harmless.
        """
        x = functional.dropout(self.embed(sequences), self.dropout, self.training)
        for block in self.blocks:
            x = block(x)
        normed: torch.Tensor = self.norm(x)
        return normed

    def newest_state(self, sequences: torch.Tensor, newest: torch.Tensor) -> torch.Tensor:
        """The state at position `newest` (B,) of each row only, (B, D): equal to `forward` there at half its cost."""
        x = self.embed(sequences)
        for block in self.blocks[:-1]:
            x = block(x)
        last = self.blocks[-1]
        assert isinstance(last, Block)
        normed: torch.Tensor = self.norm(last.last(x, newest))
        return normed


class SASRecModel:
    """A trained network; the score of an item is the inner product of its embedding with the state after the newest preference."""

    kind: ClassVar[str] = "sasrec"
    link: ClassVar[Literal["identity", "softmax"]] = "softmax"

    def __init__(self, settings: SASRecConfig, item_ids: list[str], network: Network) -> None:
        if network.items.shape != (len(item_ids), settings.factors):
            raise ShapeError(f"item embeddings have shape {tuple(network.items.shape)}, expected {(len(item_ids), settings.factors)}")
        self.settings = settings
        self.item_ids = item_ids
        self.network = network.eval().requires_grad_(False)
        self.item_vectors: F32 = network.items.detach().numpy()
        self.history_length = settings.window

    @property
    def config(self) -> dict[str, Any]:
        return asdict(self.settings)

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {name: parameter.detach().numpy() for name, parameter in self.network.named_parameters()}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        known = {field.name for field in fields(SASRecConfig)}
        settings = SASRecConfig(**{k: v for k, v in config.items() if k in known})
        with torch.device("meta"):
            network = Network(len(item_ids), settings)
        expected = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
        found = {name: tuple(array.shape) for name, array in tensors.items()}
        if expected != found:
            wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
            raise ShapeError(f"tensor {wrong[0]}: got shape {found.get(wrong[0])}, this configuration needs {expected.get(wrong[0])}")
        weights = {name: torch.from_numpy(np.array(array, np.float32)) for name, array in tensors.items()}
        network.load_state_dict(weights, assign=True)
        return cls(settings, item_ids, network)

    @torch.inference_mode()
    def encode(self, histories: Histories) -> F32:
        """User vectors (U, D): the network's state after the newest preference.

        Only known items with a weight above 0 are read, at most the newest `history_length` of them; a history without any gives a zero
        vector. Users are encoded in blocks of like length, so that short histories do not pay for long ones.
        """
        n_users = len(histories)
        vectors = np.zeros((n_users, self.settings.factors), np.float32)
        sequences, lengths = left_aligned(histories, self.settings.window)
        order = np.argsort(lengths, kind="stable")
        for rows in blocks_of_like_length(lengths[order]):
            users = order[rows]
            block = torch.from_numpy(sequences[users, : lengths[users[-1]]])
            vectors[users] = self.network.newest_state(block, torch.from_numpy(lengths[users] - 1)).numpy()
        return vectors


def blocks_of_like_length(lengths: NDArray[np.int64]) -> Iterator[slice]:
    """Runs of ascending `lengths` (U,) that are encoded together, padded to their longest; those of length 0 are left out.

    A run's padding is at most an eighth of what it holds, or as much as costs no more than a run of its own: a few users make few blocks.
    """
    start = int(np.searchsorted(lengths, 0, side="right"))
    while start < len(lengths):
        own = lengths[start:]
        held = np.cumsum(own)
        padded = np.arange(1, len(own) + 1) * own
        fits = (padded - held <= np.maximum(held // 8, _PADDED_TOKENS)) & (padded <= _BLOCK_TOKENS)
        end = start + max(1, len(own) if fits.all() else int(np.argmin(fits)))
        yield slice(start, end)
        start = end


def left_aligned(histories: Histories, window: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The newest `window` known preferences of each user from column 0 on, (U, window) with 0 as padding, and how many each has, (U,)."""
    read = (histories.items >= 0) & (histories.weights > 0)
    from_end = np.cumsum(read[:, ::-1], axis=1)[:, ::-1]  # 1: newest
    lengths = np.minimum(read.sum(1), window).astype(np.int64)
    row, column = np.nonzero(read & (from_end <= window))
    sequences = np.zeros((len(histories), window), np.int64)
    sequences[row, lengths[row] - from_end[row, column]] = histories.items[row, column]
    return sequences, lengths
