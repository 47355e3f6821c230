"""Search for the options of a kind, on validation cases cut from the training data. The test is not looked at.

Many configurations are trained cheaply, and the best of them in full. Source: Jamieson & Talwalkar 2016 (successive halving).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from recsys.errors import CoreError
from recsys.evaluation.cases import Cases
from recsys.evaluation.outcome import outcome_of
from recsys.evaluation.protocol import Slice, temporal_split
from recsys.evaluation.sampler import Options, Sampler, sampler_of
from recsys.evaluation.splits import split_rows, temporal
from recsys.models.kind import ModelKind
from recsys.models.space import ranges
from recsys.models.training import Progress, go_on
from recsys.models.training_set import TrainingSet

METRIC = "ndcg@10"
"""Name of the metric that chooses."""
MAX_VALIDATION_USERS = 5_000
HELD_SHARE = 0.2
"""Share of each user's items, or of the events, that validate."""
MIN_ITEMS = 3
"""Users with fewer items validate nothing."""
CHEAP_SHARE = 0.25
"""Share of the epochs, or of the users, of a cheap training."""
CHEAP_BUDGET = 0.5
"""Share of the time that cheap trainings may take; the rest is for full ones."""
MAX_REPEATED = 100
"""Configurations that were tried before, after which a small space counts as searched."""
WORTHWHILE = 0.7
"""A cheap training has to take less than this share of a full one."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration that was tried: the options that differ from the defaults, its NDCG@10 on the validation cases, and which share
    of a training it had, 1 for a full one."""

    options: dict[str, Any]
    ndcg: float
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Found:
    """The best options, and all trials in their order; the first one is the start itself. No trials: the start could not be judged in
    time, and counts."""

    options: dict[str, Any]
    trials: list[Trial]


def last_item_validation(training: TrainingSet, seed: int = 0) -> Cases:
    """Hold back the newest item of users who have at least three."""
    starts = training.user_starts()
    return _validation(training, [(starts[user + 1] - 1, starts[user + 1]) for user in _able(training, seed)], None)


def random_item_validation(training: TrainingSet, seed: int = 0) -> Cases:
    """Hold back a fifth of the items of users who have at least three, at random."""
    starts = training.user_starts()
    return _validation(training, [(starts[u], starts[u + 1]) for u in _able(training, seed)], np.random.default_rng(seed + 1))


def temporal_validation(training: TrainingSet) -> Cases:
    """Hold back the newest fifth of the events of all users; at most `MAX_VALIDATION_USERS` of them, evenly chosen, validate."""
    columns = training.users, training.items, training.item_ids, training.weights, training.ts_ms
    cases = temporal(Slice.cut(*columns, temporal_split(training.ts_ms, HELD_SHARE), training.types))
    if len(cases) <= MAX_VALIDATION_USERS:
        return cases
    chosen = np.zeros(len(cases), bool)
    chosen[np.linspace(0, len(cases) - 1, MAX_VALIDATION_USERS).astype(np.int64)] = True
    kept = chosen[cases.case_of]
    case_of = (np.cumsum(chosen) - 1)[cases.case_of[kept]]
    return replace(cases, rows=cases.rows[chosen], targets=cases.targets[kept], case_of=case_of)


