"""No outcome of a training ends the trainer (C25), and what the models topic says against the model store is set right (S6)."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from schemas import ModelAction, ModelAnnouncement
from schemas.examples import ANNOUNCEMENT
from tests.fault.trainer_entry import leading
from tests.unit.workers.models.test_model_store import save
from workers.errors import Fatal, Transient
from workers.models.announcements import Correction, _corrections, _take
from workers.models.store import ModelStore
from workers.settings import Settings, load_settings
from workers.storage import NotOurFile
from workers.trainer import app as module
from workers.trainer import job as training_process
from workers.trainer.app import Schedule, TrainerService
from workers.trainer.job import TrainingFailed, TrainingProcess
from workers.trainer.settling import KindResult

# -- the service ---------------------------------------------------------------------------------------------------------------------------


def service(monkeypatch: pytest.MonkeyPatch, n_rounds: int = 5) -> TrainerService:
    """A trainer that believes it leads, never sleeps, and stops after so many waits."""
    made = leading(load_settings())
    waits: list[float] = []

    async def no_sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == n_rounds:
            made._stopped.set()
        await asyncio.sleep(0)

    monkeypatch.setattr(made, "sleep", no_sleep)
    return made


def failures(made: TrainerService, name: str, cause: str) -> float:
    return made.metrics.registry.get_sample_value("recsys_failed_rounds_total", {"service": name, "cause": cause}) or 0.0


async def test_something_else_in_the_place_of_a_segment_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made = service(monkeypatch)

    async def fails() -> None:
        raise NotOurFile("cannot write partition=0/…: Not a directory; remove what lies there")

    monkeypatch.setattr(made, "_lead", fails)
    await asyncio.wait_for(made._run.fun(made), 10)  # type: ignore[attr-defined]
    assert failures(made, "trainer", "passing") == 5


async def test_an_unexpected_error_of_a_term_is_tried_again_and_only_fatal_ends_the_trainer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made, crashed = service(monkeypatch), list[BaseException]()

    async def fails(error: Exception) -> None:
        raise error

    async def crash(reason: BaseException) -> None:
        crashed.append(reason)

    monkeypatch.setattr(made, "crash", crash)
    monkeypatch.setattr(made, "_lead", partial(fails, RuntimeError("for ever")))
    await asyncio.wait_for(made._run.fun(made), 10)  # type: ignore[attr-defined]
    assert failures(made, "trainer", "unexpected") == 5 and not crashed
    assert "for ever" in made.metrics.failing["trainer"] and made.status.reasons()
    assert "Traceback" not in caplog.text
    made = service(monkeypatch)
    monkeypatch.setattr(made, "crash", crash)
    monkeypatch.setattr(made, "_lead", partial(fails, Fatal("event log: it belongs to another topic")))
    await asyncio.wait_for(made._run.fun(made), 10)  # type: ignore[attr-defined]
    assert [str(error) for error in crashed] == ["event log: it belongs to another topic"]


class Process:
    """A round that has ended, and what it gives."""

    def __init__(self, outcome: list[KindResult] | Exception, starts: Exception | None = None) -> None:
        self.outcome, self.starts, self.running, self.n_started = outcome, starts, True, 0

    @property
    def done(self) -> bool:
        return self.running

    async def results(self) -> list[KindResult]:
        self.running = False
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def start(self, next_offsets: Any) -> None:
        self.n_started += 1
        if self.starts is not None:
            raise self.starts
        self.running = True


class Tail:
    n_events, next_offsets = 2_000, {0: 2_000}

    async def flush(self) -> None: ...


def result(action: Any, version: str | None = None) -> KindResult:
    return KindResult("ials", action, version, None, "no model because …", {}, 0.0)


@pytest.mark.parametrize(
    ("outcome", "cause"),
    [
        (TrainingFailed("training ended without a result: exit code 1"), "passing"),
        (RuntimeError("a defect"), "unexpected"),
        ([result("failed")], "passing"),
    ],
)
async def test_a_round_that_failed_is_counted_and_tried_again_after_a_wait(
    monkeypatch: pytest.MonkeyPatch, outcome: Any, cause: str
) -> None:
    made, tail, schedule = service(monkeypatch), Tail(), Schedule(load_settings(), 2_000, 0.0)
    process: Any = Process(outcome)
    await made._train(process, tail, schedule)  # type: ignore[arg-type]
    assert failures(made, "training", cause) == 1 and made.rounds == 1
    await made._train(process, tail, schedule)  # type: ignore[arg-type]
    assert process.n_started == 0, "not at once"
    made._training._next_s = 0.0
    await made._train(process, tail, schedule)  # type: ignore[arg-type]
    assert process.n_started == 1, "without new events"
    process.outcome = [result("skipped")]
    await made._train(process, tail, schedule)  # type: ignore[arg-type]
    await made._train(process, tail, schedule)  # type: ignore[arg-type]
    assert process.n_started == 1 and made._training.due


async def test_a_child_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made, schedule = service(monkeypatch), Schedule(load_settings(), 0, 0.0)
    process: Any = Process([], BlockingIOError("no more processes"))
    process.running = False
    await made._train(process, Tail(), schedule)  # type: ignore[arg-type]
    assert failures(made, "training", "passing") == 1 and schedule.due(2_000, 1.0)


@pytest.mark.parametrize("error", [RuntimeError("a defect"), Transient("the broker is away"), Fatal("the store's folder is a pipe")])
async def test_announcing_that_fails_ends_nothing_and_forgets_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    made, store = service(monkeypatch), ModelStore(str(tmp_path))
    made._unannounced = [result("refused", save(store).version)]
    sent: list[str] = []

    async def announce(settings: Settings, announcements: Any, **_: Any) -> None:
        if not sent:
            sent.append("failed")
            raise error
        sent.extend(announcement.version for announcement in announcements)

    async def reconcile(*_: Any, **__: Any) -> list[Correction]:
        return [Correction("ials", ANNOUNCEMENT), Correction("sasrec", None, "x-000009 was announced, and the store lets nothing serve")]

    monkeypatch.setattr(module, "announce", announce)
    monkeypatch.setattr(module, "reconcile", reconcile)
    assert not await made._announcing.attempt(partial(made._announce, store))
    assert len(made._unannounced) == 1
    assert await made._announcing.attempt(partial(made._announce, store))
    assert sent == ["failed", "ials-000001"] and not made._unannounced
    assert made.metrics.registry.get_sample_value("recsys_trainer_restored_total") == 1


# -- the child -----------------------------------------------------------------------------------------------------------------------------


async def ended(monkeypatch: pytest.MonkeyPatch, code: str) -> list[KindResult]:
    """What a child with this code decided."""
    execute = asyncio.create_subprocess_exec

    async def other(*_: Any, **arguments: Any) -> Any:
        return await execute(sys.executable, "-S", "-c", code, **arguments)

    monkeypatch.setattr(training_process.asyncio, "create_subprocess_exec", other)
    process = TrainingProcess(load_settings())
    await process.start({})
    await asyncio.wait(process._tasks)
    try:
        return await process.results()
    finally:
        assert not process.running, "the next round can start"


GOOD = json.dumps(
    {
        "error": None,
        "results": [{"kind": "ials", "action": "skipped", "version": None, "champion": None, "reason": "r", "figures": {}, "train_s": 0}],
    }
)


async def test_a_child_may_print_what_it_likes_before_its_result(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    code = f"""
import sys
sys.stderr.write("x" * 9_000_000 + "\\nERROR odd\\nDEBUG Traceback\\n\\x1b[31mred\\n")
sys.stdout.write("y" * 9_000_000 + "\\n{{junk\\n\\xff\\n" + {GOOD!r} + "\\n\\n")
"""
    with caplog.at_level(logging.DEBUG):
        (found,) = await ended(monkeypatch, code)
    assert found.reason == "r"
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert ("ERROR", "training: odd") in said and ("DEBUG", "training: Traceback") in said
    assert all(text.isprintable() and len(text) < 600 for _, text in said)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("", "exit code 0"),
        ("print('junk')", "exit code 0"),
        ("raise SystemExit(7)", "exit code 7"),
        ("import os; os.kill(os.getpid(), 9)", "more memory"),
        ("import os; os.kill(os.getpid(), 15)", "signal 15"),
        ("print('[]')", "without a result"),
        ('print(\'{"error": null, "results": 7}\')', "without a result"),
        ('print(\'{"error": null, "results": [{"kind": 7}]}\')', "without a result"),
        ("print('[' * 100_000)", "without a result"),
        ('print(\'{"error": "RuntimeError: odd", "results": []}\')', "training failed: RuntimeError: odd"),
    ],
)
async def test_a_child_that_gives_no_decision_is_one_line(monkeypatch: pytest.MonkeyPatch, code: str, why: str) -> None:
    with pytest.raises(TrainingFailed) as failed:
        await ended(monkeypatch, code)
    assert why in str(failed.value) and str(failed.value).isprintable()


# -- the topic and the store ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Three versions: two were promoted, of which the second serves; the third was refused."""
    made = ModelStore(str(tmp_path))
    for _ in range(3):
        save(made)
    made.promote("ials", "ials-000001")
    made.promote("ials", "ials-000002", reason="better")
    return made


