"""Options of a recipe's training, as settings name them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from recsys.errors import ModelError
from recsys.models.checks import MAX_COUNT, check_options
from recsys.models.kind import nearest
from recsys.recipe.budget import TrainOptions

_BOUNDS = {
    "cases": (100, MAX_COUNT),
    "searched": (0, MAX_COUNT),
    "targets": (100, MAX_COUNT),
    "events": (100, MAX_COUNT),
    "judged": (1, MAX_COUNT),
    "seed": (0, MAX_COUNT),
}


@dataclass(frozen=True, slots=True)
class RecipeOptions:
    """Budget of the training of a recipe. Raises: ModelError for an option out of its bounds."""

    cases: int = 5_000
    """Cases that the recipe is fitted to, evenly chosen from the `targets`."""
    searched: int = 800
    """Cases that choose among recency constants; 0 keeps those of the recipe before."""
    targets: int = 50_000
    """Newest events from which cases are chosen."""
    events: int = 1_000_000
    """Newest events of the log that are replayed."""
    judged: int = 5_000
    """Events of the newest slice on which lists are judged, at most."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_options("recipe", self, _BOUNDS)

    @classmethod
    def of(cls, options: Mapping[str, Any], seed: int) -> RecipeOptions:
        """Return `options` over `seed` and the defaults. Raises: ModelError for an unknown name or a value out of its bounds."""
        check_names(options)
        return cls(**{"seed": seed, **options})

    @property
    def training(self) -> TrainOptions:
        """Return the options of `train_recipe`."""
        return TrainOptions(self.cases, self.searched, self.targets, self.seed)


def check_names(options: Iterable[str]) -> None:
    """Raises: ModelError naming the first option that a recipe does not have, and the nearest one that it has."""
    known = [field.name for field in fields(RecipeOptions)]
    for name in options:
        if name not in known:
            raise ModelError(f"recipe has no option {name:.40}; {nearest(name, known)}")
