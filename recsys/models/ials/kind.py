"""The entry of iALS in the table of models."""

from __future__ import annotations

from recsys.models.ials.config import IALSConfig
from recsys.models.ials.model import IALSModel, fit
from recsys.models.ials.new_items import extended
from recsys.models.kind import ModelKind
from recsys.models.space import Choice, LogUniform, OneOf

SPACE: dict[str, Choice] = {
    "factors": OneOf((32, 64, 128, 192)),
    "epochs": OneOf((8, 12, 16, 24)),
    "unobserved_weight": LogUniform(0.001, 3.0),
    "regularisation": LogUniform(0.0005, 0.1),
}
"""α₀ and λ lie within a factor of about 30 of what the search of training finds on catalogues of 3,000 to 100,000 items."""

KIND = ModelKind(IALSModel, IALSConfig, fit, space=SPACE, effort="epochs", extend=extended)
