"""The entry of two towers in the table of models."""

from __future__ import annotations

from dataclasses import replace

from recsys.models.kind import ModelKind
from recsys.models.space import Choice, LogUniform, OneOf
from recsys.models.two_tower.config import TwoTowerConfig
from recsys.models.two_tower.model import TwoTowerModel
from recsys.models.two_tower.training import fit

SPACE: dict[str, Choice] = {
    "factors": OneOf((32, 64, 128)),
    "hidden": OneOf((0, 128, 256)),
    "targets": OneOf((1, 8, 32)),
    "reads": OneOf(("before", "others")),
    "learning_rate": LogUniform(0.001, 0.02),
    "regularisation": LogUniform(0.0001, 0.1),
}


def _refit(config: TwoTowerConfig) -> TwoTowerConfig:
    return replace(config, fixed_epochs=1, learning_rate=config.learning_rate / 4)


KIND = ModelKind(TwoTowerModel, TwoTowerConfig, fit, _refit, SPACE, "max_epochs", resume=fit)
