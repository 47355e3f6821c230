"""Live quality counts what users choose against the list that they had before, by the models that made it."""

from __future__ import annotations

import numpy as np
import pytest
from prometheus_client import generate_latest

from tests.builders import TOPIC_ID, batch_of, opened_pipeline, play, put_items, records_of, small_settings
from tests.memory_store import MemoryStore
from workers.lists.encoding import ListHead
from workers.runtime.metrics import StreamMetrics
from workers.runtime.status import WorkerStatus
from workers.settings import AlarmSettings, load_settings
from workers.stream import app as stream_app
from workers.stream.live_quality import KEPT_VERSIONS, TOP, LiveQuality
from workers.stream.measures import Measures

HEADS = [ListHead("anna", 0, 5, None), ListHead("ben", 0, 6, None)]


def counts(quality: LiveQuality) -> dict[str, tuple[int, ...]]:
    found = [dict(quality.counted(what)) for what in range(3)]
    return {name: tuple(of[name] for of in found) for name in found[0]}


def test_choices_are_compared_with_the_list_before_and_counted_for_its_version() -> None:
    quality = LiveQuality(10)
    quality.look(HEADS, batch_of([0, 1], [1, 1], [3, 4], [1, 1], [32, 32]), 0)
    assert counts(quality) == {}, "nobody has a list"
    quality.note(HEADS, np.array([[3, 4, 5], [6, 7, -1]]), {"ials": "ials-1"})
    quality.note_popular(np.array([0, 9, 0, 0, 8, 0, 0], np.float32))
    quality.look(HEADS, batch_of([0, 1], [3, 1], [3, 9, 5, 4], [1] * 4, [32, 32, -32, 32]), 0)
    assert counts(quality) == {"ials=ials-1": (3, 1, 1)}, "a dislike is no choice; item 4 is popular and on no list of ben"
    quality.note(HEADS[:1], np.array([[1, 2, 3]]), {"recipe": "r-2", "ials": "ials-1"})
    quality.look(HEADS, batch_of([0, 1], [1, 1], [3, 7], [1, 1], [32, 32]), 0)
    assert counts(quality) == {"ials=ials-1": (4, 2, 1), "ials=ials-1,recipe=r-2": (1, 1, 0)}


def test_only_the_first_places_count_and_old_versions_are_forgotten() -> None:
    quality = LiveQuality(10)
    for n in range(KEPT_VERSIONS + 3):
        quality.note(HEADS[:1], np.arange(30)[None], {"ials": str(n)})
        quality.look(HEADS[:1], batch_of([0], [2], [TOP - 1, TOP], [1, 1], [32, 32]), 0)
    assert list(counts(quality)) == [f"ials={n}" for n in range(3, KEPT_VERSIONS + 3)]
    assert set(counts(quality).values()) == {(2, 1, 0)}


def test_another_numbering_of_items_forgets_all_lists_and_a_limit_of_0_counts_nothing() -> None:
    quality = LiveQuality(10)
    quality.note(HEADS, np.array([[3], [4]]), {})
    quality.look(HEADS, batch_of([0, 1], [1, 1], [3, 4], [1, 1], [32, 32]), 1)
    assert counts(quality) == {"none": (0, 0, 0)}
    off = LiveQuality(0)
    off.note(HEADS, np.array([[3], [4]]), {})
    assert counts(off) == {}


async def test_a_pipeline_counts_the_choice_of_a_listed_item() -> None:
    pipeline = await opened_pipeline(MemoryStore(), small_settings())
    await pipeline.assign([0], TOPIC_ID)
    await pipeline.process({0: records_of([play("u1", "a", 1), play("u1", "b", 2), play("u2", "a", 3)])})
    await pipeline.process({0: records_of([play("u2", "b", 4)], 3)})
    assert counts(pipeline.lists.quality) == {"none": (1, 1, 0)}


async def test_a_worker_shows_its_state_and_its_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_app, "_calm_garbage_collector", lambda: None)
    monkeypatch.setattr(stream_app, "compile_lists", lambda *_: None)
    store, status = MemoryStore(), WorkerStatus()
    monkeypatch.setattr(stream_app, "open_store", lambda settings: store)
    settings = load_settings()
    made = next(given for given in _services(monkeypatch, settings, status) if isinstance(given, Measures))
    service = made._service
    await service.pipeline.open()
    service.partitions.take([0])
    service.partitions.own(0, 0, has_deferred_lists=False)
    await put_items(service.pipeline, 0)
    store.traffic.sent_bytes = 12
    await made.look()
    assert status.registry is not None
    value = status.registry.get_sample_value
    assert value("recsys_redis_bytes_total", {"direction": "sent"}) == 12
    assert value("recsys_state_redis_bytes", {"of": "used"}) is not None
    assert value("recsys_cache_lookups_total", {"cache": "users", "outcome": "hit"}) == 0
    service.partitions.disown([0])
    await made.look()
    assert value("recsys_state_redis_bytes", {"of": "used"}) is None, "its new owner shows it"


def _services(monkeypatch: pytest.MonkeyPatch, settings: object, status: WorkerStatus) -> list[object]:
    given: list[object] = []
    monkeypatch.setattr(stream_app.StreamApp, "service", lambda self, service: given.append(service))
    stream_app.build_stream(settings, status)  # type: ignore[arg-type]
    return given


async def test_freshness_and_stages_of_a_batch_are_in_the_histograms() -> None:
    pipeline = await opened_pipeline(MemoryStore(), small_settings())
    await pipeline.assign([0], TOPIC_ID)
    outcome = await pipeline.process({0: records_of([None, play("u1", "a", 1), play("u2", "a", 2), play("u1", "b", 3)])})
    assert outcome.listed_ms["event"].tolist() == [play("", "", n).event_ts_ms for n in (3, 2)]
    metrics = StreamMetrics(AlarmSettings())
    metrics.add(outcome)
    metrics.note_published(outcome, 0.004)
    value = metrics.registry.get_sample_value
    assert value("recsys_freshness_seconds_count", {"since": "event"}) == 2
    assert value("recsys_stage_seconds_bucket", {"stage": "publish", "le": "0.005"}) == 1
    assert value("recsys_stage_seconds_count", {"stage": "decode"}) == 1 and value("recsys_batch_records_sum") == 4
    deferred = await pipeline.process({0: records_of([play("u3", "a", 4)], 4)}, defer_lists=True)
    assert deferred.listed_ms == {} and b"u1" not in generate_latest(metrics.registry)
