from __future__ import annotations

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.models.base import Model
from recsys.models.ials import model as ials
from recsys.models.popular import model as popular
from schemas import ModelAction
from tests.unit.recsys.models.model_cases import histories_of
from workers import storage
from workers.errors import Fatal, Transient
from workers.models.manifest import ChampionMoved, Manifest, StoreError, TrainedOn
from workers.models.store import ModelStore


def small_model(seed: int = 0, n_items: int = 12) -> ials.IALSModel:
    vectors = np.random.default_rng(seed).normal(size=(n_items, 4)).astype(np.float32)
    return ials.IALSModel(ials.IALSConfig(factors=4), [f"item-{i} é" for i in range(n_items)], vectors)


def save(store: ModelStore, model: Model | None = None, parent: str | None = None) -> Manifest:
    return store.save(
        small_model() if model is None else model,
        parent=parent,
        metrics={"challenger": {"ndcg@10": 0.2}, "champion": {"ndcg@10": 0.1}, "popularity": {"ndcg@10": 0.05}},
        decision="better",
        trained_on=TrainedOn(
            n_events=9, first_event_ts_ms=1_700_000_000_000, last_event_ts_ms=1_700_000_000_009, next_offsets={0: 4, 3: 7}
        ),
        trained_ts_ms=1_700_000_001_000,
        train_s=0.5,
        refit=None,
        code_version="1",
    )


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(str(tmp_path / "models"))


def test_a_saved_model_loads_identically_with_its_manifest(store: ModelStore) -> None:
    model, manifest = small_model(), save(store)
    loaded = store.load_stored("ials", manifest.version)
    assert loaded.manifest == manifest
    assert loaded.manifest.trained_on.next_offsets == {0: 4, 3: 7}
    assert loaded.model.item_ids == model.item_ids
    histories = histories_of([[1, 2, 3]], 4)
    assert np.array_equal(loaded.model.encode(histories), model.encode(histories))


def test_versions_only_ever_grow(store: ModelStore, tmp_path: Path) -> None:
    assert save(store).version == "ials-000001"
    assert save(store).version == "ials-000002"
    (tmp_path / "models/ials/ials-000007").mkdir()  # never finished
    assert save(store).version == "ials-000008"
    assert store.versions("ials") == ["ials-000001", "ials-000002", "ials-000008"]
    assert store.kinds() == ["ials"]


def test_a_version_without_manifest_does_not_exist(store: ModelStore, tmp_path: Path) -> None:
    version = save(store).version
    (tmp_path / "models/ials" / version / "manifest.json").unlink()
    assert store.versions("ials") == []
    with pytest.raises(StoreError, match="no such version"):
        store.load("ials", version)
    with pytest.raises(StoreError, match="no such version"):
        store.promote("ials", version)


@pytest.mark.parametrize("name", ["model.safetensors", "items.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_a_damaged_file_is_refused_before_it_is_parsed(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: str
) -> None:
    version = save(store).version
    path = tmp_path / "models/ials" / version / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"flip": bytes(content), "cut": path.read_bytes()[:-3], "empty": b""}[damage])

    def parsed(content: bytes) -> Any:
        raise AssertionError("parsed before its hash was right")

    if name == "model.safetensors":
        monkeypatch.setattr("workers.models.model_files.load_tensors", parsed)
    with pytest.raises(StoreError, match=name):
        store.load("ials", version)


def edit_manifest(tmp_path: Path, version: str, /, **changes: Any) -> None:
    path = tmp_path / "models/ials" / version / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_items": 13}, "items.json is not a list of 13"),
        ({"tensors": {"item_vectors": {"shape": [12, 5], "dtype": "float32"}}}, "other tensors"),
        ({"tensors": {"item_vectors": {"shape": [10**9, 10**9], "dtype": "float32"}}}, "more than a model may have"),
        ({"tensors": {"item_vectors": {"shape": [12, 4], "dtype": "object"}}}, "dtype"),
        ({"config": {"factors": 5}}, "item vectors"),
        ({"config": {"factors": "many"}}, "ials-000001"),
        ({"version": "ials-000002"}, "another version"),
        ({"layout": 2}, "layout"),
        ({"surprise": 1}, "surprise"),
        ({"files": {}}, "does not name"),
    ],
)
def test_a_manifest_that_claims_something_else_is_refused(store: ModelStore, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    version = save(store).version
    edit_manifest(tmp_path, version, **changes)
    with pytest.raises(StoreError, match=message):
        store.load("ials", version)


def test_an_unknown_kind_in_a_manifest_is_refused(store: ModelStore, tmp_path: Path) -> None:
    save(store)
    (tmp_path / "models/ials").rename(tmp_path / "models/other")
    (tmp_path / "models/other/ials-000001").rename(tmp_path / "models/other/other-000001")
    path = tmp_path / "models/other/other-000001/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kind": "other", "version": "other-000001"}))
    with pytest.raises(StoreError, match="unknown"):
        store.load("other", "other-000001")


def test_an_announced_hash_must_match(store: ModelStore, tmp_path: Path) -> None:
    version = save(store).version
    announcement = store.announcement("ials", version, ModelAction.PROMOTED, champion=None, reason="first")
    loaded = store.load_announced(announcement)
    assert loaded is not None
    assert loaded.manifest.version == version
    edit_manifest(tmp_path, version, decision="changed")
    with pytest.raises(StoreError, match="announced"):
        store.load_announced(announcement)


def test_a_refusal_announces_that_the_champion_goes_on_serving(store: ModelStore) -> None:
    first, second = save(store).version, save(store).version
    refused = store.announcement("ials", second, ModelAction.REFUSED, champion=first, reason="worse")
    loaded = store.load_announced(refused)
    assert loaded is not None
    assert loaded.manifest.version == first
    assert store.load_announced(store.announcement("ials", first, ModelAction.REFUSED, champion=None, reason="no hits")) is None


