"""Options of a ranker's training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from recsys.errors import ModelError
from recsys.lists.learned.ranker import LEARNERS
from recsys.models.checks import MAX_COUNT, check_options
from recsys.models.kind import nearest

_BOUNDS = {
    "cases": (100, MAX_COUNT),
    "targets": (100, MAX_COUNT),
    "events": (100, MAX_COUNT),
    "judged": (1, MAX_COUNT),
    "learner": (0, len(LEARNERS) - 1),
    "trees": (1, 500),
    "leaves": (2, 32),
    "learning_rate": (1e-4, 1.0),
    "least_rows": (1, MAX_COUNT),
    "ridge": (0.0, 1e6),
    "truncation": (1, 1_000),
    "patience": (1, 500),
    "seed": (0, MAX_COUNT),
}


@dataclass(frozen=True, slots=True)
class RankerOptions:
    """Budget and shape of a ranker. Raises: ModelError for an option out of its bounds."""

    cases: int = 8_000
    """Cases that trees are fitted to, evenly chosen from the `targets`."""
    targets: int = 50_000
    """Newest events from which cases are chosen."""
    events: int = 1_000_000
    """Newest events of the log that are replayed."""
    judged: int = 5_000
    """Events of the newest slice on which lists are judged, at most."""
    learner: int = 0
    """0: the compiled trainer of this project. 1: LightGBM, which the extra `lightgbm` installs."""
    trees: int = 120
    """Trees at most; the newest fifth of the cases decides how many."""
    leaves: int = 15
    """Leaves of a tree at most."""
    learning_rate: float = 0.05
    """Share of a tree's step that is taken."""
    least_rows: int = 50
    """Candidates that a leaf must hold."""
    ridge: float = 10.0
    """Prior of a leaf's value around 0: a leaf with little to go by adds little."""
    truncation: int = 30
    """LightGBM: pairs count where one of both is among these first places."""
    patience: int = 30
    """Trees without a gain on the newest fifth before the training ends."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_options("ranker", self, _BOUNDS)

    @property
    def learner_name(self) -> str:
        return LEARNERS[self.learner]

    @classmethod
    def of(cls, options: Mapping[str, Any], seed: int) -> RankerOptions:
        """Return `options` over `seed` and the defaults. Raises: ModelError for an unknown name or a value out of its bounds."""
        check_names(options)
        return cls(**{"seed": seed, **options})


def check_names(options: Iterable[str]) -> None:
    """Raises: ModelError naming the first option that a ranker does not have, and the nearest one that it has."""
    known = [field.name for field in fields(RankerOptions)]
    for name in options:
        if name not in known:
            raise ModelError(f"ranker has no option {name:.40}; {nearest(name, known)}")
