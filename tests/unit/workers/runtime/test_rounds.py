"""No failure of one round ends a service (C25's kind): it is logged in one line, counted, and tried again; only Fatal leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import pytest

from tests.unit.workers.stream.test_events_service import own
from tests.unit.workers.stream.test_events_service import service as unconnected_service
from workers.errors import Fatal, Transient, describe
from workers.kafka.records import Record
from workers.operations import rebuild_fold
from workers.runtime.metrics import WorkerMetrics
from workers.runtime.rounds import ALARM_AFTER_S, Rounds, patiently
from workers.stream import app as stream
from workers.stream.service import EventsService


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def failing(*errors: BaseException | None) -> Callable[[], Any]:
    """A step that fails with these errors in turn (None: it goes well), and with the last one from then on."""
    left = list(errors)

    async def step() -> None:
        error = left.pop(0) if len(left) > 1 else left[0]
        if error is not None:
            raise error

    return step


def counted(metrics: WorkerMetrics, service: str, cause: str) -> float:
    return metrics.registry.get_sample_value("recsys_failed_rounds_total", {"service": service, "cause": cause}) or 0.0


def alarm(metrics: WorkerMetrics, service: str) -> float | None:
    return metrics.registry.get_sample_value("recsys_alarm", {"name": f"failing_{service}"})


async def test_an_unexpected_failure_is_one_line_without_traceback_and_the_alarm_ends_with_the_failures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics, clock = WorkerMetrics(), Clock()
    rounds = Rounds("training", metrics, clock=clock, remedy="lower trainer.factors")
    with caplog.at_level(logging.INFO):
        for n in range(3):
            assert not await rounds.attempt(failing(RuntimeError("torn\n\x1b[31m page")), place=lambda: "partition 3 stands still")
            assert (alarm(metrics, "training") == 1) == (n == 2)
            clock.now_s += rounds.wait_s
            assert rounds.due
        assert "partition 3" in metrics.failing["training"]
        assert await rounds.attempt(failing(None))
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert 1 <= len(errors) <= 3 and not any(record.exc_info for record in caplog.records)
    said = errors[0].getMessage()
    assert "training: unexpected RuntimeError: torn" in said and "lower trainer.factors" in said and "\n" not in said and "\x1b" not in said
    assert counted(metrics, "training", "unexpected") == 3
    assert alarm(metrics, "training") == 0 and not metrics.failing


async def test_the_traceback_is_there_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await Rounds("training").attempt(failing(ValueError("x")))
    assert [record.levelname for record in caplog.records if record.exc_info] == ["DEBUG"]


async def test_waits_grow_to_their_bound_and_start_again_after_success() -> None:
    clock = Clock()
    rounds = Rounds("x", first_s=1.0, longest_s=8.0, clock=clock)
    waits = []
    for _ in range(6):
        await rounds.attempt(failing(KeyError("k")))
        waits.append(rounds.wait_s)
    assert all(longest / 2 <= wait <= longest for wait, longest in zip(waits, (1, 2, 4, 8, 8, 8), strict=True))
    await rounds.attempt(failing(None))
    assert rounds.due
    await rounds.attempt(failing(KeyError("k")))
    assert rounds.wait_s <= 1


async def test_a_passing_failure_that_lasts_rings_too_and_a_quiet_service_speaks_up_then(caplog: pytest.LogCaptureFixture) -> None:
    metrics, clock = WorkerMetrics(), Clock()
    rounds = Rounds("sweeping", metrics, clock=clock, quiet=True)
    with caplog.at_level(logging.INFO):
        await rounds.attempt(failing(Transient("Redis is away")))
        assert not caplog.records
        clock.now_s = ALARM_AFTER_S + 1
        await rounds.attempt(failing(Transient("Redis is away")))
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert alarm(metrics, "sweeping") == 1 and counted(metrics, "sweeping", "passing") == 2


async def test_only_fatal_leaves_and_passing_ones_where_somebody_else_handles_them() -> None:
    with pytest.raises(Fatal):
        await Rounds("x").attempt(failing(Fatal("another topic")))
    assert not await Rounds("x", fatal_passes=True).attempt(failing(Fatal("a topic is missing")))
    with pytest.raises(Transient):
        await Rounds("x", handles_passing=False).attempt(failing(Transient("away")))
    assert not await Rounds("x", handles_passing=False).attempt(failing(ZeroDivisionError()))


async def test_a_future_that_a_client_cancelled_is_a_failure_and_a_cancelled_task_ends() -> None:
    assert not await Rounds("x").attempt(failing(asyncio.CancelledError()))
    task = asyncio.create_task(Rounds("x").attempt(lambda: asyncio.sleep(60)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_patiently_goes_on_after_an_unexpected_failure() -> None:
    await patiently(failing(RuntimeError("once"), None), rounds=Rounds("x", first_s=0.0))


def test_an_exception_is_described_in_one_short_line() -> None:
    assert describe(RuntimeError("a\nb" * 1000)).count("\n") == 0 and len(describe(RuntimeError("a" * 9_999))) < 400
    assert describe(KeyError()) == "KeyError"


# Each service of the stream worker, with the step of it that is made to fail.
SERVICES = {
    "events": ("_consume", "_round"),
    "compaction": ("_compact", "pipeline.state.compact_once"),
    "sweeping": ("_expire_rows", "_row_expiry.look"),
    "topic_watch": ("_watch_topic", "topic.check"),
    "rereading": ("_keep_catalogue", "_loader.look"),
}


def prepared(monkeypatch: pytest.MonkeyPatch, step: str, error: Exception, n_failures: int, n_rounds: int) -> EventsService:
    """A service whose step fails so often, never sleeps, and stops after so many rounds."""
    at = unconnected_service()
    at._connected.set()
    own(at, 0)
    consumer: Any = type("NoConsumer", (), {"assignment": lambda self: set()})()
    at._consumer = consumer
    done: list[int] = []

    async def fails(*_: Any) -> None:
        done.append(1)
        own(at, 0)
        if len(done) == n_rounds:
            at._stopped.set()
        if len(done) <= n_failures:
            raise error

    async def no_sleep(*_: Any) -> None:
        await asyncio.sleep(0)
        own(at, 0)

    owner, _, name = step.rpartition(".")
    monkeypatch.setattr(attrgetter(owner)(at) if owner else at, name, fails, raising=False)
    monkeypatch.setattr(at._loader, "wait", no_sleep, raising=False)
    monkeypatch.setattr(at._readiness, "note_failure", lambda why: None, raising=False)
    monkeypatch.setattr(at, "sleep", no_sleep)
    return at


@pytest.mark.parametrize("name", SERVICES)
async def test_a_runtime_error_once_or_for_ever_ends_no_service_of_the_stream_worker(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    task, step = SERVICES[name]
    once = prepared(monkeypatch, step, RuntimeError("once"), 1, 3)
    await asyncio.wait_for(getattr(once, task).fun(once), 10)
    assert counted(once.metrics, name, "unexpected") == 1 and not once.metrics.failing
    for_ever = prepared(monkeypatch, step, RuntimeError("for ever"), 9, 5)
    await asyncio.wait_for(getattr(for_ever, task).fun(for_ever), 10)
    assert counted(for_ever.metrics, name, "unexpected") == 5
    assert "for ever" in for_ever.metrics.failing[name] and alarm(for_ever.metrics, name) == 1


async def test_a_batch_that_cannot_be_applied_names_where_the_events_stand_still(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    at = prepared(monkeypatch, "_round", RuntimeError("a defect"), 9, 3)
    fails = at._round

    async def round_of_a_batch() -> None:
        own(at, 3)
        at.partitions[3].applying = 10, 40
        await fails()

    monkeypatch.setattr(at, "_round", round_of_a_batch)
    await at._consume.fun(at)  # type: ignore[attr-defined]
    assert "partition 3, offsets 10 to 40" in at.metrics.failing["events"]
    assert "partition 3, offsets 10 to 40" in caplog.text and "Traceback" not in caplog.text


async def test_followers_and_deferred_lists_that_fail_do_not_keep_events_from_being_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    at = unconnected_service()

    async def fails() -> None:
        raise RuntimeError("a defect")

    async def current() -> None: ...

    monkeypatch.setattr(at.pipeline.state, "check_current", current)
    monkeypatch.setattr(at, "_follow_all", fails)
    await at._follow()
    assert counted(at.metrics, "catalogue", "unexpected") == 1
    with pytest.raises(RuntimeError):  # before anything is served it is waited for instead
        await at._follow_strictly()
    assert not await at._deferred_rounds.attempt(fails)
    with pytest.raises(Transient):
        await at._deferred_rounds.attempt(failing(Transient("owned again")))


async def test_an_agent_takes_its_records_again_after_an_unexpected_failure_and_ends_the_worker_for_what_is_fatal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = unconnected_service()
    at._connected.set()
    agents: list[Any] = []
    app: Any = type(
        "App", (), {"topic": lambda self, *_, **__: None, "agent": lambda self, *_, **__: lambda function: agents.append(function)}
    )()
    taken: list[int] = []
    errors: list[Exception] = [RuntimeError("once"), RuntimeError("twice")]

    async def take(records: Any) -> None:
        if errors:
            raise errors.pop()
        taken.extend(record.source_offset for record in records)

    class Stream:
        async def take_events(self, *_: Any, **__: Any) -> Any:
            message = type("Message", (), {"topic": "t", "partition": 0, "offset": 7, "key": b"k", "value": b"v", "timestamp": None})()
            yield [type("Event", (), {"message": message})()]

    stream._agent(app, at, "items", "recsys.items", take)
    await agents[0](Stream())
    assert taken == [7] and counted(at.metrics, "items", "unexpected") == 2
    errors.append(Fatal("Redis refuses writes"))
    crashed: list[BaseException] = []

    async def crash(reason: BaseException) -> None:
        crashed.append(reason)

    monkeypatch.setattr(at, "crash", crash)
    with pytest.raises(Fatal):
        await agents[0](Stream())
    assert [str(error) for error in crashed] == ["Redis refuses writes"]
    assert stream._standing_still([Record("t", 1, 5, None, None)]).endswith("t, partition 1, from offset 5 on")


async def test_a_rebuild_repeats_a_step_that_failed_once_and_gives_up_in_one_line_on_one_that_always_does() -> None:
    once = failing(RuntimeError("once"), None)
    assert await rebuild_fold.repeat_until_done(once) is None
    with pytest.raises(Fatal, match="3 times unexpected RuntimeError: for ever; nothing is switched"):
        await rebuild_fold.repeat_until_done(failing(RuntimeError("for ever")))
