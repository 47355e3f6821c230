"""Options of EASE."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.models.checks import MAX_COUNT, MAX_HISTORY, check_options


@dataclass(frozen=True, slots=True)
class EASEConfig:
    """Options of EASE. Raises: ModelError for an option out of its bounds."""

    regularisation: float | None = None
    """λ, in users: added to the number of users of each item. Larger is smoother. None: four times the mean number of users of an item, so
    that it suits small logs and large ones."""
    neighbours: int = 1_000
    """Weights of largest magnitude that are kept for each item: its score reads no others."""
    history_length: int = 1_000
    """Number of a user's newest items that training reads and serving adds up."""
    max_items: int = 0
    """Items of most users that are learnt; 0: all of them."""
    memory_mb: int = 4_000
    """Memory that training may take, in MB of 10⁶ bytes: 16 bytes for each pair of items. 4,000 is enough for 15,811 items."""
    seed: int = 0
    """Not used: the solution is exact."""

    def __post_init__(self) -> None:
        check_options("ease", self, _BOUNDS)


_BOUNDS = {
    "regularisation": (1e-3, 1e9),
    "neighbours": (1, 100_000),
    "history_length": (1, MAX_HISTORY),
    "max_items": (0, MAX_COUNT),
    "memory_mb": (1, 10_000_000),
    "seed": (-MAX_COUNT, MAX_COUNT),
}
