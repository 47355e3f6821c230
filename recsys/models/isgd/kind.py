"""The entry of ISGD in the table of models."""

from __future__ import annotations

from recsys.models.isgd.config import ISGDConfig
from recsys.models.isgd.model import ISGDModel, fit
from recsys.models.kind import ModelKind
from recsys.models.space import Choice, LogUniform, OneOf

SPACE: dict[str, Choice] = {
    "factors": OneOf((32, 64, 128)),
    "learning_rate": LogUniform(0.01, 0.5),
    "regularisation": LogUniform(0.001, 0.5),
    "steps": OneOf((1, 2, 4, 8)),
    "negatives": OneOf((0, 1, 2, 4)),
}

KIND = ModelKind(ISGDModel, ISGDConfig, fit, space=SPACE)
