"""Names of the sources, filters, rankers and policy stages that lists are made with, and how each is made.

A new one is a module of its own and an entry here, or in a plugin (`docs/extending.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from recsys.errors import CoreError
from recsys.lists.filters import Available, Expired, Filter, Published, Resting, Seen
from recsys.lists.policies.calibration import Calibration
from recsys.lists.policies.caps import Caps
from recsys.lists.policies.diversity import Diversity
from recsys.lists.policies.freshness import Freshness
from recsys.lists.policies.mixed import Mixed
from recsys.lists.policies.stability import Stability
from recsys.lists.policy import Exploration, PolicyStage
from recsys.lists.ranker import ByRecipe, Ranker
from recsys.lists.sources.again import AgainSource
from recsys.lists.sources.base import Source
from recsys.lists.sources.content import ContentSource
from recsys.lists.sources.cooccurrence import CooccurrenceSource
from recsys.lists.sources.new import NewSource
from recsys.lists.sources.trending import TrendingSource

Part = TypeVar("Part")


STAGES: Mapping[str, Callable[[], PolicyStage]] = {
    "freshness": Freshness,
    "calibration": Calibration,
    "diversity": Diversity,
    "stability": Stability,
    "caps": Caps,
    "mixed": Mixed,
    "exploration": Exploration,
}
"""The engine's policy stages in the order in which they run."""


class NameTaken(CoreError, ValueError):
    """Two parts of the same kind have the same name; the message says which."""


class Parts(Generic[Part]):
    """Factories by name, in the order in which they were added."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._factories: dict[str, Callable[[], Part]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._factories)

    def __len__(self) -> int:
        return len(self._factories)

    def add(self, name: str, factory: Callable[[], Part]) -> None:
        """Register a part. Raises: NameTaken if there is one of this name."""
        if name in self._factories:
            raise NameTaken(f"there is already a {self._what} named {name!r}")
        self._factories[name] = factory

    def make_one(self, name: str) -> Part:
        """Return a new part of this name."""
        return self._factories[name]()

    def make(self) -> dict[str, Part]:
        """Return a new part of each name."""
        return {name: factory() for name, factory in self._factories.items()}


@dataclass(frozen=True, slots=True)
class Registry:
    """Parts that lists are made with. Of the `rankers` the one added last ranks, and of the `policies` caps and exploration come last."""

    sources: Parts[Source] = field(default_factory=lambda: Parts("source"))
    filters: Parts[Filter] = field(default_factory=lambda: Parts("filter"))
    rankers: Parts[Ranker | ByRecipe] = field(default_factory=lambda: Parts("ranker"))
    policies: Parts[PolicyStage] = field(default_factory=lambda: Parts("policy stage"))


def built_in() -> Registry:
    """Return a registry of the parts that come with the engine. Trained models are sources too, named by their kind."""
    registry = Registry()
    for source in (CooccurrenceSource, ContentSource, TrendingSource, NewSource, AgainSource):
        registry.sources.add(source.name, source)
    filters = {"available": Available, "published": Published, "expired": Expired, "seen": Seen, "resting": Resting}
    for name, one in filters.items():
        registry.filters.add(name, one)
    registry.rankers.add("recipe", ByRecipe)
    for name, stage in STAGES.items():
        registry.policies.add(name, stage)
    return registry
