"""The entry of ComiRec in the table of models."""

from __future__ import annotations

from dataclasses import replace

from recsys.models.comirec.config import ComiRecConfig
from recsys.models.comirec.model import ComiRecModel
from recsys.models.comirec.training import fit
from recsys.models.kind import ModelKind
from recsys.models.space import Choice, LogUniform, OneOf

SPACE: dict[str, Choice] = {
    "factors": OneOf((32, 64, 128)),
    "interests": OneOf((2, 4, 8)),
    "targets": OneOf((1, 8, 32)),
    "reads": OneOf(("before", "others")),
    "dropout": OneOf((0.0, 0.2, 0.5)),
    "learning_rate": LogUniform(0.001, 0.02),
    "regularisation": LogUniform(0.0001, 0.1),
}


def _refit(config: ComiRecConfig) -> ComiRecConfig:
    return replace(config, fixed_epochs=1, learning_rate=config.learning_rate / 4)


KIND = ModelKind(ComiRecModel, ComiRecConfig, fit, _refit, SPACE, "max_epochs", resume=fit)
