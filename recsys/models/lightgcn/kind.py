"""The entry of LightGCN in the table of models."""

from __future__ import annotations

from dataclasses import replace

from recsys.models.kind import ModelKind
from recsys.models.lightgcn.config import LightGCNConfig
from recsys.models.lightgcn.model import LightGCNModel
from recsys.models.lightgcn.training import fit
from recsys.models.space import Choice, LogUniform, OneOf

SPACE: dict[str, Choice] = {
    "factors": OneOf((64, 128, 192)),
    "layers": OneOf((1, 2, 3)),
    "masked": OneOf((0.1, 0.3, 0.5)),
    "learning_rate": LogUniform(0.003, 0.1),
    "knowledge_weight": LogUniform(1.0, 300.0),
}


def _refit(config: LightGCNConfig) -> LightGCNConfig:
    return replace(config, fixed_epochs=2, learning_rate=config.learning_rate / 4)


KIND = ModelKind(LightGCNModel, LightGCNConfig, fit, _refit, SPACE, "max_epochs", resume=fit)
