"""The entry of EASE in the table of models."""

from __future__ import annotations

from recsys.models.ease.config import EASEConfig
from recsys.models.ease.model import EASEModel, fit
from recsys.models.kind import ModelKind
from recsys.models.space import Choice, LogUniform

SPACE: dict[str, Choice] = {"regularisation": LogUniform(2.0, 10_000.0)}

KIND = ModelKind(EASEModel, EASEConfig, fit, space=SPACE)
