"""Settings of the stages that reorder a list after it is ranked; all are off by default."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from workers.section import Section

Strength = Annotated[float, Field(ge=0, le=1)]


class FreshnessSettings(Section):
    weight: Annotated[float, Field(ge=0, le=20)] = 0.0
    """What is added to the score of an item that was published this moment; half of it after each half-life. Scores are logits: 0.7
    doubles an item's odds against one that is old. 0: off."""
    half_life_days: Annotated[float, Field(gt=0, le=36_500)] = 7.0
    """Age at which half of the weight is left. An item without a time of publication gets nothing."""


class CalibrationSettings(Section):
    strength: Strength = 0.0
    """How much the list's mix of categories counts against relevance: 0 is off, 1 the mix of the user's own
    history alone. Users without a history are left alone."""


class DiversitySettings(Section):
    kind: Literal["off", "mmr", "dpp"] = "off"
    """How items that differ in content are chosen: `mmr` looks at the most similar item that is listed already, `dpp` at all of them
    together."""
    strength: Strength = 0.18
    """How much difference counts against relevance: 0 changes nothing, 1 ignores relevance."""


class CapSettings(Section):
    by: Annotated[str, Field(pattern=r"^(category|attribute\.[^\x00-\x1f\x7f]{1,64})$")]
    """What is counted: `category`, or `attribute.` and the name of a categorical attribute, such as `attribute.brand`."""
    most: Annotated[int, Field(ge=1, le=199)]
    """Largest number of items with the same value."""
    first: Annotated[int, Field(ge=2, le=200)] = 10
    """Number of places, from the first on, that are counted."""

    @model_validator(mode="after")
    def _can_bind(self) -> CapSettings:
        """Refuse a cap that no list can break: it was set to change lists."""
        if self.most >= self.first:
            raise ValueError(f"most ({self.most}) must be below first ({self.first}), else the cap changes no list: lower most")
        return self
