"""The search for options: which configurations are tried, within which time, and which wins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pytest

from recsys.errors import ModelError, TooFewInteractions
from recsys.evaluation.search import last_item_validation, part_of_users, random_item_validation, search, temporal_validation
from recsys.models.base import F32, Histories
from recsys.models.kind import ModelKind
from recsys.models.registry import MODELS
from recsys.models.space import LogUniform, Near, OneOf, ranges
from recsys.models.training import Progress, go_on
from recsys.models.training_set import TrainingSet
from tests.unit.recsys.models.model_cases import clustered

SECONDS = 10.0


@dataclass(frozen=True)
class Config:
    noise: float = 50.0
    kind: str = "plain"
    seed: int = 0
    epochs: int = 20


class Guess:
    """A model that ranks by popularity with noise: the less, the better."""

    kind, link, history_length = "guess", "identity", 3

    def __init__(self, item_ids: list[str], scores: F32, config: Config) -> None:
        self.item_ids, self.item_vectors, self.config = item_ids, scores[:, None], asdict(config)

    def encode(self, histories: Histories) -> F32:
        return np.ones((len(histories), 1), np.float32)


class Clock:
    """Seconds that a training takes, on demand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def kind_of(clock: Clock, tried: list[Config], fails: Callable[[Config], bool] = lambda config: False) -> ModelKind:
    def fit(interactions: TrainingSet, config: Config, progress: Progress | None = None, warm_start: Any = None) -> Any:
        tried.append(config)
        clock.now += SECONDS * config.epochs / 20
        go_on(progress, 1.0, "")
        if fails(config):
            raise TooFewInteractions("too few")
        counts = np.bincount(interactions.items, minlength=interactions.n_items)
        noise = config.noise * np.random.default_rng(0).normal(size=len(counts))
        return Guess(interactions.item_ids, (counts + noise).astype(np.float32), config)

    return ModelKind(Guess, Config, fit, space={"noise": LogUniform(0.01, 100.0), "kind": OneOf(("plain", "other"))})


@pytest.fixture
def skewed() -> TrainingSet:
    chance = np.random.default_rng(5)
    users, items = np.repeat(np.arange(200), 6), np.minimum(chance.geometric(0.1, 1200), 40)
    ids = [f"i{n}" for n in range(41)]
    return TrainingSet.from_columns(users, items, ids, np.ones(1200, np.float32), np.arange(1200))


def test_the_defaults_are_tried_first_and_the_best_trial_wins(skewed: TrainingSet) -> None:
    clock, tried = Clock(), list[Config]()
    found = search(kind_of(clock, tried), last_item_validation(skewed), {}, budget_s=100.0, clock=clock, seed=1)
    assert tried[0] == Config()
    assert len(tried) == 10  # each takes ten seconds of the hundred
    best = max(found.trials, key=lambda trial: trial.ndcg)
    assert found.options == best.options
    assert best.ndcg > found.trials[0].ndcg
    clock, again = Clock(), list[Config]()
    search(kind_of(clock, again), last_item_validation(skewed), {}, budget_s=100.0, clock=clock, seed=1, progress=_stop_after(5))
    assert again == tried[:5]


def test_many_are_trained_shortly_and_the_best_of_them_in_full(skewed: TrainingSet) -> None:
    clock, tried = Clock(), list[Config]()
    kind = replace(kind_of(clock, tried), effort="epochs")
    found = search(kind, last_item_validation(skewed), {}, budget_s=100.0, clock=clock, seed=1)
    short, full = ([trial for trial in found.trials if trial.share == share] for share in (0.25, 1.0))
    assert {config.epochs for config in tried} == {5, 20}
    assert len(short) == 18 and len(full) == 1 + 4, "2.5 seconds each of the 45, then ten each"
    best_first = sorted(short, key=lambda trial: -trial.ndcg)
    assert [trial.options for trial in full[1:]] == [trial.options for trial in best_first[:4]]
    assert found.options == max(full, key=lambda trial: trial.ndcg).options, "a short training wins nothing by itself"


def test_a_kind_without_epochs_is_trained_shortly_on_some_of_the_users(skewed: TrainingSet) -> None:
    part = part_of_users(skewed, 0.25, seed=3)
    assert part.n_users == 50 and len(part) == 300
    assert set(part.item_ids) < set(skewed.item_ids)


