"""Counters add up, gauges follow, and an alarm speaks once when it starts and once when it ends."""

from __future__ import annotations

import logging

import orjson
import pytest
from prometheus_client import generate_latest

from schemas.decoding import encode
from tests.builders import TOPIC_ID, opened_pipeline, play, records_of, small_settings
from tests.memory_store import MemoryStore
from workers.runtime import metrics as module
from workers.runtime.metrics import StreamMetrics, TrainerMetrics
from workers.runtime.trimmed import TrimmedFields
from workers.settings import AlarmSettings


def value(metrics: StreamMetrics, metric: str, /, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(metric, labels)


async def test_a_batch_is_counted_once_in_every_counter() -> None:
    pipeline = await opened_pipeline(MemoryStore(), small_settings())
    await pipeline.assign([0], TOPIC_ID)
    outcome = await pipeline.process({0: records_of([play("u0", "i1", 1), None, play("u0", "i1", 1), play("u2", "i2", 2)])})
    metrics = StreamMetrics(AlarmSettings())
    metrics.add(outcome)
    assert value(metrics, "recsys_records_total") == 4
    assert value(metrics, "recsys_interactions_total") == 2
    assert value(metrics, "recsys_duplicates_total") == 1
    assert value(metrics, "recsys_lists_total") == 2
    (letter,) = outcome.dead_letters
    assert value(metrics, "recsys_dead_letters_total", kind=letter.kind) == 1
    assert b"u0" not in generate_latest(metrics.registry) and b"u0" not in encode(letter)


async def test_trimmed_fields_of_events_are_counted_and_said_once_in_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """C05. The event counts; no record of it is a dead letter."""
    pipeline = await opened_pipeline(MemoryStore(), small_settings())
    await pipeline.assign([0], TOPIC_ID)
    metrics = StreamMetrics(AlarmSettings())
    now_s = [100.0]
    metrics.trimmed = TrimmedFields(clock=lambda: now_s[0])
    odd = [
        record._replace(value=orjson.dumps({**orjson.loads(record.value or b""), "position": 0, "context": {"a": {}}}))
        for record in records_of([play("u0", f"i{n}", n) for n in range(4)])
    ]
    with caplog.at_level(logging.WARNING):
        for at in range(4):
            outcome = await pipeline.process({0: odd[at : at + 1]})
            assert (outcome.n_new, outcome.dead_letters, outcome.trimmed) == (1, [], {"position": 1, "context": 1})
            metrics.add(outcome)
            now_s[0] += 4
        metrics.look({}, catching_up=False, n_deferring=0)
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(": ")[1] for line in said] == [f"context of {n}, position of {n} (limits" for n in ("1 event", "3 events")]
    assert "u0" not in "".join(said)


def test_the_lag_alarm_rings_above_its_level_and_speaks_twice(caplog: pytest.LogCaptureFixture) -> None:
    metrics = StreamMetrics(AlarmSettings(lag_records=100))
    with caplog.at_level(logging.WARNING):
        for lag in ({0: 60, 1: 40}, {0: 60, 1: 41}, {0: 900, 1: 0}, {0: 3}):
            metrics.look(lag, catching_up=False, n_deferring=0)
    assert value(metrics, "recsys_alarm", name="lag") == 0
    assert [record.message.split(":")[0] for record in caplog.records] == ["alarm lag starts", "alarm lag ends"]
    assert value(metrics, "recsys_lag_records", partition="0") == 3 and value(metrics, "recsys_lag_records", partition="1") is None


async def test_the_dead_letter_alarm_follows_the_share_of_refused_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARE_OVER_S", 0.0)
    pipeline = await opened_pipeline(MemoryStore(), small_settings())
    await pipeline.assign([0], TOPIC_ID)
    metrics = StreamMetrics(AlarmSettings(dead_letter_share=0.1))
    good = [play("u0", f"i{n}", n) for n in range(36)]
    for facts, rings in (([*good[:18], None, None, None], 1), (good[18:], 0), ([None] * 5, 0)):
        first = 100 * len(facts) if rings else 10_000 * len(facts)
        metrics.add(await pipeline.process({0: records_of(facts, first)}))
        metrics.look({0: 0}, catching_up=True, n_deferring=2)
        assert value(metrics, "recsys_alarm", name="dead_letters") == rings
    assert value(metrics, "recsys_catching_up") == 1 and value(metrics, "recsys_owing_partitions") == 2


def test_what_lists_wait_for_is_shown_until_it_is_there() -> None:
    metrics = StreamMetrics(AlarmSettings())
    metrics.look({0: 0}, catching_up=False, n_deferring=1, waiting_for=["items", "profiles"])
    assert metrics.registry.get_sample_value("recsys_lists_waiting", {"dependency": "items"}) == 1
    metrics.look({0: 0}, catching_up=False, n_deferring=0)
    assert metrics.registry.get_sample_value("recsys_lists_waiting", {"dependency": "items"}) is None


def test_beyond_the_bound_of_the_lag_a_worker_is_not_ready() -> None:
    for metrics in (StreamMetrics(AlarmSettings(), max_lag_records=10), TrainerMetrics()):
        status = metrics._status
        status.round_ended()
        for lag, is_ready in ((10, True), (11, False), (3, True)):
            if isinstance(metrics, StreamMetrics):
                metrics.look({0: lag}, catching_up=False, n_deferring=0)
            else:
                metrics.note_lag(lag, 10)
            assert (status.reasons() == []) == is_ready and metrics.registry.get_sample_value("recsys_ready") == is_ready
    metrics.note_lag(10_000, 0)
    assert not status.reasons(), "0: no bound"


def test_rounds_of_training_show_outcome_duration_and_the_gates_figures() -> None:
    metrics = TrainerMetrics()
    metrics.note_round(42.0)
    metrics.note_result("ials", "refused", {"challenger": 0.21, "lead_over_champion": -0.01}, 30.0)
    metrics.note_result("sasrec", "skipped", {}, 0.0)
    value = metrics.registry.get_sample_value
    assert value("recsys_training_round_seconds_sum") == 42 and value("recsys_trainer_rounds_total") == 1
    assert value("recsys_trainer_results_total", {"kind": "sasrec", "action": "skipped"}) == 1
    assert value("recsys_gate_figure", {"kind": "ials", "figure": "lead_over_champion"}) == -0.01
    assert value("recsys_training_seconds", {"kind": "ials"}) == 30 and value("recsys_training_seconds", {"kind": "sasrec"}) is None