def said(store: ModelStore, version: str, /, **changes: Any) -> dict[str, ModelAnnouncement | None]:
    announcement = store.announcement("ials", version, ModelAction.PROMOTED, champion=None, reason="")
    return {"ials": announcement.model_copy(update=changes)}


def corrected(store: ModelStore, topic: dict[str, ModelAnnouncement | None]) -> Correction | None:
    found = _corrections(store, topic, ("ials",))
    return found[0] if found else None


def test_the_topic_that_says_what_the_store_says_is_left_alone(store: ModelStore) -> None:
    assert corrected(store, said(store, "ials-000002")) is None


def test_a_topic_that_only_lags_behind_is_no_contradiction(store: ModelStore) -> None:
    for topic in ({}, said(store, "ials-000001")):
        correction = corrected(store, topic)
        assert correction is not None and str(correction) == "ials-000002" and correction.contradicted is None


def test_a_tombstone_that_nobody_ordered_is_undone(store: ModelStore) -> None:
    correction = corrected(store, {"ials": None})
    assert correction is not None and str(correction) == "ials-000002"
    assert "recsys models retire" in str(correction.contradicted)


@pytest.mark.parametrize(
    ("version", "changes", "what"),
    [
        ("ials-000003", {}, "never promoted"),
        ("ials-000001", {"version": "ials-000099"}, "never promoted"),
        ("ials-000002", {"manifest_sha256": "0" * 64}, "another manifest"),
        ("ials-000001", {"version": "evil"}, "never promoted"),
    ],
)
def test_an_announcement_that_the_store_contradicts_is_undone(store: ModelStore, version: str, changes: dict[str, Any], what: str) -> None:
    correction = corrected(store, said(store, version, **changes))
    assert correction is not None and str(correction) == "ials-000002" and what in str(correction.contradicted)


