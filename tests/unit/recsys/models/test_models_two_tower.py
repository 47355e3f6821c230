"""Two towers: users by history, order, age and profile; items by id and by what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.catalogue.item_content import ItemContent
from recsys.engine import Engine, EngineConfig
from recsys.errors import CoreError, ModelError, TooFewInteractions
from recsys.evaluation.protocol import Slice
from recsys.evaluation.ranking import rank_by_model
from recsys.models.base import Histories
from recsys.models.cuts import cut
from recsys.models.descriptions import ItemDescriptions, UserProfiles
from recsys.models.registry import load_model
from recsys.models.training_set import TrainingSet
from recsys.models.two_tower import reading_kernel
from recsys.models.two_tower.config import TwoTowerConfig
from recsys.models.two_tower.model import TwoTowerModel
from recsys.models.two_tower.towers import Read
from recsys.models.two_tower.training import fit
from recsys.state.profiles import Profile, ProfileColumns
from tests.unit.recsys.models.model_cases import ITEMS_PER_CLUSTER, N_CLUSTERS, N_ITEMS, clustered, histories_of

pytestmark = pytest.mark.xdist_group("models_two_tower")  # a model is trained once, in one process

CONFIG = TwoTowerConfig(factors=16, hidden=8, max_epochs=10, patience=10, learning_rate=0.02, min_users=5)
UNTOUCHED = [cluster * ITEMS_PER_CLUSTER + 4 for cluster in range(N_CLUSTERS)]
IDS = [f"item-{i}" for i in range(N_ITEMS)]
N_USERS = 120


def describing() -> ItemDescriptions:
    """Even clusters say what they are by a category, odd ones by a vector."""
    contents = {}
    for i in range(N_ITEMS):
        cluster = i // ITEMS_PER_CLUSTER
        vector = np.eye(N_CLUSTERS)[cluster].tolist()
        contents[i] = ItemContent([f"c{cluster}"]) if cluster % 2 == 0 else ItemContent((), embeddings={"text": vector})
    return ItemDescriptions.of(contents, IDS)


def profiles(clusters: list[int | None]) -> ProfileColumns:
    return ProfileColumns.of([None if one is None else Profile({"taste": f"t{one}"}, {}, ()) for one in clusters])


def attributes() -> dict[int, object]:
    every = [attribute for one in range(N_CLUSTERS) for attribute, _ in Profile({"taste": f"t{one}"}, {}, ()).attributes()]
    return {attribute.key: attribute for attribute in every}


@pytest.fixture(scope="module")
def interactions() -> TrainingSet:
    whole = clustered(n_users=N_USERS)
    kept = ~np.isin(whole.items, UNTOUCHED)
    columns = whole.users[kept], whole.items[kept], whole.item_ids, whole.weights[kept], whole.ts_ms[kept]
    of_users = UserProfiles(profiles([user % N_CLUSTERS for user in range(N_USERS)]), attributes())  # type: ignore[arg-type]
    return replace(TrainingSet.from_columns(*columns), descriptions=describing(), profiles=of_users)


@pytest.fixture(scope="module")
def model(interactions: TrainingSet) -> TwoTowerModel:
    return fit(interactions, CONFIG)


def cluster_of(item_id: str) -> int:
    return int(item_id.removeprefix("item-")) // ITEMS_PER_CLUSTER


def test_items_that_nobody_touched_are_found_by_category_or_vector(model: TwoTowerModel) -> None:
    assert model.content_map is not None and set(model.item_ids).isdisjoint(f"item-{i}" for i in UNTOUCHED)
    vectors, known = model.content_map.vectors(describing().words([f"item-{i}" for i in UNTOUCHED]))
    assert known.all()
    position = {item_id: at for at, item_id in enumerate(model.item_ids)}
    rows = [[position[f"item-{cluster * ITEMS_PER_CLUSTER + step}"] for step in (1, 2, 8)] for cluster in range(N_CLUSTERS)]
    users = model.encode(histories_of(rows, 6))
    assert ((users @ vectors.T).argmax(axis=1) == np.arange(N_CLUSTERS)).all()
    clusters = np.array([cluster_of(item_id) for item_id in model.item_ids])
    for cluster, user in enumerate(users):
        assert (model.item_vectors[clusters != cluster] @ user < user @ vectors[cluster]).mean() > 0.9


def test_a_profile_alone_names_items_of_its_taste_and_changes_nothing_where_it_says_nothing(model: TwoTowerModel) -> None:
    assert model.reads_attributes and {one.name for one in model.segments} == {"taste"}
    none = model.encode(histories_of([[] for _ in range(N_CLUSTERS)], 4))
    users = model.with_profiles(none, profiles(list(range(N_CLUSTERS))))
    clusters = np.array([cluster_of(item_id) for item_id in model.item_ids])
    best = np.argsort(-(users @ model.item_vectors.T), axis=1)[:, :5]
    assert (clusters[best] == np.arange(N_CLUSTERS)[:, None]).mean() > 0.9
    of_histories = model.encode(histories_of([[1, 2], []], 4))
    np.testing.assert_array_equal(model.with_profiles(of_histories, profiles([None, None])), of_histories)
    assert not of_histories[1].any()


def test_training_reads_a_history_as_serving_does(model: TwoTowerModel) -> None:
    rows = [[1, 2, 3, 40, 41], [7]]
    histories = histories_of(rows, 6)
    ages_s = np.array([0, 4e6, 4e6 + 9e4, 4e6 + 9e4 + 60, 4e6 + 9e4 + 61, 5])
    histories.ages_s[0, 1:] = ages_s[4] - ages_s[:5]
    read = Read.of(np.array([*rows[0], *rows[1]]), (ages_s * 1_000).astype(np.int64), np.array([5, 1]))
    with torch.no_grad():
        found = model.towers.users(read)
    np.testing.assert_allclose(model.encode(histories), found.numpy(), rtol=1e-4, atol=1e-5)
    ranks, ages = np.empty((2, 6), np.int64), np.empty((2, 6), np.int64)
    reading_kernel.classes(histories.items, histories.ages_s, reading_kernel.EDGES_S, ranks, ages)
    assert ranks[0, 1:].tolist() == read.ranks[:5].tolist() and ages[0, 1:].tolist() == read.ages[:5].tolist()
    assert len(set(read.ages.tolist())) > 3


@pytest.mark.parametrize("reads", ["before", "others"])
def test_a_case_predicts_what_it_does_not_read(reads: str) -> None:
    """In every batch a user's history and targets have nothing in common; with `before` all targets are newer."""
    users = np.repeat(np.arange(30), np.arange(30) % 9 + 1)
    items = np.concatenate([np.arange(n) for n in np.bincount(users)])
    data = TrainingSet.from_columns(users, items, IDS, np.ones(len(users), np.float32), np.arange(len(users)) * 1_000)
    batches = list(cut(data, replace(CONFIG, reads=reads, targets=3, history_length=4, batch_users=7), np.random.default_rng(0)))
    seen = np.concatenate([batch.users for batch in batches])
    counts = np.bincount(users)
    assert np.array_equal(np.bincount(seen, minlength=30), np.where(counts >= 2, np.minimum(CONFIG.cuts, counts - 1), 0))
    for batch in batches:
        for row, user in enumerate(batch.users.tolist()):
            end = int(batch.lengths[: row + 1].sum())
            read, wanted = batch.items[end - batch.lengths[row] : end].tolist(), batch.targets[batch.rows == row].tolist()
            assert 1 <= len(read) <= 4 and 1 <= len(wanted) <= 3 and not set(read) & set(wanted)
            assert read == sorted(read) and max(read + wanted) < counts[user]
            assert reads == "others" or wanted == list(range(read[-1] + 1, read[-1] + 1 + len(wanted)))


