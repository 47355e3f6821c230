"""Options of ComiRec."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.errors import ModelError
from recsys.models.checks import MAX_COUNT, MAX_FACTORS, MAX_HISTORY, MAX_VECTORS, check_options
from recsys.models.cuts import READS


@dataclass(frozen=True, slots=True)
class ComiRecConfig:
    """Options of the interests and of their training. Raises: ModelError for an option out of its bounds."""

    factors: int = 64
    interests: int = 4
    """Vectors of a user. A list costs that many searches, and a user's row that many embeddings."""
    hidden: int = 64
    """Units of the layer that says to which interest an item belongs."""
    history_length: int = 50
    """Number of a user's newest items that training and serving read."""
    cuts: int = 4
    """Number of times that each user is looked at in an epoch. With `reads` at `before` this is at random times: what came before is the
    history, and the next `targets` preferences are predicted; else random ones are, from all others."""
    targets: int = 8
    reads: str = "before"
    """Of a user's preferences, what is read to predict one: those `before` it in time, or all `others` where their order means nothing."""
    dropout: float = 0.2
    """Share of the items of a history that a step of training does not read."""
    regularisation: float = 0.0001
    """Share by which all tables shrink in a step, times the learning rate."""
    learning_rate: float = 0.005
    batch_users: int = 256
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
            raise ModelError(f"comirec option reads: got {self.reads!r:.20}, needs one of {', '.join(READS)}")
        check_options("comirec", self, _BOUNDS)


_BOUNDS = {
    "factors": (1, MAX_FACTORS - 1),
    "interests": (1, MAX_VECTORS),
    "hidden": (1, MAX_FACTORS),
    "history_length": (1, MAX_HISTORY),
    "cuts": (1, 1_000),
    "targets": (1, 1_000),
    "dropout": (0, 0.99),
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