def test_a_retired_kind_stays_retired_and_an_announcement_of_it_is_undone(store: ModelStore) -> None:
    before = said(store, "ials-000002", announced_ts_ms=1_700_000_000_000)
    store.retire("ials")
    assert corrected(store, {"ials": None}) is None and corrected(store, {}) is None
    lagging = corrected(store, before)
    assert lagging is not None and lagging.announcement is None and lagging.contradicted is None, "it died before its tombstone"
    forged = corrected(store, said(store, "ials-000002", announced_ts_ms=4_000_000_000_000))
    assert forged is not None and forged.announcement is None and "lets nothing serve" in str(forged.contradicted)
    store.promote("ials", "ials-000003")
    again = corrected(store, {"ials": None})
    assert again is not None and str(again) == "ials-000003" and again.contradicted is None


def test_a_version_that_was_never_promoted_is_retired_and_one_of_another_store_is_left_alone(tmp_path: Path) -> None:
    fresh = ModelStore(str(tmp_path / "fresh"))
    save(fresh)
    correction = corrected(fresh, said(fresh, "ials-000001"))
    assert correction is not None and correction.announcement is None
    assert corrected(fresh, said(fresh, "ials-000001", version="ials-000042")) is None
    assert _corrections(fresh, {"other": ANNOUNCEMENT, "sasrec": None}, ("ials",)) == []


def test_keys_that_are_no_kinds_are_passed_over() -> None:
    found: dict[str, ModelAnnouncement | None] = {}
    for key, value in ((None, None), (b"\xff", None), (b"", None), (b"ials", b"{"), (b"ials", None)):
        _take(found, type("Record", (), {"key": key, "value": value})())
    assert found == {"ials": None}


def test_a_damaged_champion_file_neither_ends_a_term_nor_keeps_other_kinds_from_being_announced(store: ModelStore, tmp_path: Path) -> None:
    (tmp_path / "sasrec").mkdir()
    (tmp_path / "sasrec/champion.json").write_text("{")
    assert [str(c) for c in _corrections(store, {"ials": None}, ("ials", "sasrec"))] == ["ials-000002"]
    assert module._n_trained(store, ("ials", "sasrec"), {}) == 0
