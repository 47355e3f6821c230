"""One kind of model: its class, its options, its training."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from recsys.errors import ModelError
from recsys.models.base import Model
from recsys.models.checks import known_options
from recsys.models.space import Choice
from recsys.models.training import Progress, within
from recsys.models.training_set import TrainingSet

if TYPE_CHECKING:  # it imports torch
    from recsys.models.checkpoint import Checkpoints
    from recsys.models.ranks import Ranks


class Fit(Protocol):
    """Train one kind. Raises: TooFewInteractions when there is too little to learn from; other CoreErrors for options that do not fit."""

    def __call__(self, interactions: TrainingSet, config: Any, progress: Progress | None = None, warm_start: Any = None) -> Model: ...


class Resume(Protocol):
    """Do as `Fit` does; go on from the newest of the `checkpoints`, if it is of this training, and make others."""

    def __call__(
        self,
        interactions: TrainingSet,
        config: Any,
        progress: Progress | None = None,
        warm_start: Any = None,
        checkpoints: Checkpoints | None = None,
    ) -> Model: ...


class Together(Protocol):
    """Do as `Resume` does, as one of several processes that train one model. Only the first one's progress, warm start and checkpoints
    count, and only its model is used."""

    def __call__(
        self,
        interactions: TrainingSet,
        config: Any,
        progress: Progress | None = None,
        warm_start: Any = None,
        checkpoints: Checkpoints | None = None,
        *,
        ranks: Ranks,
    ) -> Model: ...


class Extend(Protocol):
    """Return the model with vectors of items in the log that it does not know, where it can make some; its own stay as they are."""

    def __call__(self, model: Any, interactions: TrainingSet) -> Model: ...


@dataclass(frozen=True, slots=True)
class ModelKind:
    """One kind of model: its class, its options, its training.

    `config` is a frozen dataclass with defaults. `refit` derives the options of the short training that follows a promotion and includes
    the newest slice. `space` holds, by option, the values among which `recsys evaluate --search-minutes` looks; options that it leaves out
    keep their defaults. `effort` names the option that says how long a training runs, such as its epochs; empty where there is none.
    `extend` makes vectors of new items between two trainings; None for kinds that cannot. `resume` trains as `fit` does and makes
    checkpoints; None for kinds that begin from the start after they were stopped. `together` trains in several processes; None for kinds
    that use one.
    """

    model: type[Any]
    config: type[Any]
    fit: Fit
    refit: Callable[[Any], Any] = lambda config: config
    space: Mapping[str, Choice] = field(default_factory=dict)
    effort: str = ""
    extend: Extend | None = None
    resume: Resume | None = None
    together: Together | None = None

    @property
    def option_names(self) -> list[str]:
        """Names of the kind's training options."""
        return [each.name for each in fields(self.config)]

    def configure(self, options: Mapping[str, Any], shared: Mapping[str, Any] = MappingProxyType({})) -> Any:
        """Return the kind's configuration: `options` over `shared` over its defaults.

        `shared` holds options of several kinds: those that this kind lacks (`factors` of a model without any) are left out.
        Raises: ModelError for an unknown name in `options`, and for a value out of its bounds.
        """
        self.check_names(options)
        return self.config(**{**known_options(self.config, shared), **options})

    def shortened(self, config: Any, share: float) -> Any:
        """Return a configuration that trains for a share of the time; the same one for a kind without an option for that."""
        return replace(config, **{self.effort: max(1, round(share * getattr(config, self.effort)))}) if self.effort else config

    def train(
        self,
        interactions: TrainingSet,
        config: Any,
        clock: Callable[[], float],
        progress: Progress | None = None,
        warm_start: Any = None,
        checkpoints: Checkpoints | None = None,
        ranks: Ranks | None = None,
    ) -> Model:
        """Train within the `minutes` of the configuration, if it has any, by a `clock` in seconds; a training that goes on from a
        checkpoint has them again. With several `ranks` a kind that can trains in all of them. Raises: what `fit` raises."""
        progress = within(getattr(config, "minutes", 0.0), clock, progress)
        if self.together is not None and ranks is not None and ranks.count > 1:
            with ranks.joined(self.model.kind, config, interactions):
                return self.together(interactions, config, progress, warm_start, checkpoints, ranks=ranks)
        if self.resume is None or checkpoints is None:
            return self.fit(interactions, config, progress, warm_start)
        return self.resume(interactions, config, progress, warm_start, checkpoints)

    def check_names(self, options: Iterable[str]) -> None:
        """Raises: ModelError naming the first option that this kind does not have, and the nearest one that it has."""
        for name in options:
            if name not in self.option_names:
                raise ModelError(f"{self.model.kind} has no option {name:.40}; {nearest(name, self.option_names)}")


def nearest(name: str, known: Collection[str]) -> str:
    """Return a remedy for an unknown name: the nearest of the known ones, or all of them."""
    close = get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}"
