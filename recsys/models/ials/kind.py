"""The entry of iALS in the table of models."""

from __future__ import annotations

from recsys.models.ials.config import IALSConfig
from recsys.models.ials.model import IALSModel, fit
from recsys.models.ials.new_items import extended
from recsys.models.kind import ModelKind
from recsys.models.space import Choice, Near, OneOf

SPACE: dict[str, Choice] = {
    "factors": OneOf((32, 64, 128, 192)),
    "epochs": OneOf((8, 12, 16, 24)),
    "unobserved_weight": Near(8.0),
    "regularisation": Near(4.0),
}
"""α₀ and λ depend on the size of the axes: the search of a training finds their scale with few factors, and this one looks around it."""

KIND = ModelKind(IALSModel, IALSConfig, fit, space=SPACE, effort="epochs", extend=extended)
