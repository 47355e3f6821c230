"""Configuration of the stages between the ranker and exploration. All are off unless given, and then cost nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recsys.catalogue.labels import CATEGORY

DiversityKind = Literal["mmr", "dpp"]


@dataclass(frozen=True, slots=True)
class FreshnessOptions:
    """Adds `weight` · 2^(−age / `half_life_s`) to the score of an item of a known age."""

    weight: float
    half_life_s: float


@dataclass(frozen=True, slots=True)
class CalibrationOptions:
    """Brings a list's mix of categories nearer to that of the user's history. `strength` λ from 0 (off) to 1 (the mix alone)."""

    strength: float


@dataclass(frozen=True, slots=True)
class DiversityOptions:
    """Makes the items of a list differ in content. `strength` λ from 0 (off) to 1 (difference alone)."""

    kind: DiversityKind
    strength: float


@dataclass(frozen=True, slots=True)
class Cap:
    """Lists at most `most` items with the same value of a `field` (`recsys.catalogue.labels`) in the `first` places."""

    field: str
    most: int
    first: int


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """Configures the stages. `spare` is the number of candidates behind a list's last place that they choose from."""

    spare: int = 100
    freshness: FreshnessOptions | None = None
    calibration: CalibrationOptions | None = None
    diversity: DiversityOptions | None = None
    caps: tuple[Cap, ...] = ()
    stability_margin: float = 0.0
    """How much more a candidate must be worth than one before it to pass it, where the list before had another order; 0: off."""

    @property
    def is_on(self) -> bool:
        """Return whether any stage changes lists."""
        boosts = self.freshness is not None and self.freshness.weight > 0
        return boosts or self.calibrates or self.diversifies or bool(self.caps) or self.stability_margin > 0

    @property
    def calibrates(self) -> bool:
        return self.calibration is not None and self.calibration.strength > 0

    @property
    def diversifies(self) -> bool:
        return self.diversity is not None and self.diversity.strength > 0

    @property
    def label_fields(self) -> frozenset[str]:
        """Return the fields of items whose exact values the stages read."""
        return frozenset(cap.field for cap in self.caps) | ({CATEGORY} if self.calibrates else set())


NO_POLICY = PolicyOptions()
"""Every stage is off."""
