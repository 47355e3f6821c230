"""The trainer computes the vectors of texts that are new, keeps the others, and stores a version only where something has changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.catalogue.item_vectors import ItemVectors
from schemas import EventType, Item, encode
from workers.content_settings import ContentSettings
from workers.models.store import ModelStore
from workers.settings import TrainerSettings, WeightSettings
from workers.trainer import text_round
from workers.trainer.catalogue_file import _write
from workers.trainer.event_columns import events_table
from workers.trainer.event_log import EventLog
from workers.trainer.settling import KindResult
from workers.trainer.training_job import TrainingJob
from workers.trainer.training_round import run_job

SETTINGS = ContentSettings(text_batch=2)


class CountingEncoder:
    """An encoder whose vector of a text is its first two letters."""

    width = 2

    def __init__(self, digest: str = "one") -> None:
        self.digest = digest
        self.read: list[str] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.read += texts
        return np.array([[ord(text[0]), ord(text[1])] for text in texts], np.float32)


def made(texts: dict[str, str], encoder: CountingEncoder, before: ItemVectors | None = None, **settings: float) -> ItemVectors:
    found, n_computed = text_round.text_vectors(texts, {}, encoder, SETTINGS.model_copy(update=settings), before)
    assert n_computed == len(encoder.read)
    return found


def test_each_text_has_its_own_vector_whatever_its_length() -> None:
    texts = {f"i{n}": f"{chr(97 + n)}{'x' * (n * 7 % 5 + 1)}" for n in range(9)}
    found = made(texts, CountingEncoder())
    assert {i: v[0] for i, v in zip(found.item_ids, found.vectors.tolist(), strict=True)} == {i: ord(t[0]) for i, t in texts.items()}


def test_only_texts_that_changed_are_computed_again() -> None:
    before = made({"a": "ab", "b": "bc", "c": "cd"}, CountingEncoder())
    encoder = CountingEncoder()
    after = made({"a": "ab", "b": "xy", "d": "cd"}, encoder, before)
    assert encoder.read == ["xy"], "the text of c is now that of d, and known"
    assert sorted(after.item_ids) == ["a", "b", "d"]
    assert sorted(after.item_ids[at] for at in after.changed_since(before)) == ["b", "d"]


def test_another_language_model_computes_all_texts_again() -> None:
    before = made({"a": "ab", "b": "bc"}, CountingEncoder())
    encoder = CountingEncoder("two")
    made({"a": "ab", "b": "bc"}, encoder, before)
    assert sorted(encoder.read) == ["ab", "bc"]


def test_the_items_with_the_most_events_have_vectors_where_not_all_may() -> None:
    found, _ = text_round.text_vectors(
        {"a": "ab", "b": "bc", "c": "cd", "d": "  "}, {"c": 5, "b": 1, "d": 9}, CountingEncoder(), ContentSettings(text_items=2), None
    )
    assert sorted(found.item_ids) == ["b", "c"]


def test_a_round_ends_in_time_and_the_next_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1_000))
    monkeypatch.setattr(text_round.time, "monotonic", lambda: float(next(clock)))
    texts = {f"i{n}": f"{chr(97 + n)}x" for n in range(8)}
    first = made(texts, CountingEncoder(), text_seconds=2)
    assert 0 < len(first.item_ids) < 8
    encoder = CountingEncoder()
    second = made(texts, encoder, first, text_seconds=1_000)
    assert sorted(second.item_ids) == sorted(texts) and len(encoder.read) == 8 - len(first.item_ids)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingJob:
    ids = [f"i{n}" for n in range(4)]
    places, ts_ms = list(range(4)), [1_700_000_000_000 + n for n in range(4)]
    table = events_table(places, ["u"] * 4, ids, [EventType.LIKE.code] * 4, [float("nan")] * 4, ts_ms, places)  # type: ignore[arg-type]
    EventLog(str(tmp_path / "log"), "a" * 32).append(0, 0, 3, table)
    monkeypatch.setattr(text_round, "TextEncoder", lambda folder: CountingEncoder())
    publish(tmp_path / "catalogue", dict.fromkeys(ids, "a text"))
    return TrainingJob(
        trainer=TrainerSettings(log_url=str(tmp_path / "log"), model_url=str(tmp_path / "models"), kinds=()),
        weights=WeightSettings(),
        content=ContentSettings(text_model=tmp_path / "language"),
        catalogue=tmp_path / "catalogue",
    )


def publish(path: Path, texts: dict[str, str]) -> None:
    _write(path, [(item_id.encode(), encode(Item(item_id=item_id, text=text))) for item_id, text in texts.items()])


def run(job: TrainingJob) -> KindResult:
    (result,) = run_job(job)
    return result


def test_a_round_stores_and_promotes_vectors_and_the_next_one_only_if_a_text_changed(job: TrainingJob) -> None:
    store = ModelStore(job.trainer.model_url)
    first = run(job)
    assert (first.kind, first.action, first.version) == ("text", "promoted", "text-000001")
    content = store.load_stored("text", "text-000001").content
    assert isinstance(content, ItemVectors) and sorted(content.item_ids) == ["i0", "i1", "i2", "i3"]
    assert (run(job).action, store.champion("text")) == ("skipped", "text-000001")
    assert job.catalogue is not None
    publish(job.catalogue, {"i0": "a text", "i1": "another"})
    assert (run(job).version, store.champion("text")) == ("text-000002", "text-000002")


def test_a_retired_kind_stays_retired(job: TrainingJob) -> None:
    run(job)
    ModelStore(job.trainer.model_url).retire("text")
    assert run(job).action == "skipped" and ModelStore(job.trainer.model_url).champion("text") is None


def test_a_language_model_that_cannot_be_loaded_fails_its_kind_alone(job: TrainingJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    result = run(job)
    assert result.action == "failed" and "content.text_model: there is no such folder" in result.reason
