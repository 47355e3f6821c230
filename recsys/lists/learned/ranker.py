"""A learned ranker: trees over the features of what a recipe ranked first, which add to the recipe's scores.

    score = recipe + Σ_t tree_t(features)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import EIGHT
from recsys.errors import ModelError
from recsys.lists.learned.devices import check_devices
from recsys.lists.learned.feature_names import FEATURE_VERSION, SHOWN, VERSIONS, WITH_DEVICES, names_of
from recsys.lists.learned.forest import NAMES, NO_NODE, Forest
from recsys.lists.learned.forest_kernel import Rows, Trees, parts_of_leaves

LEARNERS = ("boosted", "lightgbm")
"""Trains the trees: a compiled trainer of this project, or LightGBM's LambdaMART."""
NARROWED = 100
"""Candidates, the best by the recipe, that are ranked again."""
MAX_NARROWED = 1_000
MAX_SOURCES = 64
_OTHER_FEATURES = f"the ranker needs features of version {{}}, and there are those of {VERSIONS[0]} to {VERSIONS[-1]}: train it again"
_SOURCE = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, eq=False)
class LearnedRanker:
    """`forest` reads the features of version `feature_version`, with those of further `sources` that it was trained beside, of the
    `narrowed` best candidates by the recipe. `learner` is one of `LEARNERS`. `devices`, of version 4, are those that it tells apart.

    Raises: ModelError for features of another version, names or numbers out of their bounds.
    """

    kind: ClassVar[str] = "ranker"

    forest: Forest
    sources: tuple[str, ...] = ()
    learner: str = "boosted"
    narrowed: int = NARROWED
    feature_version: int = FEATURE_VERSION
    devices: tuple[str, ...] = ()
    _rows: dict[tuple[int, ...], Rows] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if type(self.feature_version) is not int or self.feature_version not in VERSIONS:
            raise ModelError(_OTHER_FEATURES.format(f"{self.feature_version!r:.20}"))
        if self.learner not in LEARNERS:
            raise ModelError(f"ranker option learner: got {self.learner!r:.20}, needs one of {', '.join(LEARNERS)}")
        if type(self.narrowed) is not int or not 1 <= self.narrowed <= MAX_NARROWED:
            raise ModelError(f"ranker option narrowed: got {self.narrowed!r:.20}, needs a whole number from 1 to {MAX_NARROWED}")
        if len(self.sources) > MAX_SOURCES or len(set(self.sources)) != len(self.sources):
            raise ModelError(f"ranker option sources: needs at most {MAX_SOURCES} different names")
        for source in self.sources:
            if not isinstance(source, str) or _SOURCE.fullmatch(source) is None:
                raise ModelError(f"ranker option sources: {source!r:.40} is not the name of a source")
        if bool(check_devices(self.devices)) != (self.feature_version == WITH_DEVICES):
            raise ModelError(f"ranker option devices: features of version {WITH_DEVICES} need some, and others have none")
        n_features = len(self.feature_names)
        if int(self.forest.features.max(initial=0)) >= n_features:
            raise ModelError(f"tensor features of the ranker: it names feature {int(self.forest.features.max())} of {n_features}")

    @property
    def feature_names(self) -> tuple[str, ...]:
        return names_of(self.sources, self.feature_version)

    @cached_property
    def reads_shown(self) -> bool:
        """Return True if some tree asks how often, or when, an item was shown."""
        asked, names = self.forest.features[self.forest.left != NO_NODE], self.feature_names
        return SHOWN[0] in names and bool(np.isin(asked, [names.index(name) for name in SHOWN]).any())

    @property
    def config(self) -> dict[str, Any]:
        """The version and names of its features and its options, as JSON can hold them."""
        features = {"feature_version": self.feature_version, "features": list(self.feature_names)}
        devices = {"devices": list(self.devices)} if self.devices else {}
        return {**features, "sources": list(self.sources), "learner": self.learner, "narrowed": self.narrowed, **devices}

    @cached_property
    def trees(self) -> Trees:
        """Return the trees as compiled loops read them."""
        return self.forest.compiled()

    def rows_of_leaves(self, groups: tuple[int, ...], n_groups: int) -> Rows:
        """Return what each leaf adds to a score, and of that to each of G groups of features; `groups` (F,) are those of the features."""
        key = (*groups, n_groups)
        if key not in self._rows:
            parts = parts_of_leaves(self.trees, np.array(groups, np.int64), n_groups)
            read = np.flatnonzero(parts.any(axis=0))
            values = np.zeros((len(parts), -(-(1 + len(read)) // EIGHT) * EIGHT), np.float32)
            values[:, 0], values[:, 1 : 1 + len(read)] = self.trees.leaves, parts[:, read]
            columns = np.full(n_groups, -1, np.int64)
            columns[read] = 1 + np.arange(len(read))
            self._rows[key] = Rows(values, columns)
        return self._rows[key]

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the trained numbers by name."""
        return {name: getattr(self.forest, name) for name in NAMES}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild a ranker. Raises: ModelError, ShapeError; the message names the part."""
        version, names, sources = config.get("feature_version"), config.get("features"), config.get("sources", [])
        if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
            raise ModelError("ranker option sources: it must be a list of names")
        if type(version) is not int or version not in VERSIONS or names != list(names_of(sources, version)):
            raise ModelError(_OTHER_FEATURES.format(f"{version!r:.20}"))
        for name in NAMES:
            if name not in tensors:
                raise ModelError(f"tensor {name} of the ranker is missing")
        forest = Forest(*(np.ascontiguousarray(tensors[name]) for name in NAMES))
        devices = check_devices(config.get("devices", []))
        return cls(forest, tuple(sources), config.get("learner", LEARNERS[0]), config.get("narrowed", NARROWED), version, devices)
