"""A round for the ranker: it is judged by lists beside the recipe alone, and positions on lists weigh what it learns from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.recipe.judge import Judged
from schemas import EventType
from tests.unit.recsys.lists.test_learned_lists import stump
from tests.unit.workers.trainer.test_recipe_round import fashion
from tests.unit.workers.trainer.test_training_round import append, job
from workers.models.store import ModelStore
from workers.settings import WeightSettings
from workers.trainer import ranker_round
from workers.trainer.event_columns import EventColumns, EventSurroundings
from workers.trainer.event_devices import devices_by_event
from workers.trainer.positions import weights_by_position
from workers.trainer.settling import KindResult
from workers.trainer.training_round import run_job

OPTIONS = {"ranker": {"cases": 300, "trees": 20, "learning_rate": 0.2, "judged": 300}}


def trained(folder: Path, **options: Any) -> KindResult:
    (result,) = run_job(job(folder, kinds=("ranker",), **{"options": OPTIONS, "holdout": 0.2, "min_targets": 100, **options}))
    return result


def test_a_ranker_is_trained_before_the_judging_events_on_what_it_may_see_and_is_judged_beside_the_recipe_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(tmp_path, 0, 1_600, fashion(1_600))
    seen: dict[str, Any] = {}
    train, judge = ranker_round.train_ranker, ranker_round.judge

    def watched(*arguments: Any, **options: Any) -> Any:
        seen.update(log=arguments[1], among=options["among"])
        return train(*arguments, **options)

    def judged(config: Any, log: Any, events: Any, recipes: Any, **options: Any) -> Judged:
        seen.update(events=events, rankers=set(options["rankers"]))
        return judge(config, log, events, recipes, **options)

    monkeypatch.setattr(ranker_round, "train_ranker", watched)
    monkeypatch.setattr(ranker_round, "judge", judged)
    result = trained(tmp_path)
    assert result.action in ("promoted", "refused") and result.version == "ranker-000001", result.reason
    assert seen["among"].max() < seen["events"].min() and seen["rankers"] == {"challenger"}
    manifest, _ = ModelStore(str(tmp_path / "models")).manifest("ranker", "ranker-000001")
    assert set(manifest.metrics) == {"challenger", "champion", "recipe", "popularity", "recent_popularity"}
    assert manifest.metrics["champion"] == manifest.metrics["recipe"], "no ranker serves, so the recipe alone is the champion"
    assert (result.action == "promoted") == (result.figures["least_lead_over_champion"] > 0)


def test_a_ranker_that_changes_nothing_is_refused_and_a_log_too_small_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(tmp_path, 0, 1_500, fashion(1_500))
    monkeypatch.setattr(ranker_round, "train_ranker", lambda *arguments, **options: stump("age", 0.0, 0.0, 0.0))
    result = trained(tmp_path)
    assert result.action == "refused" and result.figures["lead_over_champion"] == 0.0
    monkeypatch.undo()
    (tmp_path / "small").mkdir()
    append(tmp_path / "small", 0, 120, fashion(120))
    result = trained(tmp_path / "small")
    assert result.action == "skipped" and "a ranker needs" in result.reason


def shown(n_lists: int, seed: int = 0) -> EventColumns:
    """Return impressions of ten places, each looked at less often than the one before, and clicks where people looked."""
    random = np.random.default_rng(seed)
    items = np.concatenate([random.permutation(30)[:10] for _ in range(n_lists)])
    lists, places = np.repeat(np.arange(n_lists), 10), np.tile(np.arange(1, 11), n_lists)
    clicked = np.flatnonzero(random.random(len(items)) < 0.5 / places)
    rows = np.concatenate([np.arange(len(items)), clicked])
    types = np.concatenate([np.full(len(items), EventType.IMPRESSION.code), np.full(len(clicked), EventType.CLICK.code)])
    n = len(rows)
    on_lists, at, no_visit = lists[rows].astype(np.int32), places[rows].astype(np.int16), np.full(n, -1, np.int32)
    around = EventSurroundings(on_lists, at, no_visit, [None] * n, [str(one) for one in range(n_lists)], [])
    zeros = np.zeros(n, np.int32)
    return EventColumns(
        zeros, np.arange(n), (lists[rows] % 50).astype(np.int32), items[rows].astype(np.int32), types.astype(np.int8), np.full(n, np.nan),
        np.arange(n) + 1_700_000_000_000, [f"u{one}" for one in range(50)], [f"i{one}" for one in range(30)], around,
    )  # fmt: skip


def test_likes_far_down_a_list_weigh_more_and_few_impressions_change_nothing() -> None:
    events = shown(600)
    weights = weights_by_position(events, WeightSettings())
    assert weights is not None and events.surroundings is not None
    clicks = events.surroundings.positions[events.types == EventType.CLICK.code]
    assert len(weights) == len(clicks), "one for each event that counts, as the trainer's columns have them"
    by_place = {place: float(weights[clicks == place].mean()) for place in (1, 3, 8)}
    assert by_place[1] == 1.0 < by_place[3] < by_place[8] and by_place[3] == pytest.approx(3.0, rel=0.4)
    assert weights_by_position(shown(40), WeightSettings()) is None


def test_devices_of_the_context_reach_the_cases_and_the_lists_that_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = ['{"device":"tv","page":"home"}', '{"device":"phone"}', '{"device":7}', None]
    append(tmp_path, 0, 1_500, fashion(1_500), contexts=[told[n % 4] for n in range(1_500)])
    seen: dict[str, Any] = {}

    def watched(*arguments: Any, **_: Any) -> Any:
        seen.update(log=arguments[1])
        return stump("age", 0.0, 0.0, 0.0)

    monkeypatch.setattr(ranker_round, "train_ranker", watched)
    monkeypatch.setattr(ranker_round, "judge", lambda *arguments, **options: seen.update(judging=arguments[1]) or stop())
    assert trained(tmp_path).action == "failed"
    devices = seen["log"].devices
    assert devices is seen["judging"].devices and devices.names == ("tv", "phone")
    by_second = sorted((ts_ms // 1000, place) for place, (_, _, ts_ms) in enumerate(fashion(1_500)))
    assert devices.codes.tolist() == [(1, 2, 0, 0)[place % 4] for _, place in by_second]


def stop() -> None:
    raise RuntimeError("seen enough")


def test_devices_are_those_of_the_events_that_count() -> None:
    events = shown(200)
    around = events.surroundings
    assert around is not None and devices_by_event(replace(events, surroundings=None), WeightSettings()) is None
    assert devices_by_event(events, WeightSettings()) is None, "no context"
    is_click = events.types == EventType.CLICK.code
    contexts = [f'{{"device":"{"tablet" if n % 3 else "tv"}"}}' for n in range(len(events))]
    found = devices_by_event(replace(events, surroundings=replace(around, contexts=contexts)), WeightSettings())
    assert found is not None and found.names == ("tablet", "tv")
    assert found.codes.tolist() == [1 if n % 3 else 2 for n in np.flatnonzero(is_click).tolist()]
