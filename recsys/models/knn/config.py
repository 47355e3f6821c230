"""Options of nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from recsys.errors import ModelError
from recsys.models.checks import MAX_COUNT, MAX_HISTORY, check_options

OF_ITEMS: Final = ("cosine", "adjusted_cosine", "pearson", "jaccard", "llr")
OF_USERS: Final = ("user_cosine", "user_pearson")


@dataclass(frozen=True, slots=True)
class KNNConfig:
    """Options of nearest neighbours. Raises: ModelError for an option out of its bounds."""

    similarity: str = "cosine"
    """Similarity of items: `cosine`, `adjusted_cosine`, `pearson`, `jaccard`, `llr`; of users: `user_cosine`, `user_pearson`."""
    neighbours: int = 200
    """Nearest neighbours that count: of each item, or of each user."""
    shrink: float = 10.0
    """Added to the denominator of the similarity: neighbours with little in common are further away. `llr` has no denominator."""
    max_users: int = 5_000
    """Users of the newest interactions that a similarity of users compares with. They are stored with the model."""
    history_length: int = 1_000
    """Number of a user's newest items that training and serving read."""
    seed: int = 0
    """Not used: neighbours are exact."""

    def __post_init__(self) -> None:
        if self.similarity not in OF_ITEMS + OF_USERS:
            raise ModelError(f"knn option similarity: got {self.similarity!r:.20}, needs one of {', '.join(OF_ITEMS + OF_USERS)}")
        check_options("knn", self, _BOUNDS)

    @property
    def of_users(self) -> bool:
        """Return whether users are compared, not items."""
        return self.similarity in OF_USERS


_BOUNDS = {
    "neighbours": (1, 100_000),
    "shrink": (0, 1e9),
    "max_users": (1, 1_000_000),
    "history_length": (1, MAX_HISTORY),
    "seed": (-MAX_COUNT, MAX_COUNT),
}
