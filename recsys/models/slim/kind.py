"""The entry of SLIM in the table of models."""

from __future__ import annotations

from recsys.models.kind import ModelKind
from recsys.models.slim.config import SLIMConfig
from recsys.models.slim.model import SLIMModel, fit
from recsys.models.space import Choice, LogUniform

SPACE: dict[str, Choice] = {"l1": LogUniform(0.1, 20.0), "l2": LogUniform(2.0, 5_000.0)}

KIND = ModelKind(SLIMModel, SLIMConfig, fit, space=SPACE)
