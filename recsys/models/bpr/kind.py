"""The entry of BPR in the table of models."""

from __future__ import annotations

from recsys.models.bpr.config import BPRConfig
from recsys.models.bpr.model import BPRModel, fit
from recsys.models.kind import ModelKind
from recsys.models.space import Choice, LogUniform, OneOf

SPACE: dict[str, Choice] = {
    "factors": OneOf((32, 64, 128)),
    "epochs": OneOf((15, 30, 60)),
    "learning_rate": LogUniform(0.01, 0.2),
    "regularisation": LogUniform(0.001, 0.05),
    "drawn": OneOf((1, 4, 16)),
}

KIND = ModelKind(BPRModel, BPRConfig, fit, space=SPACE, effort="epochs")
