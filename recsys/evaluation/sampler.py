"""Draws configurations for a search: at random, or after the first ones where those tried before say that better ones are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from recsys.models.space import Drawn, LogUniform, OneOf, Value

N_RANDOM = 10
"""Configurations that are drawn at random before others are chosen by what is known: fewer say little about a space of some options."""

Options = dict[str, Value]


class Sampler(Protocol):
    """Names configurations, one after the other. The same seed and the same outcomes give the same configurations."""

    def ask(self) -> Options:
        """Return the next configuration."""
        ...

    def tell(self, options: Options, score: float | None) -> None:
        """Learn what a configuration scored, the higher the better; None: it could not be trained in time, or not at all."""
        ...


class Random:
    """Draws each configuration by itself. Source: Bergstra & Bengio 2012."""

    def __init__(self, space: Mapping[str, Drawn], seed: int) -> None:
        self._space, self._chance = space, np.random.default_rng(seed)

    def ask(self) -> Options:
        return {name: choice.draw(self._chance) for name, choice in self._space.items()}

    def tell(self, options: Options, score: float | None) -> None:
        """Learn nothing."""


class Bayesian:
    """Draws `N_RANDOM` configurations as `Random` does, then those that a tree of Parzen estimators expects most of. Needs Optuna.

    Source: Bergstra, Bardenet, Bengio & Kégl 2011.
    """

    def __init__(self, space: Mapping[str, Drawn], seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._random, self._n_asked = space, Random(space, seed), 0
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=0)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._distributions = {name: _distribution(choice) for name, choice in space.items()}
        self._trial_of: Callable[..., Any] = optuna.trial.create_trial

    def ask(self) -> Options:
        self._n_asked += 1
        if self._n_asked <= N_RANDOM or not self._study.get_trials(deepcopy=False):
            return self._random.ask()
        drawn = self._study.ask(self._distributions).params
        return {name: _rounded(choice, drawn[name]) for name, choice in self._space.items()}

    def tell(self, options: Options, score: float | None) -> None:
        if score is not None:
            self._study.add_trial(self._trial_of(params=options, distributions=self._distributions, value=score))


def sampler_of(space: Mapping[str, Drawn], seed: int) -> Sampler:
    """Return the Bayesian sampler where Optuna (extra `search`) is installed, else the random one."""
    return Bayesian(space, seed) if find_spec("optuna") is not None else Random(space, seed)


def _distribution(choice: Drawn) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(choice, OneOf):
        return CategoricalDistribution(choice.values)
    return FloatDistribution(choice.low, choice.high, log=True)


def _rounded(choice: Drawn, value: Any) -> Value:
    """Return a value with the three digits that a random draw has, within the range."""
    if isinstance(choice, LogUniform):
        return min(max(float(f"{value:.3g}"), choice.low), choice.high)
    found: Value = value
    return found
