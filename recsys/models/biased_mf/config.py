"""Options of matrix factorisation with biases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from recsys.errors import ModelError
from recsys.models.checks import MAX_COUNT, MAX_FACTORS, MAX_HISTORY, check_options

SOLVERS: Final = ("als", "sgd")
IMPLICIT_WEIGHT: Final = 0.1
"""α₀ where all preferences weigh the same and it is open."""
RATED_RIDGE: Final = 0.08
IMPLICIT_RIDGE: Final = 0.005
"""λ where ratings differ, and where all are the same, if it is open."""


@dataclass(frozen=True, slots=True)
class BiasedMFConfig:
    """Options of matrix factorisation with biases. Raises: ModelError for an option out of its bounds."""

    factors: int = 32
    epochs: int = 15
    """Sweeps of `als` over users and items, or passes of `sgd` over ratings; a warm start that knows half of the items runs a third."""
    solver: str = "als"
    """How the same loss is minimised: `als` solves each vector exactly in turn, `sgd` takes gradient steps."""
    regularisation: float | None = None
    """λ, times the number of a row's ratings. None: 0.08 where ratings differ, 0.005 where all are the same."""
    unobserved_weight: float | None = None
    """α₀: weight of each pair without an interaction, as a rating of 0; 0: only ratings count. None: 0 where ratings differ, 0.1 where all
    are the same, from which nothing else could be learnt. `sgd` reads ratings only."""
    learning_rate: float = 0.02
    """Size of a step of `sgd` in the first pass; it falls to 0 in a straight line."""
    history_length: int = 200
    """Number of a user's newest items that training reads and serving folds in."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise ModelError(f"biased_mf option solver: got {self.solver!r:.20}, needs one of {', '.join(SOLVERS)}")
        check_options("biased_mf", self, _BOUNDS)
        if self.solver == "sgd" and self.unobserved_weight:
            raise ModelError("biased_mf option unobserved_weight: the solver sgd reads ratings only; leave it out, or set solver to als")

    @property
    def ridge(self) -> float:
        """Return λ, that of ratings where it is open."""
        return RATED_RIDGE if self.regularisation is None else self.regularisation


_BOUNDS = {
    "factors": (1, MAX_FACTORS - 1),
    "epochs": (1, 10_000),
    "regularisation": (1e-6, 1e6),
    "unobserved_weight": (0, 1e6),
    "learning_rate": (1e-6, 10),
    "history_length": (1, MAX_HISTORY),
    "seed": (-MAX_COUNT, MAX_COUNT),
}
