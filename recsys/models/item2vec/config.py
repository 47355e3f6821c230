"""Options of item2vec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from recsys.errors import ModelError
from recsys.models.checks import MAX_COUNT, MAX_FACTORS, MAX_HISTORY, check_options

ORDERS: Final = ("time", "none")
SCORES: Final = ("context", "cosine")


@dataclass(frozen=True, slots=True)
class Item2VecConfig:
    """Options of item2vec. Raises: ModelError for an option out of its bounds."""

    factors: int = 64
    epochs: int = 10
    """Passes over all histories; a warm start that knows half of the items runs a third of them."""
    window: int = 5
    """Items before and after an item that are its context, at most: each place draws its own number from 1 to this."""
    order: str = "time"
    """`time`: a context is what the user touched shortly before and after; `none`: histories are sets, shuffled in every pass."""
    negatives: int = 5
    """Drawn items that each pair is compared with."""
    negative_exponent: float = 0.0
    """Negatives are drawn with a probability proportional to an item's users to this power. Lower: popular items score
    higher; word2vec has 0.75."""
    subsample: float = 1e-3
    """Share of all preferences beyond which an item is left out of some histories of a pass; 0: none is."""
    learning_rate: float = 0.05
    """Size of the first step; it falls to 0 in a straight line."""
    score: str = "context"
    """`context`: how likely an item is in the context of what the user likes; `cosine`: how alike its vector is to theirs."""
    half_life: float = 0.0
    """Newer items of a user after which an item counts half in the user's vector; 0: all count alike."""
    history_length: int = 200
    """Number of a user's newest items that training reads, and of which serving takes the mean."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (("order", self.order, ORDERS), ("score", self.score, SCORES)):
            if value not in known:
                raise ModelError(f"item2vec option {name}: got {value!r:.20}, needs one of {', '.join(known)}")
        check_options("item2vec", self, _BOUNDS)


_BOUNDS = {
    "factors": (1, MAX_FACTORS),
    "epochs": (1, 10_000),
    "window": (1, 1_000),
    "negatives": (1, 1_000),
    "negative_exponent": (-2, 2),
    "subsample": (0, 1),
    "learning_rate": (1e-6, 10),
    "half_life": (0, MAX_HISTORY),
    "history_length": (1, MAX_HISTORY),
    "seed": (-MAX_COUNT, MAX_COUNT),
}
