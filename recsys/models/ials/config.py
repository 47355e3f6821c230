"""Options of iALS."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.errors import ModelError
from recsys.models.checks import DEVICES, MAX_COUNT, MAX_FACTORS, MAX_HISTORY, check_options

DEFAULT_UNOBSERVED_WEIGHT = 0.2
DEFAULT_REGULARISATION = 0.006


@dataclass(frozen=True, slots=True)
class IALSConfig:
    """Options of iALS. Raises: ModelError for an option out of its bounds."""

    factors: int = 64
    epochs: int = 12
    """Sweeps over users and items; a warm start runs a third of them."""
    unobserved_weight: float | None = None
    """α₀: confidence in every pair without an interaction; None is searched."""
    regularisation: float | None = None
    """λ, before scaling by frequency; None is searched."""
    frequency_exponent: float = 1.0
    """ν: λ is multiplied by (number of interactions + α₀ · size of the other axis)^ν; 0 regularises all rows alike."""
    history_length: int = 100
    """Number of a user's newest items that training reads and serving folds in."""
    tolerance: float = 0.001
    """Residual relative to the right sides at which a sweep's solves stop; each starts from the previous sweep. Folding in is exact."""
    search_share: float = 1.0
    """Work that the search may take, relative to one training; 0 searches nothing."""
    searched_pairs: int = 0
    """Pairs of users and items that α₀ and λ were searched on; training writes it. A warm start keeps both below twice as many."""
    device: str = "auto"
    """Where training solves rows: `cpu`, `cuda`, or `auto`: on a graphics card if torch finds one. Serving folds in on the processor."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_options("ials", self, _BOUNDS)
        if self.device not in DEVICES:
            raise ModelError(f"ials option device: got {self.device!r:.20}, needs one of {', '.join(DEVICES)}")

    @property
    def alpha(self) -> float:
        """Return α₀, the default where it is open."""
        return DEFAULT_UNOBSERVED_WEIGHT if self.unobserved_weight is None else self.unobserved_weight

    @property
    def ridge(self) -> float:
        """Return λ, the default where it is open."""
        return DEFAULT_REGULARISATION if self.regularisation is None else self.regularisation


_BOUNDS = {
    "factors": (1, MAX_FACTORS),
    "epochs": (1, 10_000),
    "unobserved_weight": (0, 1e6),
    "regularisation": (0, 1e9),
    "frequency_exponent": (0, 4),
    "history_length": (1, MAX_HISTORY),
    "tolerance": (0, 1),
    "search_share": (0, 100),
    "searched_pairs": (0, 2**53),
    "seed": (-MAX_COUNT, MAX_COUNT),
}
