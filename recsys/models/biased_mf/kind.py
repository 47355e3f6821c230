"""The entry of matrix factorisation with biases in the table of models."""

from __future__ import annotations

from recsys.models.biased_mf.config import BiasedMFConfig
from recsys.models.biased_mf.fit import fit
from recsys.models.biased_mf.model import BiasedMFModel
from recsys.models.kind import ModelKind
from recsys.models.space import Choice, LogUniform, OneOf

SPACE: dict[str, Choice] = {
    "factors": OneOf((8, 16, 32, 64)),
    "regularisation": LogUniform(0.002, 0.3),
    "unobserved_weight": OneOf((None, 0.003, 0.01, 0.03, 0.1, 0.3)),
}

KIND = ModelKind(BiasedMFModel, BiasedMFConfig, fit, space=SPACE, effort="epochs")