def test_a_search_goes_on_from_where_an_earlier_one_ended(skewed: TrainingSet) -> None:
    clock, tried = Clock(), list[Config]()
    kind = kind_of(clock, tried, lambda config: config.noise != 0.5)
    found = search(kind, last_item_validation(skewed), {}, budget_s=50.0, clock=clock, start={"noise": 0.5, "kind": "other"})
    assert (tried[0].noise, tried[0].kind) == (0.5, "other")
    assert len({config.noise for config in tried}) == 5, "what the start says stays free"
    assert found.options == {"noise": 0.5, "kind": "other"}
    given = search(kind, last_item_validation(skewed), {"noise": 0.5}, budget_s=15.0, clock=clock, start={"noise": 7.0})
    assert given.options == {"noise": 0.5}, "a given option wins over an earlier search"


def _stop_after(n: int) -> Progress:
    calls = [0]

    def progress(done: float, message: str) -> bool:
        calls[0] += 1
        return calls[0] < n

    return progress


def test_given_options_stay_and_what_cannot_be_trained_is_passed_over(skewed: TrainingSet) -> None:
    clock, tried = Clock(), list[Config]()
    kind = kind_of(clock, tried, lambda config: config.noise < 1)
    found = search(kind, last_item_validation(skewed), {"kind": "other"}, budget_s=80.0, clock=clock)
    assert {config.kind for config in tried} == {"other"}
    assert found.options["kind"] == "other"
    assert any(config.noise < 1 for config in tried)
    assert len(found.trials) == sum(config.noise >= 1 for config in tried)


def test_defaults_that_take_longer_than_the_budget_count_unjudged(skewed: TrainingSet) -> None:
    clock, tried = Clock(), list[Config]()
    found = search(kind_of(clock, tried), last_item_validation(skewed), {}, budget_s=5.0, clock=clock)
    assert (found.options, found.trials, len(tried)) == ({}, [], 1)


def test_validation_holds_back_items_of_the_training_data_only() -> None:
    training = clustered(60)
    last = last_item_validation(training)
    assert len(last) == 60
    assert (last.history_lengths() <= 13).all()
    random = random_item_validation(training, seed=1)
    assert np.bincount(random.case_of).max() <= 2  # a fifth of 14 items
    newest = temporal_validation(training)
    assert newest.part.is_newest.mean() == pytest.approx(0.2, abs=0.05)
    for cases in (last, random, newest):
        assert len(cases.training()) + int(cases.part.is_newest.sum()) == len(training)


@pytest.mark.parametrize("name", list(MODELS))
def test_every_kind_accepts_what_its_space_offers(name: str) -> None:
    chance = np.random.default_rng(0)
    trained = {option: 0.3 for option, choice in MODELS[name].space.items() if isinstance(choice, Near)}
    space = ranges(MODELS[name].space, trained)
    assert space.keys() == MODELS[name].space.keys()
    for _ in range(20):
        MODELS[name].configure({option: choice.draw(chance) for option, choice in space.items()})


def test_a_range_near_what_training_found_is_known_after_the_first_training(skewed: TrainingSet) -> None:
    clock, tried = Clock(), list[Config]()
    kind = replace(kind_of(clock, tried), space={"noise": Near(2.0)})
    search(kind, last_item_validation(skewed), {}, budget_s=200.0, clock=clock, start={"noise": 40.0})
    drawn = [config.noise for config in tried[1:]]
    assert tried[0].noise == 40.0
    assert len(drawn) > 10
    assert 20.0 <= min(drawn) < 30.0 < 50.0 < max(drawn) <= 80.0


@pytest.mark.parametrize("found", [None, 0.0, -1.0, float("nan"), float("inf"), "much"])
def test_an_option_without_a_number_above_0_has_no_range_near_it(found: object) -> None:
    assert ranges({"noise": Near(2.0), "kind": OneOf(("plain",))}, {"noise": found}) == {"kind": OneOf(("plain",))}


def test_ranges_that_are_none_are_refused() -> None:
    with pytest.raises(ModelError, match="0 < low < high"):
        LogUniform(1.0, 1.0)
    with pytest.raises(ModelError, match="factor above 1"):
        Near(1.0)
    with pytest.raises(ModelError, match="needs values"):
        OneOf(())
    chance = np.random.default_rng(0)
    draws = [LogUniform(0.01, 1.0).draw(chance) for _ in range(2000)]
    assert 0.01 <= min(draws) < 0.02 < 0.08 < float(np.median(draws)) < 0.13
