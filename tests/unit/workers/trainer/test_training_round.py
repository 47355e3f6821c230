"""One round of training on a real log and a real store, in this process; the child process is the integration tests' part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.evaluation.protocol import Slice
from recsys.evaluation.ranking import Ranked
from recsys.models.registry import MODELS
from recsys.models.training_set import TrainingSet
from schemas import EventType
from tests.unit.recsys.models.model_cases import clustered
from workers.models.store import ModelStore
from workers.settings import TrainerSettings, WeightSettings
from workers.trainer import judgement
from workers.trainer.event_columns import events_table
from workers.trainer.event_log import EventLog
from workers.trainer.training_job import TrainingJob
from workers.trainer.training_round import run_job

QUICK = {"ials": {"factors": 8, "epochs": 4}, "sasrec": {"factors": 8, "window": 8, "max_epochs": 4, "learning_rate": 1e-2}}
FIRST = 1_600


def job(folder: Path, **trainer: Any) -> TrainingJob:
    places = {"log_url": str(folder / "log"), "model_url": str(folder / "models")}
    options = {**places, "kinds": ("ials",), "min_events": 100, "min_targets": 20, "options": QUICK}
    return TrainingJob(trainer=TrainerSettings(**(options | trainer)), weights=WeightSettings())


def stream() -> list[tuple[str, str, int]]:
    """Events of clustered users in the order of their times: user id, item id, time."""
    made = clustered()
    order = np.argsort(made.ts_ms, kind="stable").tolist()
    return [(f"u{made.users[i]}", made.item_ids[made.items[i]], int(made.ts_ms[i])) for i in order]


def append(
    folder: Path, first: int, last: int, events: list[tuple[str, str, int]] | None = None, contexts: list[str | None] | None = None
) -> None:
    """Put events `first` to `last` − 1 of the stream into the log, as partition 0; or other `events` at these offsets."""
    chosen = stream()[first:last] if events is None else events
    n = len(chosen)
    users, items, ts_ms = ([e[k] for e in chosen] for k in range(3))
    offsets = list(range(first, last))
    nan = [float("nan")] * n
    table = events_table(offsets, users, items, [EventType.LIKE.code] * n, nan, ts_ms, offsets, contexts=contexts)  # type: ignore[arg-type]
    EventLog(str(folder / "log"), "a" * 32).append(0, first, last - 1, table)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    append(tmp_path, 0, FIRST)
    return tmp_path


def test_a_first_round_promotes_a_judged_and_refitted_model(folder: Path) -> None:
    result = run_job(job(folder))[0]
    assert (result.action, result.version, result.champion) == ("promoted", "ials-000001", None)
    store = ModelStore(str(folder / "models"))
    assert store.champion("ials") == result.version
    stored = store.load_stored("ials", "ials-000001")
    manifest = stored.manifest
    assert manifest.refit is not None
    assert manifest.refit.judged == manifest.metrics["challenger"]["ndcg@10"] == result.figures["challenger"]
    assert manifest.refit.after >= manifest.refit.judged
    assert set(manifest.metrics) == {"challenger", "popularity", "recent_popularity"}
    for rival in ("popularity", "recent_popularity"):
        assert manifest.metrics["challenger"]["ndcg@10"] > manifest.metrics[rival]["ndcg@10"]
        assert result.figures[f"least_lead_over_{rival}"] > 0
    assert manifest.trained_on.n_events == FIRST
    assert manifest.trained_on.next_offsets == {0: FIRST}
    assert manifest.trained_on.last_event_ts_ms == stream()[FIRST - 1][2]


def test_the_judged_training_sees_nothing_of_the_slice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newest: list[int] = []
    kind = MODELS["ials"]

    def watched(interactions: Any, *rest: Any) -> Any:
        newest.append(int(interactions.ts_ms.max()))
        return kind.fit(interactions, *rest)

    monkeypatch.setitem(MODELS, "ials", type(kind)(kind.model, kind.config, watched, kind.refit))
    run_job(job(folder))
    manifest, _ = ModelStore(str(folder / "models")).manifest("ials", "ials-000001")
    assert manifest.refit is not None
    judged, refitted = newest
    assert judged < manifest.refit.split_ts_ms <= refitted


def test_a_second_round_judges_both_on_events_neither_has_seen(folder: Path) -> None:
    run_job(job(folder))
    append(folder, FIRST, 2_400)
    result = run_job(job(folder, holdout=0.4, tolerance=0.9))[0]
    assert result.action == "promoted"
    manifest, _ = ModelStore(str(folder / "models")).manifest("ials", "ials-000002")
    assert manifest.parent == result.champion == "ials-000001"
    assert manifest.refit is not None
    assert manifest.refit.split_ts_ms > stream()[FIRST - 1][2]
    assert manifest.metrics["champion"]["n_targets"] == manifest.metrics["challenger"]["n_targets"]


def test_a_worse_challenger_is_refused_and_the_champion_stays(folder: Path) -> None:
    run_job(job(folder, options={"ials": {"factors": 8, "epochs": 8}}))
    append(folder, FIRST, 2_400)
    result = run_job(job(folder, options={"ials": {"factors": 8, "epochs": 1, "regularisation": 1e6}}))[0]
    assert result.action == "refused"
    assert result.figures["lead_over_champion"] < 0
    store = ModelStore(str(folder / "models"))
    assert store.champion("ials") == "ials-000001"
    assert store.manifest("ials", "ials-000002")[0].refit is None


def test_a_backfill_is_trained_on_and_judged_although_its_events_are_old(folder: Path) -> None:
    """The champion has seen the present; then a year-old history of other users arrives."""
    run_job(job(folder))
    year_ms = 365 * 86_400_000
    history = [(f"old-{user}", item, ts_ms - year_ms) for user, item, ts_ms in stream()[:1_600]]
    append(folder, FIRST, FIRST + len(history), history)
    result = run_job(job(folder, tolerance=0.9, holdout=0.2))[0]
    manifest, _ = ModelStore(str(folder / "models")).manifest("ials", "ials-000002")
    assert result.action == "promoted" and result.figures["n_targets"] > 400, "a fifth of all events"
    assert manifest.refit is not None and manifest.refit.split_ts_ms < stream()[0][2] - year_ms // 2


def test_a_champion_of_another_log_is_judged_on_what_is_newer_than_all_it_has_seen(folder: Path) -> None:
    """The log was moved away and begun again: offsets say nothing about what the champion has seen, times do."""
    run_job(job(folder))
    (folder / "log").rename(folder / "moved away")
    append(folder, 0, 1_200, stream()[1_200:2_400])
    result = run_job(job(folder, tolerance=0.9, holdout=0.4))[0]
    manifest, _ = ModelStore(str(folder / "models")).manifest("ials", "ials-000002")
    assert result.action == "promoted" and manifest.refit is not None
    assert manifest.refit.split_ts_ms > stream()[FIRST - 1][2]


def test_a_warm_start_is_told_which_events_its_parent_has_not_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[TrainingSet] = []
    kind = MODELS["ials"]

    def watched(interactions: TrainingSet, *rest: Any) -> Any:
        told.append(interactions)
        return kind.fit(interactions, *rest)

    run_job(job(folder))
    append(folder, FIRST, 2_400)
    monkeypatch.setitem(MODELS, "ials", type(kind)(kind.model, kind.config, watched, kind.refit))
    run_job(job(folder))
    challenger = told[0]
    assert challenger.unseen is not None
    assert challenger.ts_ms[challenger.unseen].min() > challenger.ts_ms[~challenger.unseen].max()
    assert int(challenger.unseen.sum()) == 2_400 - FIRST - 240, "all new ones but the slice"


def test_without_new_events_nothing_is_trained(folder: Path) -> None:
    run_job(job(folder))
    result = run_job(job(folder))[0]
    assert (result.action, result.version) == ("skipped", None)
    assert ModelStore(str(folder / "models")).versions("ials") == ["ials-000001"]


def test_too_few_events_or_targets_decide_nothing(folder: Path) -> None:
    assert run_job(job(folder, min_events=10_000))[0].action == "skipped"
    result = run_job(job(folder, min_targets=10_000))[0]
    assert result.action == "refused"
    assert "min_targets" in result.reason


def test_one_kind_that_fails_keeps_no_other_from_being_trained(folder: Path) -> None:
    results = run_job(job(folder, kinds=("nonsense", "sasrec", "ials"), options=QUICK | {"sasrec": {"factors": 8, "heads": 3}}))
    assert [result.action for result in results] == ["failed", "failed", "promoted"]
    assert "trainer.kinds" in results[0].reason


@pytest.mark.parametrize("name", ["model.safetensors", "items.json", "manifest.json"])
def test_an_unreadable_champion_counts_as_none_and_the_next_model_takes_its_place(
    folder: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    run_job(job(folder))
    append(folder, FIRST, 2_400)
    path = folder / "models/ials/ials-000001" / name
    path.write_bytes(path.read_bytes()[:-1])
    result = run_job(job(folder))[0]
    assert (result.action, result.version, result.champion) == ("promoted", "ials-000002", "ials-000001")
    assert "ials-000001 cannot be read" in result.reason and "better beyond chance than popularity" in result.reason
    assert [line for line in capfd.readouterr().err.splitlines() if line.startswith("WARNING") and "ials-000001" in line]
    manifest, _ = ModelStore(str(folder / "models")).manifest("ials", "ials-000002")
    assert manifest.parent is None and "champion" not in manifest.metrics


def test_an_unreadable_champion_is_not_replaced_by_what_popularity_beats(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_job(job(folder))
    append(folder, FIRST, 2_400)
    (folder / "models/ials/ials-000001/model.safetensors").unlink()

    def always_right(part: Slice) -> Ranked:
        users = part.users[part.cases(5_000)]
        return Ranked(users, np.ones(len(users)), {})

    monkeypatch.setattr(judgement, "rank_by_popularity", always_right)
    result = run_job(job(folder))[0]
    assert result.action == "refused" and "not better beyond chance than popularity" in result.reason
    assert ModelStore(str(folder / "models")).champion("ials") == "ials-000001"


def test_what_a_person_promotes_while_a_challenger_is_judged_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_job(job(folder))
    append(folder, FIRST, 2_400)
    store = ModelStore(str(folder / "models"))
    save = ModelStore.save

    def saved_and_overtaken(self: ModelStore, *args: Any, **kwargs: Any) -> Any:
        mine, by_hand = save(self, *args, **kwargs), save(self, *args, **kwargs)
        store.promote("ials", by_hand.version, reason="by hand")
        return mine

    monkeypatch.setattr(ModelStore, "save", saved_and_overtaken)
    result = run_job(job(folder, tolerance=0.9))[0]
    assert (result.action, result.version) == ("refused", "ials-000002")
    assert "judged against ials-000001, and ials-000003 serves now" in result.reason
    assert [entry.version for entry in store.history("ials")] == ["ials-000001", "ials-000003"]


def test_every_registered_kind_can_be_trained_by_name(folder: Path) -> None:
    actions = {result.kind: result.action for result in run_job(job(folder, kinds=tuple(MODELS)))}
    learn_little = {"isgd", "item2vec"}  # of so few events: they may not be better than popularity beyond chance
    expected: dict[str, set[str]] = {kind: {"promoted"} | ({"refused"} if kind in learn_little else set()) for kind in MODELS}
    assert actions.keys() == expected.keys() and all(actions[kind] in expected[kind] for kind in MODELS), actions


def test_the_job_carries_no_secret_and_no_address(folder: Path) -> None:
    named = {"trainer", "weights", "state", "lists", "content", "next_offsets", "catalogue", "profiles"}
    assert set(job(folder).model_dump()) == named
