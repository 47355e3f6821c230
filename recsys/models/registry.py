"""The table of model kinds. A new kind is one entry: trainer, store and stream worker find models only here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from recsys.models.base import Model
from recsys.models.checks import check_model, check_tensors
from recsys.models.ials import model as ials
from recsys.models.popular import model as popular
from recsys.models.sasrec import model as sasrec
from recsys.models.sasrec import training as sasrec_training
from recsys.models.sasrec.config import SASRecConfig
from recsys.models.training import Progress
from recsys.models.training_set import TrainingSet


class Fit(Protocol):
    """Train one kind. Raises: TooFewInteractions when there is too little to learn from; other CoreErrors for options that do not fit."""

    def __call__(self, interactions: TrainingSet, config: Any, progress: Progress | None = None, warm_start: Any = None) -> Model: ...


@dataclass(frozen=True, slots=True)
class ModelKind:
    """One kind of model: its class, its options, its training.

    `config` is a frozen dataclass with defaults. `refit` derives the options of the short training that follows a promotion and includes
    the newest slice.
    """

    model: type[Any]
    config: type[Any]
    fit: Fit
    refit: Callable[[Any], Any] = lambda config: config

    def configure(self, options: Mapping[str, Any]) -> Any:
        """The kind's configuration; options that it does not have (`factors` of a model without any) are left out."""
        known = {field.name for field in fields(self.config)}
        return self.config(**{name: option for name, option in options.items() if name in known})


MODELS: dict[str, ModelKind] = {
    "ials": ModelKind(ials.IALSModel, ials.IALSConfig, ials.fit),
    "sasrec": ModelKind(
        sasrec.SASRecModel,
        SASRecConfig,
        sasrec_training.fit,
        lambda config: replace(config, fixed_epochs=1, learning_rate=config.learning_rate / 4),
    ),
    "popular": ModelKind(popular.PopularModel, popular.PopularConfig, popular.fit),
}


def load_model(kind: str, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, Any]) -> Model:
    """Rebuild a stored model and check it with `check_model`.

    Raises: KeyError for an unregistered kind, ShapeError for tensors that do not fit, ModelError for a model that cannot serve.
    """
    found = MODELS[kind]
    check_tensors(tensors)  # first: a solver may hang or crash on numbers that are not finite
    model: Model = found.model.from_tensors(config, item_ids, tensors)
    check_model(model)
    return model