def search(
    kind: ModelKind,
    cases: Cases,
    options: Mapping[str, Any],
    *,
    budget_s: float,
    clock: Callable[[], float],
    seed: int = 0,
    shared: Mapping[str, Any] | None = None,
    start: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Found:
    """Look for better options until `budget_s` seconds of `clock` have passed; at worst return the start.

    The start comes first: the defaults, with the options `start` over them. Ranges near what it was trained with are known then
    (`recsys.models.space.Near`). Then configurations of the kind's space are trained cheaply
    (`CHEAP_SHARE`), at random first, until half of what is left of the budget is spent. The best of them are trained in full, in the order
    of what they scored, and the best full training wins. Where a cheap training saves no time, all are full.
    `options` stay what they are in every trial. A trial that the budget ends counts as none, and none is begun that would not end in time
    if it took as long as the mean of those before. With a seed the configurations of each phase come in the same order; how many
    are tried depends on the machine.
    Raises: what training raises for the start; a later configuration that cannot be trained is passed over.
    """
    begin = {name: value for name, value in (start or {}).items() if name not in options}
    run = _Search(kind, cases, options, budget_s, clock, seed, shared or {}, progress)
    try:
        run.full(begin, may_fail=False)
        space = {name: choice for name, choice in ranges(kind.space, run.trained_with).items() if name not in options}
        if run.trials and space:
            run.among(sampler_of(space, seed))
    except _Stopped:
        pass
    judged = [trial for trial in run.trials if trial.share == 1]
    chosen = max(judged, key=lambda trial: trial.ndcg).options if judged else begin
    return Found({**options, **chosen}, run.trials)


class _Stopped(Exception):
    """The caller's progress ends the search."""


class _Search:
    """Trials of one search, and the time that they take."""

    def __init__(
        self,
        kind: ModelKind,
        cases: Cases,
        options: Mapping[str, Any],
        budget_s: float,
        clock: Callable[[], float],
        seed: int,
        shared: Mapping[str, Any],
        progress: Progress | None,
    ) -> None:
        self._kind, self._cases, self._options, self._shared = kind, cases, options, shared
        self._clock, self._began, self._budget_s = clock, clock(), budget_s
        self._progress = progress
        self._training = cases.training()
        self._part = self._training if kind.effort else part_of_users(self._training, CHEAP_SHARE, seed)
        self._durations_s: dict[float, list[float]] = {1.0: [], CHEAP_SHARE: []}
        self.trials: list[Trial] = []
        self.trained_with: Mapping[str, Any] = {}
        """Options of the first model, with those that its training found."""
        self.n_repeated = 0

    def among(self, sampler: Sampler) -> None:
        """Try configurations of a sampler: cheaply, then the best in full. Raises _Stopped."""
        cheap_until_s = self._spent_s() + CHEAP_BUDGET * (self._budget_s - self._spent_s())
        waiting: list[tuple[float, int, Options]] = []
        worthwhile = True
        while worthwhile and self._fits(self._mean_s(CHEAP_SHARE), min(cheap_until_s, self._budget_s - self._mean_s(1.0))):
            drawn = sampler.ask()
            ndcg = self._cheap(drawn)
            worthwhile = self._mean_s(CHEAP_SHARE) <= WORTHWHILE * self._mean_s(1.0)
            if worthwhile:
                sampler.tell(drawn, ndcg)
            if ndcg is not None:
                waiting.append((-ndcg, len(waiting), drawn))
        tried: list[Mapping[str, Any]] = [trial.options for trial in self.trials if trial.share == 1]
        promoted = [drawn for _, _, drawn in sorted(waiting)]
        while self._fits(self._mean_s(1.0)):
            drawn = promoted.pop(0) if promoted else sampler.ask()
            if drawn in tried:  # of a small space
                self.n_repeated += 1
                if self.n_repeated > MAX_REPEATED:
                    break
                continue
            tried.append(drawn)
            ndcg = self.full(drawn)
            if not worthwhile:
                sampler.tell(drawn, ndcg)

    def full(self, drawn: Mapping[str, Any], *, may_fail: bool = True) -> float | None:
        """Train a configuration as it is, and return its NDCG@10; None if there is none. Raises _Stopped, and CoreError unless it
        `may_fail`."""
        config = partial(self._kind.configure, {**self._options, **drawn}, self._shared)
        return self._tried(drawn, config, self._training, 1.0, may_fail)

    def _cheap(self, drawn: Options) -> float | None:
        """Train a configuration for fewer epochs, or on a part of the users where its kind knows no epochs."""

        def config() -> Any:
            return self._kind.shortened(self._kind.configure({**self._options, **drawn}, self._shared), CHEAP_SHARE)

        return self._tried(drawn, config, self._part, CHEAP_SHARE, True)

    def _tried(
        self, drawn: Mapping[str, Any], config: Callable[[], Any], training: TrainingSet, share: float, may_fail: bool
    ) -> float | None:
        began_s = self._clock()
        on_time = _OnTime(self._clock, self._began + self._budget_s)
        ndcg: float | None = None
        try:
            model = self._kind.train(training, config(), self._clock, on_time)
            self.trained_with = self.trained_with or model.config
            ndcg = outcome_of(model, self._cases).means()[METRIC] if on_time else None
        except CoreError:
            if not may_fail:
                raise
        self._durations_s[share].append(self._clock() - began_s)
        if ndcg is not None:
            self.trials.append(Trial(dict(drawn), ndcg, share))
            self._report(ndcg, share)
        return ndcg

    def _report(self, ndcg: float, share: float) -> None:
        best = max((trial.ndcg for trial in self.trials if trial.share == 1), default=0.0)
        how = "" if share == 1 else "shortened, "
        message = f"{self._kind.model.kind}: trial {len(self.trials)}, {how}validation {METRIC} {ndcg:.4f}, best {best:.4f}"
        if not go_on(self._progress, min(self._spent_s() / self._budget_s, 1.0), message):
            raise _Stopped

    def _spent_s(self) -> float:
        return self._clock() - self._began

    def _mean_s(self, share: float) -> float:
        durations = self._durations_s[share]
        return sum(durations) / len(durations) if durations else 0.0

    def _fits(self, seconds: float, until_s: float | None = None) -> bool:
        """Return whether that many seconds end before `until_s` of the search, or the budget."""
        return self._spent_s() + seconds <= (self._budget_s if until_s is None else until_s)


def part_of_users(training: TrainingSet, share: float, seed: int) -> TrainingSet:
    """Return the interactions of a random share of the users, at least one."""
    n_users = max(1, round(share * training.n_users))
    chosen = np.zeros(training.n_users, bool)
    chosen[np.random.default_rng(seed).choice(training.n_users, n_users, replace=False)] = True
    kept = chosen[training.users]
    columns = training.users[kept], training.items[kept], training.item_ids, training.weights[kept], training.ts_ms[kept]
    types = None if training.types is None else training.types[kept]
    return replace(TrainingSet.from_columns(*columns, types=types), descriptions=training.descriptions)


class _OnTime:
    """Progress of a training that has until `deadline`; false once it was stopped."""

    def __init__(self, clock: Callable[[], float], deadline: float) -> None:
        self._clock, self._deadline, self._stopped = clock, deadline, False

    def __call__(self, done: float, message: str) -> bool:
        del done, message
        self._stopped = self._stopped or self._clock() > self._deadline
        return not self._stopped

    def __bool__(self) -> bool:
        return not self._stopped


def _able(training: TrainingSet, seed: int) -> list[int]:
    able = np.flatnonzero(np.diff(training.user_starts()) >= MIN_ITEMS)
    if len(able) > MAX_VALIDATION_USERS:
        able = np.sort(np.random.default_rng(seed).choice(able, MAX_VALIDATION_USERS, replace=False))
    found: list[int] = able.tolist()
    return found


def _validation(training: TrainingSet, ranges: list[tuple[int, int]], chance: np.random.Generator | None) -> Cases:
    """Return the cases of rows that are held back: whole ranges, or with `chance` a share of each."""
    held = np.zeros(len(training), bool)
    for first, last in ranges:
        if chance is None:
            held[first:last] = True
        else:
            held[first + chance.choice(last - first, max(1, int(HELD_SHARE * (last - first))), replace=False)] = True
    return split_rows(training.users, training.items, training.item_ids, training.weights, training.ts_ms, held, repeats=chance is None)
