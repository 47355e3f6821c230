"""Values of an option among which a search looks."""

from __future__ import annotations

import math
from collections.abc import Mapping
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


@dataclass(frozen=True, slots=True)
class Near:
    """Numbers from a `factor`-th to `factor` times the value that the first training of the search had: for options whose scale depends on
    the data, and which a training finds itself where they are left open. Raises: ModelError for a factor that is not above 1.
    """

    factor: float

    def __post_init__(self) -> None:
        if not 1 < self.factor < math.inf:
            raise ModelError(f"a range of a search needs a factor above 1, got {self.factor:g}")

    def around(self, value: float) -> LogUniform:
        """Return the range around a value above 0."""
        return LogUniform(value / self.factor, value * self.factor)


Drawn: TypeAlias = LogUniform | OneOf
Choice: TypeAlias = Drawn | Near


def ranges(space: Mapping[str, Choice], trained: Mapping[str, object]) -> dict[str, Drawn]:
    """Return a space with ranges around what a model was `trained` with. An option that has no number above 0 there is left out."""
    found: dict[str, Drawn] = {}
    for name, choice in space.items():
        if not isinstance(choice, Near):
            found[name] = choice
        elif isinstance(value := trained.get(name), int | float) and 0 < value < math.inf:
            found[name] = choice.around(value)
    return found
