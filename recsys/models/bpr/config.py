"""Options of BPR."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.models.checks import MAX_COUNT, MAX_FACTORS, MAX_HISTORY, check_options


@dataclass(frozen=True, slots=True)
class BPRConfig:
    """Options of BPR. Raises: ModelError for an option out of its bounds."""

    factors: int = 64
    epochs: int = 30
    """Passes over all preferences, each with a new negative; a warm start that knows half of the items runs a third of them."""
    learning_rate: float = 0.05
    """Size of a step in the first pass; it falls to 0 in a straight line."""
    regularisation: float = 0.01
    """λ: share of a vector that a step of size 1 takes off."""
    negative_exponent: float = 0.0
    """Negatives are drawn with a probability proportional to an item's users to this power: 0 uniformly, 1 by popularity."""
    drawn: int = 4
    """Negatives drawn for each preference, of which the one with the highest score counts: more are harder, and cost their scores."""
    fold_in_passes: int = 20
    """Passes over a user's history when its vector is solved."""
    history_length: int = 200
    """Number of a user's newest items that training reads and serving folds in."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_options("bpr", self, _BOUNDS)


_BOUNDS = {
    "factors": (1, MAX_FACTORS - 1),
    "epochs": (1, 10_000),
    "learning_rate": (1e-6, 10),
    "regularisation": (0, 10),
    "negative_exponent": (-2, 2),
    "drawn": (1, 1_000),
    "fold_in_passes": (1, 1_000),
    "history_length": (1, MAX_HISTORY),
    "seed": (-MAX_COUNT, MAX_COUNT),
}
