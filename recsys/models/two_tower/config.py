"""Options of two towers."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.errors import ModelError
from recsys.models.checks import MAX_COUNT, MAX_FACTORS, MAX_HISTORY, check_options
from recsys.models.cuts import READS


@dataclass(frozen=True, slots=True)
class TwoTowerConfig:
    """Options of the towers and of their training. Raises: ModelError for an option out of its bounds."""

    factors: int = 64
    hidden: int = 128
    """Units of the layer that a history passes beside the straight way; 0: none."""
    history_length: int = 50
    """Number of a user's newest items that training and serving read."""
    cuts: int = 4
    """Number of times that each user is looked at in an epoch. With `reads` at `before` this is at random times: what came before is the
    history, and the next `targets` preferences are predicted; else random ones are, from all others."""
    targets: int = 8
    reads: str = "before"
    """Of a user's preferences, what is read to predict one: those `before` it in time, or all `others` where their order means nothing."""
    id_dropout: float = 0.2
    """Share of the described items of a batch that stand by their description alone, as an item does that nobody has touched."""
    max_values: int = 4_096
    """Values of the most items that the tower of items reads."""
    profile_dropout: float = 0.5
    """Share of the users of a batch who stand without their profile, as in a worker that does not know it."""
    profile_alone: float = 0.1
    """Share of the users with a profile who stand without any history, as newcomers do."""
    min_users: int = 30
    """Users that an attribute's value, or range of numbers, needs to take part."""
    max_segments: int = 64
    """Values and ranges of attributes that take part: those of most users."""
    regularisation: float = 0.0001
    """Share by which all tables shrink in a step, times the learning rate."""
    learning_rate: float = 0.005
    batch_users: int = 512
    """Histories in a batch. Their targets compete with one another in a catalogue of more than `compared_above` items."""
    max_epochs: int = 60
    patience: int = 5
    """Epochs without a better NDCG@10 of held-back preferences before the training ends."""
    validation_users: int = 1_000
    """Users of whom a preference is held back, the newest or a random one as in `reads`, to decide when to stop; at most half of all."""
    compared_above: int = 20_000
    """Up to so many items a target competes with all of them; above with the targets of its batch and `negatives` random items."""
    negatives: int = 4_096
    fixed_epochs: int = 0
    """Above 0: the exact number of epochs, without validation (a refit)."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.reads not in READS:
            raise ModelError(f"two_tower option reads: got {self.reads!r:.20}, needs one of {', '.join(READS)}")
        check_options("two_tower", self, _BOUNDS)


_BOUNDS = {
    "factors": (1, MAX_FACTORS - 1),
    "hidden": (0, MAX_FACTORS),
    "history_length": (1, MAX_HISTORY),
    "cuts": (1, 1_000),
    "targets": (1, 1_000),
    "id_dropout": (0, 0.99),
    "max_values": (1, 100_000),
    "profile_dropout": (0, 0.99),
    "profile_alone": (0, 0.99),
    "min_users": (1, MAX_COUNT),
    "max_segments": (1, 1_000),
    "regularisation": (0, 1),
    "learning_rate": (1e-6, 1e3),
    "batch_users": (1, MAX_COUNT),
    "max_epochs": (1, MAX_COUNT),
    "patience": (1, MAX_COUNT),
    "validation_users": (0, MAX_COUNT),
    "compared_above": (0, MAX_COUNT),
    "negatives": (1, MAX_COUNT),
    "fixed_epochs": (0, MAX_COUNT),
    "seed": (0, MAX_COUNT),
}
