"""The entry of popularity in the table of models."""

from __future__ import annotations

from recsys.models.kind import ModelKind
from recsys.models.popular.model import PopularConfig, PopularModel, fit

KIND = ModelKind(PopularModel, PopularConfig, fit)
