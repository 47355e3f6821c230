"""Options of SLIM."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.models.checks import MAX_COUNT, MAX_HISTORY, check_options


@dataclass(frozen=True, slots=True)
class SLIMConfig:
    """Options of SLIM. Raises: ModelError for an option out of its bounds."""

    l1: float = 1.0
    """β₁, in users: an item whose users this does not exceed has no neighbours. Larger leaves fewer weights."""
    l2: float | None = None
    """β₂, in users: larger is smoother. None: twice the mean number of users of an item, so that it suits small logs and large ones."""
    neighbours: int = 1_000
    """Largest weights that are kept for each item: its score reads no others."""
    max_sweeps: int = 100
    """Passes of coordinate descent over an item's weights, at most."""
    tolerance: float = 1e-4
    """Change of a weight below which an item is done."""
    history_length: int = 1_000
    """Number of a user's newest items that training reads and serving adds up."""
    max_items: int = 0
    """Items of most users that are learnt; 0: all of them."""
    memory_mb: int = 4_000
    """Memory that training may take, in MB of 10⁶ bytes: 12 bytes for each pair of items. 4,000 is enough for 18,257 items."""
    seed: int = 0
    """Not used: coordinates are visited in their order."""

    def __post_init__(self) -> None:
        check_options("slim", self, _BOUNDS)


_BOUNDS = {
    "l1": (0, 1e9),
    "l2": (0, 1e9),
    "neighbours": (1, 100_000),
    "max_sweeps": (1, 10_000),
    "tolerance": (0, 1),
    "history_length": (1, MAX_HISTORY),
    "max_items": (0, MAX_COUNT),
    "memory_mb": (1, 10_000_000),
    "seed": (-MAX_COUNT, MAX_COUNT),
}
