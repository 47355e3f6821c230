"""Options of NeuMF."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.errors import ModelError
from recsys.models.checks import MAX_COUNT, MAX_HISTORY, check_options
from recsys.models.cuts import READS


@dataclass(frozen=True, slots=True)
class NeuMFConfig:
    """Options of the network and of its training. Raises: ModelError for an option out of its bounds."""

    factors: int = 64
    """Dimensions of the inner product, by which items are nominated in a large catalogue."""
    hidden: int = 32
    """Units of the first layer of the network; the second has half as many. Scoring an item costs `factors` + hidden² / 2. With trained
    numbers up to 10⁶ the largest network makes scores up to 5 · 10²⁵, which are finite in float32."""
    history_length: int = 200
    """Number of a user's newest items that training and serving read."""
    cuts: int = 4
    """Number of times that each user is looked at in an epoch. With `reads` at `before` this is at random times: what came before is the
    history, and the next `targets` preferences are predicted; else random ones are, from all others."""
    targets: int = 8
    reads: str = "others"
    """Of a user's preferences, what is read to predict one: those `before` it in time, or all `others` where their order means nothing."""
    regularisation: float = 0.0001
    """Share by which all tables shrink in a step, times the learning rate."""
    learning_rate: float = 0.005
    batch_users: int = 64
    """Histories in a batch. Their targets compete with one another in a catalogue of more than `compared_above` items, and each of them is
    scored for each history: a larger batch costs more for each target."""
    max_epochs: int = 30
    patience: int = 4
    """Epochs without a better NDCG@10 of held-back preferences before the training ends."""
    validation_users: int = 1_000
    """Users of whom a preference is held back, the newest or a random one as in `reads`, to decide when to stop; at most half of all."""
    compared_above: int = 500
    """Up to so many items a target competes with all of them; above with the targets of its batch and `negatives` random items."""
    negatives: int = 500
    fixed_epochs: int = 0
    """Above 0: the exact number of epochs, without validation (a refit)."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.reads not in READS:
            raise ModelError(f"neumf option reads: got {self.reads!r:.20}, needs one of {', '.join(READS)}")
        check_options("neumf", self, _BOUNDS)


_BOUNDS = {
    "factors": (1, 2_048),
    "hidden": (2, 1_024),
    "history_length": (1, MAX_HISTORY),
    "cuts": (1, 1_000),
    "targets": (1, 1_000),
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
