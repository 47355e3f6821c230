"""Searching in a round of training: when it is made, what it leaves for later rounds, and what wins over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recsys.evaluation.search import Found, Trial
from recsys.models.registry import MODELS
from recsys.models.training_set import TrainingSet
from tests.unit.recsys.models.model_cases import clustered
from tests.unit.workers.trainer.test_training_round import FIRST, append, job
from workers.models.lineage import lineage
from workers.models.store import ModelStore
from workers.settings import TrainerSettings
from workers.trainer import search_round
from workers.trainer.search_round import searched_config
from workers.trainer.training_round import run_job

EASE = {"regularisation": 30.0}


class Searches:
    """Stands in for the search: remembers where each began and finds what it is told."""

    def __init__(self, options: dict[str, Any], *, in_time: bool = True) -> None:
        self.options, self.in_time = options, in_time
        self.starts: list[dict[str, Any]] = []
        self.budgets_s: list[float] = []

    def __call__(self, kind: Any, cases: Any, options: Any, *, budget_s: float, start: Any, **rest: Any) -> Found:
        self.starts.append(dict(start))
        self.budgets_s.append(budget_s)
        trials = [Trial(dict(start), 0.25), Trial(self.options, 0.5), Trial({}, 0.9, 0.25)] if self.in_time else []
        return Found({**start, **(self.options if self.in_time else {}), **options}, trials)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    append(tmp_path, 0, FIRST)
    return tmp_path


def ease(folder: Path, **trainer: Any) -> Any:
    return job(folder, **{"kinds": ("ease",), "options": {}, "search_minutes": 2.0, "holdout": 0.3, **trainer})


def test_a_round_searches_once_and_the_next_ones_keep_what_it_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searches = Searches(EASE)
    monkeypatch.setattr(search_round, "search", searches)
    assert run_job(ease(folder))[0].action == "promoted"
    append(folder, FIRST, 2_000)
    run_job(ease(folder))
    store = ModelStore(str(folder / "models"))
    first, second = (store.manifest("ease", version)[0] for version in store.versions("ease"))
    assert searches.starts == [{}], "the log has not doubled"
    assert first.search is not None and first.search == second.search
    assert (first.search.options, first.search.start, first.search.found, first.search.n_trials) == (EASE, 0.25, 0.5, 3)
    assert first.config["regularisation"] == second.config["regularisation"] == 30.0
    told = lineage(store, second)
    assert [entry["version"] for entry in told] == ["ease-000002", "ease-000001"]
    assert told[1]["trained_on"]["n_events"] == FIRST and told[0]["seed"] == 0
    assert told[0]["config"]["regularisation"] == 30.0 and "regularisation" not in told[1]["config"]


def test_the_lineage_ends_where_a_version_was_removed(folder: Path) -> None:
    run_job(ease(folder, search_minutes=0.0))
    append(folder, FIRST, 2_000)
    run_job(ease(folder, search_minutes=0.0))
    store = ModelStore(str(folder / "models"))
    store.storage.remove("ease/ease-000001/manifest.json")
    told = lineage(store, store.manifest("ease", "ease-000002")[0])
    assert [entry["version"] for entry in told] == ["ease-000002", "ease-000001"] and "problem" in told[1]


def test_off_reads_no_earlier_search(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_round, "search", Searches(EASE))
    run_job(ease(folder))
    append(folder, FIRST, 2_000)
    run_job(ease(folder, search_minutes=0.0))
    manifest = ModelStore(str(folder / "models")).manifest("ease", "ease-000002")[0]
    assert manifest.search is None and manifest.config["regularisation"] is None


def part(n: int) -> TrainingSet:
    made = clustered(n)
    return TrainingSet.from_columns(made.users, made.items, made.item_ids, made.weights, made.ts_ms)


def settings(folder: Path, **given: Any) -> TrainerSettings:
    return TrainerSettings(**{"model_url": str(folder / "models"), "search_minutes": 2.0, "kinds": ("ease", "popular", "ials"), **given})


def test_a_log_twice_as_long_is_searched_again_from_what_was_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searches = Searches(EASE)
    monkeypatch.setattr(search_round, "search", searches)
    run_job(ease(folder))
    store, kind = ModelStore(str(folder / "models")), MODELS["ease"]
    n_events = searched_config(kind, part(60), settings(folder), store)[1]
    assert n_events is not None and len(searches.starts) == 1
    searches.options = {"regularisation": 500.0}
    config, again = searched_config(kind, part(400), settings(folder), store)
    assert searches.starts == [{}, EASE] and config.regularisation == 500.0
    assert again is not None and again.n_events == len(part(400))
    assert searches.budgets_s == [120.0, 60.0], "two of three kinds have a space"


def test_options_set_by_hand_win_over_a_search(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_round, "search", Searches({"factors": 128, "epochs": 24}))
    store, training = ModelStore(str(folder / "models")), part(60)
    by_hand = settings(folder, factors=16, options={"ials": {"epochs": 3}})
    config, outcome = searched_config(MODELS["ials"], training, by_hand, store)
    assert (config.factors, config.epochs) == (16, 3)
    assert outcome is not None and outcome.options == {}
    config, _ = searched_config(MODELS["ials"], training, settings(folder), store)
    assert (config.factors, config.epochs) == (128, 24)


def test_a_search_without_enough_time_leaves_the_options_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search_round, "search", Searches(EASE, in_time=False))
    config, outcome = searched_config(MODELS["ease"], part(60), settings(folder), ModelStore(str(folder / "models")))
    assert config == MODELS["ease"].configure({})
    assert outcome is not None and (outcome.start, outcome.found, outcome.options) == (None, None, {})
    assert "within trainer.search_minutes" in capsys.readouterr().err


def test_a_stored_search_that_no_longer_fits_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searches = Searches(EASE)
    monkeypatch.setattr(search_round, "search", searches)
    run_job(ease(folder))
    store = ModelStore(str(folder / "models"))
    path = folder / "models" / "ease" / "ease-000001" / "manifest.json"
    path.write_text(path.read_text().replace('"regularisation": 30.0', '"strength": 30.0'))
    searched_config(MODELS["ease"], part(60), settings(folder), store)
    assert searches.starts == [{}, {}]
