"""Every log, however odd, gives a model or one line that says why not, and what is announced obeys its schema (C25)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recsys.evaluation.protocol import newest_events
from recsys.models.ials.model import IALSModel
from recsys.models.registry import MODELS
from schemas import EventType, ModelAction, limits
from tests.unit.workers.trainer.test_training_round import append, job, stream
from workers.models.store import ModelStore
from workers.trainer.event_columns import events_table
from workers.trainer.event_log import EventLog
from workers.trainer.settling import KindResult
from workers.trainer.training_job import TrainingJob
from workers.trainer.training_round import run_job

T = 1_763_200_000_000
FUTURE = limits.TIMESTAMP_MAX_MS - 1
N = 150
LEAST = {
    "ials": {"factors": 4, "epochs": 1},
    "sasrec": {"factors": 4, "window": 4, "max_epochs": 1},
    "lightgcn": {"factors": 4, "max_epochs": 1},
    "two_tower": {"factors": 4, "max_epochs": 1},
    "comirec": {"factors": 4, "max_epochs": 1},
    "neumf": {"factors": 4, "hidden": 4, "max_epochs": 1},
}
Row = tuple[str, str, EventType, float, int]
"""User, item, type, value, time."""
NAN = float("nan")


def rows(n: int = N, *, type: EventType = EventType.LIKE, ts_ms: Any = None, users: int = 40, items: int = 30) -> list[Row]:
    """Users who like runs of neighbouring items, at times that grow unless `ts_ms` says otherwise."""
    chosen = [(f"u{i % users}", f"i{(7 * (i % users) + i // users) % items}") for i in range(n)]
    return [(user, item, type, NAN, T + 60_000 * i if ts_ms is None else ts_ms(i)) for i, (user, item) in enumerate(chosen)]


LOGS: dict[str, list[Row]] = {
    "nothing at all": [],
    "one event": rows(1),
    "two events": rows(2),
    "one time": rows(ts_ms=lambda i: T),
    "one time, and one event before": rows(ts_ms=lambda i: T if i else T - 1),
    "nearly all at the newest time": rows(ts_ms=lambda i: T + (i > 20)),
    "two days": rows(ts_ms=lambda i: T + 86_400_000 * (i > N // 2)),
    "times run backwards": rows(ts_ms=lambda i: T - 1_000 * i),
    "one in the far future": rows(ts_ms=lambda i: FUTURE if i == 9 else T + i),
    "all in the far future": rows(ts_ms=lambda i: FUTURE),
    "the oldest time there is": rows(ts_ms=lambda i: limits.TIMESTAMP_MIN_MS),
    "one user": rows(users=1, items=N),
    "one user and one item": rows(users=1, items=1),
    "one item": rows(items=1),
    "every user once": rows(users=N),
    "every item once": rows(users=7, items=N),
    "only dislikes": rows(type=EventType.DISLIKE),
    "only impressions": rows(type=EventType.IMPRESSION),
    "dislikes, then likes": rows(N // 2, type=EventType.DISLIKE) + [(u, i, t, v, at + 10**9) for u, i, t, v, at in rows(N // 2)],
    "likes, then dislikes": rows(N // 2) + [(u, i, t, v, at + 10**9) for u, i, t, v, at in rows(N // 2, type=EventType.DISLIKE)],
    "ratings of the neutral value": [(u, i, EventType.RATING, 2.5, at) for u, i, _, _, at in rows()],
    "ratings without a value": [(u, i, EventType.RATING, NAN, at) for u, i, _, _, at in rows()],
    "the same event again and again": [("u", "i", EventType.LIKE, NAN, T)] * N,
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Many small rounds: threads of torch would only wait for each other."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def written(folder: Path, events: list[Row], *, partitions: int = 2, first: int = 0, one_id: bool = False) -> None:
    """Put events into the log, each user in one partition."""
    log = EventLog(str(folder / "log"), "a" * 32)
    for partition in range(partitions):
        mine = [row for row in events if hash_of(row[0]) % partitions == partition]
        if mine:
            offsets = list(range(first, first + len(mine)))
            hashes = [1] * len(mine) if one_id else [offset + 1_000_000 * partition for offset in offsets]
            users, items, types, values, ts_ms = (list(column) for column in zip(*mine, strict=True))
            table = events_table(offsets, users, items, [t.code for t in types], values, ts_ms, hashes)  # type: ignore[attr-defined, arg-type]
            log.append(partition, first, offsets[-1], table)


def hash_of(user: str) -> int:
    return sum(user.encode())


def check(folder: Path, results: list[KindResult]) -> None:
    """One result a kind: a model that loads and can be announced, or one printable line."""
    store = ModelStore(str(folder / "models"))
    for result in results:
        assert result.reason.isprintable() and result.action in ("promoted", "refused", "skipped"), result
        if result.version is None:
            assert result.reason.startswith("no model because "), result
            continue
        manifest = store.load_stored(result.kind, result.version).manifest
        assert manifest.trained_on.n_events > 0
        announcement = store.announcement(result.kind, result.version, ModelAction.REFUSED, champion=None, reason=result.reason)
        assert announcement.trained_on.first_event_ts_ms <= announcement.trained_on.last_event_ts_ms <= limits.TIMESTAMP_MAX_MS


def everything(folder: Path) -> TrainingJob:
    return job(folder, kinds=tuple(MODELS), min_events=1, min_targets=1, options=LEAST)


@pytest.mark.parametrize("name", LOGS)
def test_every_log_gives_a_model_or_one_line_why_not(tmp_path: Path, name: str) -> None:
    written(tmp_path, LOGS[name], one_id=name == "the same event again and again")
    check(tmp_path, run_job(everything(tmp_path)))
    check(
        tmp_path, run_job(job(tmp_path, kinds=("ials", "popular"), min_events=1, min_targets=1, options=LEAST))
    )  # again, with what is there by now


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("only dislikes", "none of 150 events is a preference"),
        ("only impressions", "only 0 events count"),
        ("dislikes, then likes", "before the newest slice is a preference"),
    ],
)
def test_a_log_without_anything_to_learn_from_says_what_is_missing(tmp_path: Path, name: str, why: str) -> None:
    written(tmp_path, LOGS[name] if name != "dislikes, then likes" else rows(135, type=EventType.DISLIKE) + rows(15, ts_ms=lambda i: T * 2))
    for result in run_job(everything(tmp_path)):
        assert result.action == "skipped" and why in result.reason


def test_events_of_one_time_are_divided_by_arrival_and_give_a_model(tmp_path: Path) -> None:
    """C25: 3,000 events with one and the same time."""
    same = [(user, item, EventType.LIKE, NAN, T) for user, item, _ in stream()]
    written(tmp_path, same)
    (result,) = run_job(job(tmp_path))
    assert result.version == "ials-000001" and result.figures["n_targets"] > 20
    manifest, _ = ModelStore(str(tmp_path / "models")).manifest("ials", "ials-000001")
    assert (manifest.trained_on.first_event_ts_ms, manifest.trained_on.last_event_ts_ms) == (T, T)
    assert manifest.trained_on.n_events >= 0.9 * len(same) - 1
    assert manifest.metrics["challenger"]["ndcg@10"] > manifest.metrics["popularity"]["ndcg@10"], "people with one taste each"
    assert result.action == "promoted"


@pytest.mark.parametrize("ts_ms", [T, FUTURE])
def test_a_champion_that_has_seen_the_newest_time_is_judged_on_what_arrived_since(tmp_path: Path, ts_ms: int) -> None:
    """One event of 2099 must not end training for good."""
    first = [(user, item, EventType.LIKE, NAN, ts_ms) for user, item, _ in stream()[:1_600]]
    written(tmp_path, first, partitions=1)
    assert run_job(job(tmp_path))[0].action == "promoted"
    again = run_job(job(tmp_path))[0]
    assert again.action == "skipped" and "no event is newer" in again.reason
    more = [(user, item, EventType.LIKE, NAN, ts_ms) for user, item, _ in stream()[1_600:]]
    written(tmp_path, more, partitions=1, first=1_600)
    result = run_job(job(tmp_path, tolerance=0.9))[0]
    assert result.version == "ials-000002" and result.figures["n_targets"] > 20


def test_events_of_one_time_stay_together_where_enough_is_left_to_train_on() -> None:
    ts_ms, arrivals = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9]), np.arange(11.0)
    assert newest_events(ts_ms, arrivals, 0.1).tolist() == [False] * 8 + [True] * 3
    assert newest_events(np.full(10, 7), np.arange(10.0)[::-1].copy(), 0.2).tolist() == [True] * 2 + [False] * 8
    unseen = np.array([False] * 6 + [True] * 4)
    chosen = newest_events(np.full(10, 7), np.arange(10.0), 0.4, unseen=unseen)
    assert chosen.tolist() == [False] * 8 + [True] * 2, "at most half of what the champion has not seen"


def fitting(monkeypatch: pytest.MonkeyPatch, fit: Any) -> None:
    kind = MODELS["ials"]
    monkeypatch.setitem(MODELS, "ials", type(kind)(kind.model, kind.config, fit, kind.refit))


@pytest.mark.parametrize(
    "error", [RuntimeError("a defect"), MemoryError(), ZeroDivisionError(), np.linalg.LinAlgError("singular"), KeyError("x")]
)
def test_an_error_of_one_kind_is_one_line_and_the_others_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    append(tmp_path, 0, 800)

    def fails(*_: Any) -> Any:
        raise error

    fitting(monkeypatch, fails)
    broken, popular = run_job(job(tmp_path, kinds=("ials", "popular")))
    assert broken.action == "failed" and broken.reason.startswith(f"no model because unexpected {type(error).__name__}")
    assert popular.action == "promoted"
    traced = [line for line in capfd.readouterr().err.splitlines() if "Traceback" in line]
    assert traced and all(line.startswith("DEBUG ") for line in traced)


def test_a_training_that_diverged_stores_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(tmp_path, 0, 800)
    fit = MODELS["ials"].fit

    def diverges(*arguments: Any) -> Any:
        model = fit(*arguments)
        assert isinstance(model, IALSModel)
        model.item_vectors[0, 0] = np.nan
        return model

    fitting(monkeypatch, diverges)
    (result,) = run_job(job(tmp_path))
    assert result.action == "failed" and "not finite" in result.reason
    assert ModelStore(str(tmp_path / "models")).versions("ials") == []


def test_a_pass_over_the_newest_slice_that_fails_leaves_the_judged_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(tmp_path, 0, 1_600)
    fit, rounds = MODELS["ials"].fit, list[int]()

    def fails_later(*arguments: Any) -> Any:
        rounds.append(1)
        if len(rounds) > 1:
            raise RuntimeError("a defect")
        return fit(*arguments)

    fitting(monkeypatch, fails_later)
    (result,) = run_job(job(tmp_path))
    assert result.action == "promoted"
    assert ModelStore(str(tmp_path / "models")).manifest("ials", "ials-000001")[0].refit is None


def test_old_versions_that_cannot_be_removed_do_not_undo_a_promotion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(tmp_path, 0, 1_600)

    def fails(*_: Any) -> Any:
        raise PermissionError("read-only")

    monkeypatch.setattr(ModelStore, "prune", fails)
    assert run_job(job(tmp_path))[0].action == "promoted"


@pytest.mark.parametrize(
    "options", [{"factors": 0}, {"factors": 10**9}, {"epochs": -1}, {"epochs": 1.5}, {"history_length": -3}, {"regularisation": -1.0}]
)
def test_an_option_out_of_its_bounds_is_named(tmp_path: Path, options: dict[str, Any]) -> None:
    append(tmp_path, 0, 800)
    (result,) = run_job(job(tmp_path, options={"ials": options}))
    assert result.action == "failed" and f"ials option {next(iter(options))}" in result.reason


def test_a_retired_kind_is_not_trained_until_it_is_brought_back(tmp_path: Path) -> None:
    append(tmp_path, 0, 1_600)
    run_job(job(tmp_path))
    store = ModelStore(str(tmp_path / "models"))
    assert store.retire("ials") == "ials-000001"
    append(tmp_path, 1_600, 2_400)
    result = run_job(job(tmp_path))[0]
    assert result.action == "skipped" and "retired" in result.reason and store.champion("ials") is None
    store.rollback("ials")
    assert run_job(job(tmp_path, tolerance=0.9))[0].version == "ials-000002"
