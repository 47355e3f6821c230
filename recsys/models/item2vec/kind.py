"""The entry of item2vec in the table of models."""

from __future__ import annotations

from recsys.models.item2vec.config import Item2VecConfig
from recsys.models.item2vec.model import Item2VecModel, fit
from recsys.models.kind import ModelKind
from recsys.models.space import Choice, LogUniform, OneOf

SPACE: dict[str, Choice] = {
    "factors": OneOf((32, 64, 128)),
    "window": OneOf((3, 5, 10, 20)),
    "order": OneOf(("time", "none")),
    "negative_exponent": OneOf((0.0, 0.25, 0.5, 0.75)),
    "subsample": OneOf((0.0, 1e-3, 1e-4)),
    "learning_rate": LogUniform(0.01, 0.1),
    "half_life": OneOf((0.0, 5.0, 20.0)),
}

KIND = ModelKind(Item2VecModel, Item2VecConfig, fit, space=SPACE, effort="epochs")
