"""Options of a recipe's training."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FitOptions:
    """Options of the fit. `prior_scale` is by how much a standardised weight is expected to differ from the start's: weights are drawn
    towards the start as by a normal prior of this deviation, so that few cases change little. `validation` is the newest share of the cases
    that decides when to stop."""

    prior_scale: float = 0.3
    learning_rate: float = 3e-3
    extras_learning_rate: float = 0.02
    epochs: int = 30
    patience: int = 4
    batch_cases: int = 64
    validation: float = 0.2
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Budget and seed of a training: at most `cases`, evenly chosen from the newest `targets` events that may be cases, of which `searched`
    choose among the settings."""

    cases: int = 5_000
    searched: int = 800
    targets: int = 50_000
    seed: int = 0
    fit: FitOptions = field(default_factory=FitOptions)
