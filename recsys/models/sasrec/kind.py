"""The entry of SASRec in the table of models."""

from __future__ import annotations

from dataclasses import replace

from recsys.models.kind import ModelKind
from recsys.models.sasrec.config import SASRecConfig
from recsys.models.sasrec.model import SASRecModel
from recsys.models.sasrec.training import fit
from recsys.models.space import Choice, LogUniform, OneOf

SPACE: dict[str, Choice] = {
    "factors": OneOf((32, 64, 128)),
    "blocks": OneOf((1, 2, 3)),
    "window": OneOf((20, 50, 100, 200)),
    "expand": OneOf((1, 2, 4)),
    "dropout": OneOf((0.1, 0.2, 0.3, 0.5)),
    "learning_rate": LogUniform(5e-4, 5e-3),
    "gaps": OneOf((0, 1)),
    "strengths": OneOf((0, 1)),
    "types": OneOf((0, 1)),
}


def _refit(config: SASRecConfig) -> SASRecConfig:
    return replace(config, fixed_epochs=1, learning_rate=config.learning_rate / 4)


KIND = ModelKind(SASRecModel, SASRecConfig, fit, _refit, SPACE, "max_epochs", resume=fit, together=fit)
