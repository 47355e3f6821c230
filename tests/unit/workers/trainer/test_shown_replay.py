"""The trainer's replay counts impressions as the stream worker does: same rows, same features, whatever arrives late."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.engine import Engine
from recsys.errors import TooFewInteractions
from recsys.lists.learned.feature_names import SHOWN
from recsys.recipe.impressions import Impressions
from recsys.recipe.replay import Replay
from recsys.state.shown import unpack_shown
from schemas import EventType
from tests.builders import START_MS, TOPIC_ID, opened_pipeline, play, records_of, small_settings
from tests.fold import Fact
from tests.memory_store import MemoryStore
from tests.unit.workers.trainer.test_training_round import job
from workers.settings import Settings
from workers.trainer import ranker_round
from workers.trainer.event_columns import EventColumns, events_table
from workers.trainer.event_log import EventLog
from workers.trainer.impressions import replayed_impressions
from workers.trainer.recipe_round import RecipeSections, replayed_log
from workers.trainer.training_columns import TrainingColumns
from workers.trainer.training_round import run_job

USERS = [f"u{number}" for number in range(4)]


def log_of(seed: int, n_events: int = 260) -> list[Fact]:
    """Return events and impressions, some of which arrive up to half a minute late; each user's last is an event."""
    chance, facts = random.Random(seed), list[Fact]()
    for number in range(n_events):
        kind = "impression" if chance.random() < 0.7 else "play"
        late_s = chance.randrange(30) if kind == "impression" and chance.random() < 0.3 else 0
        at_ms = START_MS + (60 * number - late_s) * 1000
        facts.append(play(chance.choice(USERS), f"i{chance.randrange(16)}", number, type=kind, at_ms=at_ms))
    return facts + [play(user, "i0", number, at_ms=START_MS + 60_000 * number) for number, user in enumerate(USERS, n_events)]


def appended(folder: Path, facts: list[Fact]) -> EventLog:
    n, log = len(facts), EventLog(str(folder / "log"), "a" * 32)
    types = [EventType(fact.type).code for fact in facts]
    users, items, ts_ms = ([getattr(fact, name) for fact in facts] for name in ("user_id", "item_id", "event_ts_ms"))
    log.append(0, 0, n - 1, events_table(list(range(n)), users, items, types, [float("nan")] * n, ts_ms, list(range(n))))
    return log


def replay_of(events: EventColumns, settings: Settings) -> Replay:
    """Return a replay of the trainer that has learnt everything."""
    sections = RecipeSections(settings.trainer, settings.state, settings.lists, None)
    columns, config = TrainingColumns.of(events, settings.weights, with_shown=True), sections.engine_config()
    none, options = np.zeros(len(columns), np.bool_), ranker_round.RankerOptions()
    replay = Replay(config, replayed_log(config, columns, {}, none, options, {}, 100, None).log)
    replay.learn_until(len(columns))
    return replay


def shown_features(engine: Engine, slots: NDArray[np.int64], now_s: int, ids: Sequence[str]) -> dict[tuple[int, str], list[float]]:
    """Return the features of version 3 by user and item."""
    candidates, made = engine.shortlist(slots, {}, now_s, size=16)
    places = np.argwhere(candidates.valid).tolist()
    return {
        (user, ids[candidates.numbers[user, place]]): [float(made.column(name)[user, place]) for name in SHOWN] for user, place in places
    }


@pytest.mark.parametrize("weight", [0.0, 0.1], ids=["impressions say nothing", "impressions have a weight"])
async def test_the_replay_holds_the_rows_and_makes_the_features_of_the_worker(tmp_path: Path, weight: float) -> None:
    settings = small_settings(state={"shown_items": 6}, weights={"impression": weight})
    facts, store = log_of(3), MemoryStore()
    pipeline = await opened_pipeline(store, settings)
    await pipeline.assign((0, 1), TOPIC_ID)
    for start in range(0, len(facts), 37):
        await pipeline.process({0: records_of(facts[start : start + 37], start)})
    events = appended(tmp_path, facts).read()
    replay, names = replay_of(events, settings), await store.item_names()
    slots = np.array([replay.slot(events.user_ids.index(user)) for user in USERS])
    rows = (await store.read_shown_of({0: USERS}))[0]
    assert replay.engine.users.shown is not None
    for theirs, ours in zip(rows, replay.engine.users.shown.pack(slots), strict=True):
        stored = [(names[number], *counted) for number, *counted in unpack_shown([theirs])[0].tolist()]
        assert stored == [(events.item_ids[number], *counted) for number, *counted in unpack_shown([ours])[0].tolist()]
        assert len(stored) == 6 and any(count > 1 for _, count, *_ in stored)
    worker, now_s = pipeline.state.engine, START_MS // 1000 + 60 * len(facts)
    of_worker = shown_features(worker, np.array([worker.users.slot(f"0:{user}") for user in USERS]), now_s, names)
    of_replay = shown_features(replay.engine, slots, now_s, events.item_ids)
    both = of_worker.keys() & of_replay.keys()
    if not weight:  # what was shown is touched then, and no candidate
        assert len(both) > 10 and any(of_worker[key][0] > 0 for key in both)
    for key in both:
        assert of_worker[key] == pytest.approx(of_replay[key]), key


def test_what_is_older_than_the_replay_is_left_out_and_arrival_decides_what_an_event_knows() -> None:
    code, like = EventType.IMPRESSION.code, EventType.LIKE.code
    types = np.array([like, code, like, code, like, code, code], np.int8)  # of one user, but the last
    users, ts_ms = np.array([0, 0, 0, 0, 0, 0, 1], np.int32), np.array([10, 11, 40, 12, 50, 60, 5]) * 1_000
    n = len(types)
    events = EventColumns(
        np.zeros(n, np.int32), np.arange(n), users, np.arange(n, dtype=np.int32), types, np.full(n, np.nan), ts_ms, ["a", "b"],
        [f"i{number}" for number in range(n)],
    )  # fmt: skip
    settings = small_settings(state={"shown_items": 6})
    columns = TrainingColumns.of(events, settings.weights, with_shown=True)

    def placed(n_events: int) -> list[tuple[int, int]]:
        found = replayed_impressions(columns, np.arange(len(columns))[-n_events:])
        assert isinstance(found, Impressions) and found.type_code == code
        return list(zip(found.items.tolist(), found.places.tolist(), strict=True))

    assert placed(3) == [(6, 0), (1, 1), (3, 2), (5, 3)], "the second came late: the event at 40 s did not know it"
    assert placed(1) == [(6, 0), (5, 1)]
    assert replayed_impressions(TrainingColumns.of(events, settings.weights), np.arange(3)) is None


@pytest.mark.parametrize("shown_items", [0, 6])
def test_a_round_passes_impressions_to_the_replay_where_workers_count_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown_items: int
) -> None:
    facts, given = log_of(1, 200), list[Any]()
    appended(tmp_path, facts)

    def watched(config: Any, log: Any, *others: Any, **options: Any) -> Any:
        given.append(log)
        raise TooFewInteractions("enough seen")

    monkeypatch.setattr(ranker_round, "train_ranker", watched)
    settings = small_settings(state={"shown_items": shown_items})
    run_job(job(tmp_path, kinds=("ranker",), options={}, min_targets=5, min_events=20).model_copy(update={"state": settings.state}))
    n_shown = sum(fact.type == "impression" for fact in facts)
    assert [0 if log.impressions is None else len(log.impressions) for log in given] == [n_shown if shown_items else 0]
