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
from recsys.models import encoding_kernel
from recsys.models.base import F32, Histories

I64 = NDArray[np.int64]

_BLOCK_POSITIONS = 3_200
"""Positions encoded at once: 0.8 MB a tensor at 64 dimensions, so that a block stays in the processor's cache."""


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

    def joined(self, x: torch.Tensor, starts: I64) -> torch.Tensor:
        """What `forward` answers, for sequences laid one after another, of which sequence u begins at `starts[u]`: (T, D) to (T, D).
        Without gradients; `x` is overwritten."""
        qkv = self.qkv(self.attention_norm(x))
        mixed = torch.empty_like(x)
        encoding_kernel.causal(qkv.numpy(), starts, self.heads, mixed.numpy())
        return self._added(x, mixed)

    def newest(self, x: torch.Tensor, starts: I64) -> torch.Tensor:
        """What `joined` answers at the last position of each sequence, (T, D) to (U, D)."""
        width = x.shape[1]
        last = torch.from_numpy(starts[1:] - 1)
        normed = self.attention_norm(x)
        q = functional.linear(normed[last], self.qkv.weight[:width], self.qkv.bias[:width])
        kv = functional.linear(normed, self.qkv.weight[width:], self.qkv.bias[width:])
        mixed = torch.empty_like(q)
        encoding_kernel.newest(q.numpy(), kv.numpy(), starts, self.heads, mixed.numpy())
        return self._added(x[last], mixed)

    def _added(self, x: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """Both parts of the layer, added to `x` in place."""
        x += self.project(mixed)
        x += self._network(x)
        return x

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

    def newest_states(self, sequences: torch.Tensor, starts: I64) -> torch.Tensor:
        """The state after the last position of each sequence, (U, D): equal to `forward` there at less than half its cost.

        `sequences` (T,) are item positions, one sequence after another; sequence u has `starts[u]` to `starts[u + 1]`, one at least.
        Without gradients.
        """
        places = np.arange(len(sequences)) - np.repeat(starts[:-1], np.diff(starts))
        x = functional.embedding(sequences, self.items)
        x += functional.embedding(torch.from_numpy(places), self.positions)
        *blocks, last = self.blocks
        for block in blocks:
            assert isinstance(block, Block)
            x = block.joined(x, starts)
        assert isinstance(last, Block)
        normed: torch.Tensor = self.norm(last.newest(x, starts))
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
        vector. All sequences lie one after another, so that nobody pays for padding, and few users for many calls.
        """
        sequences, counts = newest_preferences(histories, self.settings.window)
        vectors = np.zeros((len(histories), self.settings.factors), np.float32)
        (users,) = np.nonzero(counts)
        starts = np.concatenate(([0], np.cumsum(counts[users])))
        for part in _blocks(starts):
            own = starts[part.start : part.stop + 1]
            block = torch.from_numpy(sequences[own[0] : own[-1]])
            vectors[users[part]] = self.network.newest_states(block, own - own[0]).numpy()
        return vectors


def _blocks(starts: I64) -> Iterator[slice]:
    """Runs of sequences of so many positions together that a block stays in the processor's cache, one sequence at least."""
    first = 0
    while first < len(starts) - 1:
        last = max(int(np.searchsorted(starts, starts[first] + _BLOCK_POSITIONS, side="right")) - 1, first + 1)
        yield slice(first, last)
        first = last


def newest_preferences(histories: Histories, window: int) -> tuple[I64, I64]:
    """The newest `window` known preferences of each user, oldest first, user after user: item positions (T,), and how many each has,
    (U,)."""
    read = (histories.items >= 0) & (histories.weights > 0)
    from_end = np.cumsum(read[:, ::-1], axis=1)[:, ::-1]  # 1: newest
    read &= from_end <= window
    return histories.items[read].astype(np.int64), read.sum(axis=1)