def test_classes_are_of_the_number_of_newer_items_and_of_age() -> None:
    items = np.array([[3, -1, 2, 9, 8, 1, 0]], np.int32)
    ages_s = np.array([[1e9, 0, 90_000, 3_600, 59, 1, 0]], np.float32)
    ranks, ages = np.empty((1, 7), np.int64), np.empty((1, 7), np.int64)
    reading_kernel.classes(items, ages_s, reading_kernel.EDGES_S, ranks, ages)
    assert ranks.tolist() == [[2, 0, 2, 2, 1, 1, 0]]
    assert ages.tolist() == [[9, 0, 6, 4, 1, 1, 0]]


def test_what_is_newest_counts_most_where_order_matters() -> None:
    """Users change their taste: what comes next is of the last item's kind."""
    chance, rows = np.random.default_rng(2), []
    for user in range(150):
        first, then = chance.choice(N_CLUSTERS, 2, replace=False)
        for step in range(10):
            cluster = first if step < 5 else then
            rows.append((user, cluster * ITEMS_PER_CLUSTER + int(chance.integers(ITEMS_PER_CLUSTER)), step * 3_600_000))
    users, items, ts_ms = np.array(rows).T
    data = TrainingSet.from_columns(users, items, IDS, np.ones(len(rows), np.float32), ts_ms)
    found = fit(data, replace(CONFIG, max_epochs=8, targets=1, cuts=8))
    counts = found.towers.ranks + found.towers.ages[[0, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5]]
    assert counts[0] > counts[2], "the newest item counts more than the fourth newest"


