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
from recsys.models.checks import MAX_COUNT, MAX_FACTORS, MAX_HISTORY, check_options
from recsys.models.sasrec.states import Layer, NewestStates, Norm, Product

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

    def __post_init__(self) -> None:
        """Raises: ModelError for an option out of its bounds."""
        check_options("sasrec", self, _BOUNDS)


_BOUNDS = {
    "factors": (1, MAX_FACTORS),
    "blocks": (1, 64),
    "heads": (1, MAX_FACTORS),
    "window": (1, MAX_HISTORY),
    "dropout": (0, 0.99),
    "learning_rate": (0, 1e3),
    "batch_sequences": (1, MAX_COUNT),
    "max_epochs": (1, MAX_COUNT),
    "patience": (1, MAX_COUNT),
    "validation_users": (0, MAX_COUNT),
    "sampled_above": (0, MAX_COUNT),
    "negatives": (1, MAX_COUNT),
    "fixed_epochs": (0, MAX_COUNT),
    "seed": (0, MAX_COUNT),
}


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

    def layer(self) -> Layer:
        """Its parts as they are."""
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

    def newest_states(self) -> NewestStates:
        """What answers as `forward` does at the last position of sequences, at less than half its cost."""
        layers = [block.layer() for block in self.blocks if isinstance(block, Block)]
        return NewestStates(self.items, self.positions, layers, Norm.of(self.norm))


class SASRecModel:
    """A trained network; the score of an item is the inner product of its embedding with the state after the newest preference."""

    kind: ClassVar[str] = "sasrec"
    link: ClassVar[Literal["identity", "softmax"]] = "softmax"

    def __init__(self, settings: SASRecConfig, item_ids: list[str], network: Network) -> None:
        if settings.factors % settings.heads:
            raise ShapeError(f"{settings.heads} heads do not divide {settings.factors} factors")
        if network.items.shape != (len(item_ids), settings.factors):
            raise ShapeError(f"item embeddings have shape {tuple(network.items.shape)}, expected {(len(item_ids), settings.factors)}")
        self.settings = settings
        self.item_ids = item_ids
        self.network = network.eval().requires_grad_(False)
        self.item_vectors: F32 = network.items.detach().numpy()
        self.history_length = settings.window
        self._newest_states = self.network.newest_states()

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
            vectors[users[part]] = self._newest_states(sequences[own[0] : own[-1]], own - own[0])
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
