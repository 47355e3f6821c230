"""Options of LightGCN."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.models.checks import MAX_COUNT, MAX_FACTORS, MAX_HISTORY, check_options


@dataclass(frozen=True, slots=True)
class LightGCNConfig:
    """Options of the graph and of its training. Raises: ModelError for an option out of its bounds."""

    factors: int = 64
    layers: int = 3
    """K: how far a preference spreads. Users are one step from their items, three from the items of users alike."""
    knowledge_weight: float = 10.0
    """Number of users of an item that all its values together weigh as much as; 0 leaves values out."""
    max_values: int = 4_096
    """Values of the most items that are nodes. Workers read those of a new item from a table of this width."""
    masked: float = 0.3
    """Share of each user's preferences that are taken out of the graph and predicted; others are drawn in each epoch."""
    regularisation: float = 0.0
    """λ: weight of the squared length of each node's own vector."""
    learning_rate: float = 0.02
    batch_users: int = 256
    max_epochs: int = 100
    patience: int = 10
    """Epochs without a better NDCG@10 of held-back preferences before the training ends."""
    validation_users: int = 1_000
    """Users of whom a preference is held back, to decide when to stop; at most half of all."""
    compared_above: int = 20_000
    """With more items than this, a target competes with the targets of its batch and `negatives` random items."""
    negatives: int = 4_096
    fixed_epochs: int = 0
    """Above 0: the exact number of epochs, without validation (a refit)."""
    history_length: int = 200
    """Number of a user's newest items that training and serving read."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_options("lightgcn", self, _BOUNDS)


_BOUNDS = {
    "factors": (1, MAX_FACTORS),
    "layers": (1, 8),
    "knowledge_weight": (0, 1e6),
    "max_values": (1, 100_000),
    "masked": (0.01, 0.99),
    "regularisation": (0, 1e3),
    "learning_rate": (1e-6, 1e3),
    "batch_users": (1, MAX_COUNT),
    "max_epochs": (1, MAX_COUNT),
    "patience": (1, MAX_COUNT),
    "validation_users": (0, MAX_COUNT),
    "compared_above": (0, MAX_COUNT),
    "negatives": (1, MAX_COUNT),
    "fixed_epochs": (0, MAX_COUNT),
    "history_length": (1, MAX_HISTORY),
    "seed": (0, MAX_COUNT),
}
