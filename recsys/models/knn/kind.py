"""The entry of nearest neighbours in the table of models."""

from __future__ import annotations

from recsys.models.kind import ModelKind
from recsys.models.knn.config import KNNConfig
from recsys.models.knn.model import KNNModel, fit
from recsys.models.space import Choice, LogUniform, OneOf

SPACE: dict[str, Choice] = {
    "similarity": OneOf(("cosine", "adjusted_cosine", "pearson", "jaccard", "llr")),
    "neighbours": OneOf((50, 100, 200, 500)),
    "shrink": LogUniform(1.0, 300.0),
}

KIND = ModelKind(KNNModel, KNNConfig, fit, space=SPACE)