def test_what_items_and_users_say_survives_the_store(model: TwoTowerModel) -> None:
    again = load_model(model.kind, model.config, model.item_ids, {name: array.copy() for name, array in model.tensors().items()})
    assert isinstance(again, TwoTowerModel) and again.config == model.config
    words, none = describing().words(IDS), model.encode(histories_of([[]], 2))
    assert again.content_map is not None and model.content_map is not None
    np.testing.assert_array_equal(again.content_map.vectors(words)[0], model.content_map.vectors(words)[0])
    np.testing.assert_array_equal(again.with_profiles(none, profiles([3])), model.with_profiles(none, profiles([3])))


def test_an_engine_adds_the_profile_and_the_content(model: TwoTowerModel) -> None:
    for exact_items in (1_000, 10):
        engine = Engine(EngineConfig(exact_items=exact_items, source_weights={"two_tower": 1.0}, list_size=5))
        for number in range(N_ITEMS):
            cluster = number // ITEMS_PER_CLUSTER
            vector = np.eye(N_CLUSTERS)[cluster].tolist()
            engine.describe_item(number, ItemContent([f"c{cluster}"]) if cluster % 2 == 0 else ItemContent((), embeddings={"text": vector}))
        engine.serve("two_tower", "v", model, {item_id: at for at, item_id in enumerate(IDS)})
        engine.users.load({"u": None, "v": None})
        slots = np.array([engine.users.slot("u"), engine.users.slot("v")])
        table = engine.users.profiles
        assert table is not None
        table.take(int(slots[0]), profiles([2]), 0)
        lists = engine.recommend(slots, engine.encode(slots), 10)
        assert {int(item) // ITEMS_PER_CLUSTER for item in lists.items[0] if item >= 0} == {2}
        assert len({int(item) // ITEMS_PER_CLUSTER for item in lists.items[1] if item >= 0} - {2}) > 0 or (lists.items[1] < 0).all()
        assert engine.models["two_tower"].known[UNTOUCHED].all() or exact_items == 10
        assert engine.retire("two_tower") and engine.users.profiles is None


def test_an_item_counts_once_and_a_dislike_not_at_all(model: TwoTowerModel) -> None:
    np.testing.assert_allclose(model.encode(histories_of([[5]], 8)), model.encode(histories_of([[5] * 8], 8)), rtol=1e-5)
    histories = histories_of([[3, 1, 2]], 6)
    histories.weights[0, -3] = -1
    np.testing.assert_allclose(model.encode(histories), model.encode(histories_of([[1, 2]], 6)), rtol=1e-5)
    ages = histories_of([[1, 2]], 6)
    older = Histories(ages.items, ages.weights, ages.ages_s * 1e5)
    assert older.ages_s.max() > 0 and np.isfinite(model.encode(older)).all()


@pytest.mark.parametrize(
    ("tensor", "change"),
    [
        ("items", lambda a: a[:-1]),
        ("read", lambda a: a[:, :-1]),
        ("ranks", lambda a: a[:-1]),
        ("narrow", lambda a: a.T.copy()),
        ("segments", lambda a: a[:-1]),
        ("embedded", lambda a: a[:, :-1]),
        ("values", lambda a: a * np.nan),
        ("said.columns", lambda a: a + 1_000),
    ],
)
def test_damaged_tensors_are_refused(model: TwoTowerModel, tensor: str, change: object) -> None:
    tensors = dict(model.tensors())
    tensors[tensor] = change(tensors[tensor])  # type: ignore[operator]
    with pytest.raises(CoreError):
        load_model(model.kind, model.config, model.item_ids, tensors)


def test_configurations_that_do_not_fit_are_refused(model: TwoTowerModel) -> None:
    for name, value in (("blocks", [["text", 0]]), ("blocks", [3]), ("values", ["a", "a"]), ("segments", ["t"]), ("factors", 8)):
        with pytest.raises(CoreError):
            load_model(model.kind, {**model.config, name: value}, model.item_ids, model.tensors())
    with pytest.raises(ModelError, match="two_tower option id_dropout"):
        TwoTowerConfig(id_dropout=1.0)
    with pytest.raises(ModelError, match="two_tower option reads"):
        TwoTowerConfig(reads="after")


def test_too_little_is_refused_and_a_large_catalogue_samples() -> None:
    ids = ["a", "b", "c"]

    def few(users: list[int], items: list[int]) -> TrainingSet:
        return TrainingSet.from_columns(np.array(users), np.array(items), ids, np.ones(len(users), np.float32), np.arange(len(users)))

    for users, items in (([0], [0]), ([0, 1, 2], [0, 0, 0]), ([0, 1], [0, 1])):
        with pytest.raises(TooFewInteractions):
            fit(few(users, items), CONFIG)
    for above in (0, 20_000):
        found = fit(few([0, 0, 1, 1, 1], [0, 1, 0, 1, 2]), replace(CONFIG, max_epochs=2, compared_above=above, negatives=1, hidden=0))
        assert np.isfinite(found.item_vectors).all() and found.content_map is None and not found.reads_attributes


def test_the_gate_sees_what_items_and_profiles_say(model: TwoTowerModel) -> None:
    """As lists do: a target that the model knows by its description alone is ranked, and so is that of a user with a profile and a history
    that the model cannot read."""
    users = np.repeat(np.arange(N_CLUSTERS), 3)
    items = np.array([[15 * cluster + 1, 15 * cluster + 2, UNTOUCHED[cluster]] for cluster in range(N_CLUSTERS)])
    items[0, :2] = UNTOUCHED[1], UNTOUCHED[2]  # the first user's history is of items without events
    part = Slice.cut(users, items.ravel(), IDS, np.ones(len(users), np.float32), np.tile(np.arange(3) * 1_000, N_CLUSTERS), 2_000)
    blind = rank_by_model(model, part)
    assert np.isinf(blind.ranks).all() and blind.counts["n_unknown_items"] == N_CLUSTERS
    described = rank_by_model(model, replace(part, descriptions=describing()))
    assert described.counts["n_unknown_items"] == 0 and described.counts["n_unreadable_histories"] == 1
    assert np.isinf(described.ranks[0]) and (described.ranks[1:] <= ITEMS_PER_CLUSTER).all()
    known = replace(part, descriptions=describing(), user_profiles=profiles([0, *[None] * (N_CLUSTERS - 1)]))
    whole = rank_by_model(model, known)
    assert whole.counts["n_unreadable_histories"] == 0 and whole.ranks[0] <= ITEMS_PER_CLUSTER
    np.testing.assert_array_equal(whole.ranks[1:], described.ranks[1:])
