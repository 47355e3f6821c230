"""The table of model kinds. A new kind is one entry: trainer, store and stream worker find models only here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Protocol

from recsys.errors import ModelError
from recsys.models.base import Model
from recsys.models.checks import check_model, check_tensors, known_options
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

    @property
    def option_names(self) -> list[str]:
        """Names of the kind's training options."""
        return [field.name for field in fields(self.config)]

    def configure(self, options: Mapping[str, Any], shared: Mapping[str, Any] = MappingProxyType({})) -> Any:
        """Return the kind's configuration: `options` over `shared` over its defaults.

        `shared` holds options of several kinds: those that this kind lacks (`factors` of a model without any) are left out.
        Raises: ModelError for an unknown name in `options`, and for a value out of its bounds.
        """
        self.check_names(options)
        return self.config(**{**known_options(self.config, shared), **options})

    def check_names(self, options: Iterable[str]) -> None:
        """Raises: ModelError naming the first option that this kind does not have, and the nearest one that it has."""
        for name in options:
            if name not in self.option_names:
                raise ModelError(f"{self.model.kind} has no option {name:.40}; {nearest(name, self.option_names)}")


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


def nearest(name: str, known: Collection[str]) -> str:
    """Return a remedy for an unknown name: the nearest of the known ones, or all of them."""
    close = get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}"


def check_kinds(kinds: Iterable[str], others: Collection[str] = ()) -> None:
    """Raises: ModelError naming the first kind that is neither registered nor among `others`, and the nearest one that is."""
    known = [*MODELS, *others]
    for kind in kinds:
        if kind not in known:
            raise ModelError(f"there is no model kind {kind:.40}; {nearest(kind, known)}")


def check_training_options(options: Mapping[str, Mapping[str, Any]], others: Collection[str] = ()) -> None:
    """Raises: ModelError naming the first unknown kind or option, by kind, and the nearest known one; `others` are known kinds too."""
    check_kinds(options, others)
    for kind, named in options.items():
        MODELS[kind].check_names(named)


def load_model(kind: str, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, Any]) -> Model:
    """Rebuild a stored model and check it with `check_model`.

    Raises: KeyError for an unregistered kind, ShapeError for tensors that do not fit, ModelError for a model that cannot serve.
    """
    found = MODELS[kind]
    check_tensors(tensors)  # first: a solver may hang or crash on numbers that are not finite
    model: Model = found.model.from_tensors(config, item_ids, tensors)
    check_model(model)
    return model
