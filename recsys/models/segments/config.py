"""Options of segments."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.models.checks import MAX_COUNT, check_options

MAX_SEGMENTS = 1_000


@dataclass(frozen=True, slots=True)
class SegmentsConfig:
    """Options of segments. Raises: ModelError for an option out of its bounds."""

    max_segments: int = 64
    """Segments of most users that are learnt; each is a dimension of the items' vectors."""
    min_users: int = 30
    """Users that a segment needs. The model names the values of segments, so this also bounds how well a person hides in one."""
    bins: int = 5
    """Ranges, of as many users each, that a number is cut into."""
    judged_users: int = 1_000
    """Newest users, evenly chosen, by whose first choices shrinkage and weights are learnt; at most a fifth of all."""
    judged_likes: int = 10
    """First choices of each of them."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_options("segments", self, _BOUNDS)


_BOUNDS = {
    "max_segments": (1, MAX_SEGMENTS),
    "min_users": (1, MAX_COUNT),
    "bins": (2, 100),
    "judged_users": (10, 100_000),
    "judged_likes": (1, 1_000),
    "seed": (-MAX_COUNT, MAX_COUNT),
}
