"""Options of SASRec: its shape and its training."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.models.checks import MAX_COUNT, MAX_FACTORS, MAX_HISTORY, check_options


@dataclass(frozen=True, slots=True)
class SASRecConfig:
    """Options of the network and of its training. Raises: ModelError for an option out of its bounds."""

    factors: int = 64
    blocks: int = 2
    heads: int = 1
    window: int = 50
    """Number of newest preferences that the network reads."""
    dropout: float = 0.2
    learning_rate: float = 2e-3
    batch_sequences: int = 32
    max_epochs: int = 60
    patience: int = 3
    """Epochs without a better validation loss before the training ends."""
    validation_users: int = 1_000
    """Users whose last item is held back from training, to decide when to stop; at most half of all."""
    sampled_above: int = 20_000
    """With more items than this, the cross-entropy runs over sampled negatives."""
    negatives: int = 4_096
    """Sampled negatives, shared by all positions of a batch."""
    fixed_epochs: int = 0
    """Above 0: the exact number of epochs, without validation (a refit)."""
    seed: int = 0

    def __post_init__(self) -> None:
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