@pytest.mark.parametrize(
    ("kind", "version"), [("ials", "../ials-000001"), ("../x", "ials-000001"), ("ials", "ials-1"), ("ials", "sasrec-000001")]
)
def test_names_that_are_no_versions_are_refused(store: ModelStore, kind: str, version: str) -> None:
    save(store)
    with pytest.raises(Fatal):
        store.load(kind, version)


def test_promotion_and_rollback_walk_the_versions_that_served(store: ModelStore) -> None:
    first, second, third = (save(store).version for _ in range(3))
    assert store.champion("ials") is None
    assert store.promote("ials", first)
    assert store.promote("ials", second, metrics={"ndcg@10": 0.2}, reason="better")
    assert not store.promote("ials", second)
    assert store.promote("ials", third)
    assert store.rollback("ials", reason="odd lists") == second
    assert store.rollback("ials") == first
    with pytest.raises(StoreError, match="no version served before"):
        store.rollback("ials")
    assert store.promote("ials", third)
    assert store.champion("ials") == third
    assert store.rollback("ials") == first
    assert [entry.action for entry in store.history("ials")] == ["promoted"] * 3 + ["rolled_back"] * 2 + ["promoted", "rolled_back"]


def test_a_damaged_champion_file_stops_with_the_remedy(store: ModelStore, tmp_path: Path) -> None:
    store.promote("ials", save(store).version)
    (tmp_path / "models/ials/champion.json").write_text("{")
    with pytest.raises(StoreError, match=r"champion\.json"):
        store.champion("ials")


def test_a_model_with_numbers_that_are_not_finite_is_not_stored(store: ModelStore) -> None:
    model = small_model()
    model.item_vectors[3, 1] = np.nan
    with pytest.raises(StoreError, match="finite"):
        save(store, model)
    assert store.versions("ials") == []


def test_pruning_keeps_the_newest_and_those_one_can_roll_back_to(store: ModelStore) -> None:
    versions = [save(store).version for _ in range(6)]
    store.promote("ials", versions[0])
    store.promote("ials", versions[2])
    assert store.prune("ials", keep=2) == [versions[1], versions[3]]
    assert store.rollback("ials") == versions[0]
    assert store.load("ials", versions[0]).kind == "ials"


def test_kinds_have_versions_of_their_own(store: ModelStore) -> None:
    model = popular.PopularModel(popular.PopularConfig(), ["a"], np.ones((1, 1), np.float32))
    assert save(store).version == "ials-000001"
    assert save(store, model).version == "popular-000001"
    assert store.kinds() == ["ials", "popular"]


def test_store_works_on_an_object_store_url() -> None:
    store = ModelStore("memory://models-of-a-test")
    version = save(store).version
    assert store.promote("ials", version)
    assert store.load("ials", version).item_ids[0] == "item-0 é"


def test_a_promotion_judged_against_another_champion_changes_nothing(store: ModelStore) -> None:
    first, second, third = (save(store).version for _ in range(3))
    assert store.promote("ials", first, judged_against=None)
    assert store.promote("ials", second, judged_against=first)
    for judged_against in (None, first):
        with pytest.raises(ChampionMoved, match=f"{second} serves now"):
            store.promote("ials", third, judged_against=judged_against)
    assert store.champion("ials") == second and len(store.history("ials")) == 2


def test_of_two_who_promote_against_the_same_champion_one_wins_and_no_entry_is_lost(store: ModelStore) -> None:
    versions = [save(store).version for _ in range(8)]

    def promote(version: str) -> bool:
        with suppress(ChampionMoved):
            return store.promote("ials", version, judged_against=None)
        return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(promote, versions)) == 1
        list(pool.map(lambda version: store.promote("ials", version), versions))
    promoted = [entry.version for entry in store.history("ials")]
    assert set(promoted) == set(versions) and len(promoted) <= 9


def test_two_who_save_at_once_get_whole_versions_of_their_own(store: ModelStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        manifests = list(pool.map(lambda seed: save(store, small_model(seed)), range(8)))
    assert len({manifest.version for manifest in manifests}) == 8
    for manifest in manifests:
        assert store.load_stored("ials", manifest.version).manifest == manifest


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_full_disk_leaves_no_half_version(store: ModelStore, monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
    version = save(store).version
    fsync, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(Transient, match="disk is full"):
        save(store)
    assert store.storage.names("ials") == [version]


def test_versions_that_were_never_finished_go_with_the_old_ones(store: ModelStore, tmp_path: Path) -> None:
    save(store)
    (tmp_path / "models/ials/ials-000002").mkdir()
    for _ in range(3):
        newest = save(store).version
    (tmp_path / "models/ials/ials-000009").mkdir()  # somebody may be at it
    store.prune("ials", keep=2)
    assert store.storage.names("ials") == ["ials-000004", newest, "ials-000009"]


def test_nothing_rolls_back_to_a_damaged_version(store: ModelStore, tmp_path: Path) -> None:
    first, second = save(store).version, save(store).version
    store.promote("ials", first)
    store.promote("ials", second)
    (tmp_path / "models/ials" / first / "model.safetensors").unlink()
    with pytest.raises(StoreError, match=r"model\.safetensors is missing"):
        store.rollback("ials")
    assert store.champion("ials") == second


def test_a_champion_whose_manifest_is_gone_keeps_no_decision_from_being_announced(store: ModelStore, tmp_path: Path) -> None:
    first, second = save(store).version, save(store).version
    (tmp_path / "models/ials" / first / "manifest.json").unlink()
    assert store.announcement("ials", second, ModelAction.PROMOTED, champion=first, reason="better").champion is None
