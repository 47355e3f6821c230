"""The entry of NeuMF in the table of models."""

from __future__ import annotations

from dataclasses import replace

from recsys.models.kind import ModelKind
from recsys.models.neumf.config import NeuMFConfig
from recsys.models.neumf.model import NeuMFModel
from recsys.models.neumf.training import fit
from recsys.models.space import Choice, LogUniform, OneOf

SPACE: dict[str, Choice] = {
    "factors": OneOf((32, 64, 128)),
    "hidden": OneOf((16, 32, 64)),
    "targets": OneOf((8, 32)),
    "reads": OneOf(("before", "others")),
    "learning_rate": LogUniform(0.001, 0.02),
    "regularisation": LogUniform(0.0001, 0.1),
}


def _refit(config: NeuMFConfig) -> NeuMFConfig:
    return replace(config, fixed_epochs=1, learning_rate=config.learning_rate / 4)


KIND = ModelKind(NeuMFModel, NeuMFConfig, fit, _refit, SPACE, "max_epochs", resume=fit)
