"""Values of an option among which a search looks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from recsys.errors import ModelError

Value: TypeAlias = int | float | str | bool | None


@dataclass(frozen=True, slots=True)
class LogUniform:
    """Numbers from `low` to `high` (both above 0), each factor between them as likely as another; rounded to three digits.

    Raises: ModelError for bounds that are none.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ModelError(f"a range of a search needs 0 < low < high, got {self.low:g} and {self.high:g}")

    def draw(self, chance: np.random.Generator) -> float:
        """Return one value."""
        return float(f"{math.exp(chance.uniform(math.log(self.low), math.log(self.high))):.3g}")


@dataclass(frozen=True, slots=True)
class OneOf:
    """Some values, each as likely as another. Raises: ModelError without values."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ModelError("a choice of a search needs values")

    def draw(self, chance: np.random.Generator) -> Value:
        """Return one value."""
        return self.values[int(chance.integers(len(self.values)))]


Choice: TypeAlias = LogUniform | OneOf
