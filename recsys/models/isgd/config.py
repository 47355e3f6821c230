"""Options of ISGD."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.models.checks import MAX_COUNT, MAX_FACTORS, MAX_HISTORY, check_options


@dataclass(frozen=True, slots=True)
class ISGDConfig:
    """Options of ISGD. Raises: ModelError for an option out of its bounds."""

    factors: int = 64
    learning_rate: float = 0.05
    """Share of the error that a step takes off."""
    regularisation: float = 0.01
    """λ: share of a vector that a step of size 1 takes off."""
    steps: int = 1
    """Steps for each preference, in training and when a history is folded in."""
    negatives: int = 0
    """Items that have waited longest for a preference, which each preference's user is taught to score 0; 0: training knows only
    preferences, as Vinagre et al. 2014 have it."""
    history_length: int = 200
    """Number of a user's newest items that serving folds in. Training reads all."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_options("isgd", self, _BOUNDS)


_BOUNDS = {
    "factors": (1, MAX_FACTORS),
    "learning_rate": (1e-6, 10),
    "regularisation": (0, 10),
    "steps": (1, 1_000),
    "negatives": (0, 1_000),
    "history_length": (1, MAX_HISTORY),
    "seed": (-MAX_COUNT, MAX_COUNT),
}
