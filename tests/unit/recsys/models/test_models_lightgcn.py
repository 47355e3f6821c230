"""LightGCN: propagation over users, items and what items say, training on what leaves the graph, items that nobody touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys.catalogue.item_content import ItemContent
from recsys.errors import CoreError, ModelError, ShapeError, TooFewInteractions
from recsys.evaluation.protocol import Slice
from recsys.evaluation.ranking import evaluate
from recsys.lists.serving import ServingModel
from recsys.models.content_map import MappedModel, parts_of
from recsys.models.descriptions import ItemDescriptions
from recsys.models.held_back import HeldBack, hold_back
from recsys.models.item_values import ItemValues
from recsys.models.lightgcn.config import LightGCNConfig
from recsys.models.lightgcn.graph import Graph, scale_of
from recsys.models.lightgcn.model import LightGCNModel
from recsys.models.lightgcn.training import fit
from recsys.models.registry import load_model
from recsys.models.sampled_softmax import Competition
from recsys.models.training_set import TrainingSet
from tests.unit.recsys.models.model_cases import ITEMS_PER_CLUSTER, N_CLUSTERS, N_ITEMS, clustered, histories_of

pytestmark = pytest.mark.xdist_group("models_lightgcn")  # a model is trained once, in one process

CONFIG = LightGCNConfig(factors=16, max_epochs=6, patience=3, knowledge_weight=20.0)
UNTOUCHED = [cluster * ITEMS_PER_CLUSTER + 4 for cluster in range(N_CLUSTERS)]
IDS = [f"item-{i}" for i in range(N_ITEMS)]


def describing() -> ItemDescriptions:
    """Every item says its cluster as its director; every fifth one has a sequel."""
    contents = {
        i: ItemContent((), {"director": f"d{i // ITEMS_PER_CLUSTER}"} | ({"sequel_of": f"item-{i - 1}"} if i % 5 == 1 else {}))
        for i in range(N_ITEMS)
    }
    return ItemDescriptions.of(contents, IDS)


def few(users: list[int], items: list[int]) -> TrainingSet:
    ids = [f"item-{i}" for i in range(max(items) + 1)]
    return TrainingSet.from_columns(np.array(users), np.array(items), ids, np.ones(len(users), np.float32), np.arange(len(users)))


@pytest.fixture(scope="module")
def interactions() -> TrainingSet:
    whole = clustered(n_users=120)
    kept = ~np.isin(whole.items, UNTOUCHED)
    columns = whole.users[kept], whole.items[kept], whole.item_ids, whole.weights[kept], whole.ts_ms[kept]
    return replace(TrainingSet.from_columns(*columns), descriptions=describing())


@pytest.fixture(scope="module")
def model(interactions: TrainingSet) -> LightGCNModel:
    return fit(interactions, CONFIG)


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_vectors_spread_as_the_normalised_adjacency_says(layers: int) -> None:
    pairs, weight = few([0, 0, 1, 1, 1, 2], [0, 1, 1, 2, 3, 3]).entries(10), 5.0
    said = ItemValues(("a", "b"), np.array([0, 1, 1, 3, 4]), np.array([0, 0, 1, 1], np.int32), np.array([1, 0.6, 0.8, 1], np.float32))
    chance = np.random.default_rng(0)
    items, values = chance.normal(size=(4, 3)).astype(np.float32), chance.normal(size=(2, 3)).astype(np.float32)
    n_users, n_items, n_values = 3, 4, 2
    spoken, degree = said.matrix().toarray(), np.bincount(pairs.items, minlength=4) + weight * (np.diff(said.starts) > 0)
    adjacency = np.zeros((9, 9))
    for user, item in zip(pairs.users, pairs.items, strict=True):
        adjacency[item, n_items + n_values + user] = 1 / np.sqrt(degree[item] * np.count_nonzero(pairs.users == user))
    adjacency[:n_items, n_items : n_items + n_values] = np.sqrt(weight / degree)[:, None] * spoken / np.sqrt((spoken > 0).sum(axis=0))
    adjacency += adjacency.T
    layer = np.concatenate((items, values, np.zeros((n_users, 3))))
    own, total, before = layer.copy(), layer.copy(), np.zeros_like(layer)
    for _ in range(layers):
        before += layer
        layer = adjacency @ layer
        total += layer
    graph = Graph(pairs, said, weight, layers, 3.0)
    found = graph.spread(items, values)
    np.testing.assert_allclose(found.items, total[:n_items] / (layers + 1), rtol=1e-5)
    np.testing.assert_allclose(graph.users(found.read) / 3, total[n_items + n_values :] / (layers + 1), rtol=1e-5)
    assert found.said is not None
    np.testing.assert_allclose(found.said, before[n_items : n_items + n_values] / (layers + 1), rtol=1e-5)
    # the adjoint: <gradient, spread(x)> = <adjoint(gradient), x>
    of_items, of_read = chance.normal(size=(2, 4, 3)).astype(np.float32)
    back, back_values = graph.adjoint(of_items, of_read)
    assert back_values is not None
    there = (of_items * found.items).sum() + (of_read * found.read).sum()
    np.testing.assert_allclose(there, (back * own[:n_items]).sum() + (back_values * values).sum(), rtol=1e-4)
    of_users, rows = chance.normal(size=(2, 3)).astype(np.float32), np.array([2, 0])
    again = graph.users_adjoint(of_users, rows, n_items)
    np.testing.assert_allclose((of_users * graph.users(found.read, rows)).sum(), (again * found.read).sum(), rtol=1e-4)


def test_a_history_is_encoded_as_the_graph_has_its_user(model: LightGCNModel, interactions: TrainingSet) -> None:
    entries = interactions.entries(CONFIG.history_length)
    assert model.knowledge is not None
    graph = Graph(entries, model.knowledge.said, CONFIG.knowledge_weight, CONFIG.layers, scale_of(entries, CONFIG.layers))
    found = graph.spread(model.vectors.own, model.knowledge.own)
    np.testing.assert_allclose(model.item_vectors, found.items, rtol=1e-4, atol=1e-6)
    starts = entries.user_starts()
    rows = [entries.items[starts[user] : starts[user + 1]].tolist() for user in range(5)]
    np.testing.assert_allclose(model.encode(histories_of(rows, 40)), graph.users(found.read)[:5], rtol=1e-4, atol=1e-6)


def test_an_item_counts_once_and_a_dislike_not_at_all(model: LightGCNModel) -> None:
    np.testing.assert_array_equal(model.encode(histories_of([[5]], 8)), model.encode(histories_of([[5] * 8], 8)))
    histories = histories_of([[1, 2, 3]], 6)
    histories.weights[0, -1] = -1
    np.testing.assert_allclose(model.encode(histories), model.encode(histories_of([[1, 2]], 6)), rtol=1e-5)


def test_items_that_nobody_touched_are_found_by_what_they_say(model: LightGCNModel) -> None:
    """Of all items, an untouched one of the user's own cluster is above nine in ten of the other clusters'."""
    assert model.content_map is not None and set(model.item_ids).isdisjoint(f"item-{i}" for i in UNTOUCHED)
    vectors, known = model.content_map.vectors(describing().words([f"item-{i}" for i in UNTOUCHED]))
    assert known.all()
    position = {item_id: at for at, item_id in enumerate(model.item_ids)}
    rows = [[position[f"item-{cluster * ITEMS_PER_CLUSTER + step}"] for step in (1, 2, 8)] for cluster in range(N_CLUSTERS)]
    users = model.encode(histories_of(rows, 6))
    assert ((users @ vectors.T).argmax(axis=1) == np.arange(N_CLUSTERS)).all()
    cluster_of = np.array([int(item_id.removeprefix("item-")) // ITEMS_PER_CLUSTER for item_id in model.item_ids])
    for cluster, user in enumerate(users):
        others = model.item_vectors[cluster_of != cluster] @ user
        assert (others < user @ vectors[cluster]).mean() > 0.9


def test_what_items_say_serves_with_the_model_and_survives_its_store(model: LightGCNModel) -> None:
    again = load_model(model.kind, model.config, model.item_ids, {name: array.copy() for name, array in model.tensors().items()})
    own = parts_of(again)[1]
    assert own is not None and model.content_map is not None
    words = describing().words([f"item-{i}" for i in UNTOUCHED])
    np.testing.assert_array_equal(own.vectors(words)[0], model.content_map.vectors(words)[0])
    serving = ServingModel.of(model.kind, "v", again, {item_id: at for at, item_id in enumerate(IDS)}, N_ITEMS, is_large=False)
    assert serving.content_map is own and serving.served is again
    mapped = MappedModel(again, own)
    assert parts_of(mapped) == (again, own)


def test_without_descriptions_or_with_a_weight_of_zero_no_values_are_nodes(interactions: TrainingSet) -> None:
    quick = replace(CONFIG, max_epochs=1)
    plain, weightless = fit(replace(interactions, descriptions=None), quick), fit(interactions, replace(quick, knowledge_weight=0.0))
    assert plain.content_map is None and "values" not in plain.config
    np.testing.assert_array_equal(plain.item_vectors, weightless.item_vectors)


def test_a_relation_gives_both_items_a_value_of_their_own() -> None:
    words = describing().words(["item-10", "item-11", "item-12", "elsewhere"])
    said = [{value.replace("\x1f", "=") for value, _ in item} for item in words.values]
    assert "attribute.sequel_of=item-10" in said[0] & said[1] and said[3] == set()
    assert not any("sequel_of" in value for value in said[2])
    assert ("attribute.sequel_of\x1fitem-10", 1.0) in words.values[0]


@pytest.mark.parametrize(
    ("tensor", "change"),
    [
        ("read", lambda a: a[:-1]),
        ("own", lambda a: a[:, :-1]),
        ("value_given", lambda a: a[:-1]),
        ("value_own", lambda a: a * np.nan),
        ("said.columns", lambda a: a + 1000),
        ("said.columns", lambda a: a.astype(np.int64)),
        ("said.starts", lambda a: a[:-1]),
        ("said.starts", lambda a: a[::-1].copy()),
        ("said.weights", lambda a: a[:-1]),
    ],
)
def test_damaged_tensors_are_refused(model: LightGCNModel, tensor: str, change: object) -> None:
    tensors = dict(model.tensors())
    tensors[tensor] = change(tensors[tensor])  # type: ignore[operator]
    with pytest.raises(CoreError):
        load_model(model.kind, model.config, model.item_ids, tensors)


def test_names_that_are_there_twice_are_refused(model: LightGCNModel) -> None:
    names = [*model.config["values"][:-1], model.config["values"][0]]
    with pytest.raises(ModelError, match="twice"):
        load_model(model.kind, {**model.config, "values": names}, model.item_ids, model.tensors())


def test_too_little_or_weights_that_are_no_numbers_are_refused() -> None:
    for users, items in (([0], [0]), ([0, 1, 2], [0, 0, 0]), ([0, 1], [0, 1])):
        with pytest.raises(TooFewInteractions):
            fit(few(users, items), CONFIG)
    with pytest.raises(ModelError, match="finite"):
        fit(replace(few([0, 0, 1, 1], [0, 1, 0, 1]), weights=np.array([1, np.nan, 1, 1], np.float32)), CONFIG)
    assert np.isfinite(fit(few([0, 0], [0, 1]), CONFIG).item_vectors).all()


def test_one_large_catalogue_trains_with_sampled_items(interactions: TrainingSet) -> None:
    found = fit(interactions, replace(CONFIG, max_epochs=2, compared_above=10, negatives=20))
    assert np.isfinite(found.item_vectors).all() and found.item_vectors.any()


def test_sampled_competition_estimates_the_sum_over_all_items() -> None:
    counts = np.array([60, 20, 10, 5, 3, 1, 1, 0, 0, 0])
    weights, chance = np.arange(1.0, 11.0), np.random.default_rng(1)
    competition, sums = Competition(counts, 5, 4), []
    for _ in range(3_000):
        targets = chance.choice(10, 6, p=counts / counts.sum())
        compared = competition.of(targets, chance)
        assert compared.log_shares is not None and np.isin(targets, compared.items).all()
        assert (compared.items[compared.places(targets).numpy()] == targets).all()
        sums.append((weights[compared.items] / np.exp(compared.log_shares.numpy())).sum())
    assert np.mean(sums) == pytest.approx(weights.sum(), rel=0.03)
    assert Competition(counts, 10, 4).of(np.array([3]), chance).log_shares is None


def test_held_back_preferences_are_ranked_among_what_their_users_have_not() -> None:
    entries = few([0, 0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 3, 0, 1, 4, 3, 5]).entries(10)
    rest, held = hold_back(entries, 10, np.random.default_rng(0), is_warm=False)
    assert held is not None and len(held.users) == 1 and len(rest) == len(entries) - 1
    user = int(held.users[0])
    own = entries.items[entries.users == user]
    assert held.targets[0] == own[-1] and held.seen.tolist() == own[:-1].tolist()
    held = HeldBack(np.array([0, 1]), np.array([3, 0]), np.array([1, 2, 5]), np.array([0, 2, 3]))
    items = np.array([[5.0], [9], [9], [4], [6], [4]], np.float32)
    found = held.ndcg(np.ones((2, 1), np.float32), items)
    # user 0: 5 and 6 are above 4, one equal; user 1: 9, 9 and 6 are above 5
    assert found == pytest.approx((1 / np.log2(1 + 3.5) + 1 / np.log2(1 + 4)) / 2)
    unseen = replace(entries, unseen=np.zeros(len(entries), bool))
    assert hold_back(unseen, 10, np.random.default_rng(0), is_warm=True)[1] is None


def test_shuffled_labels_are_worth_little_more_than_chance() -> None:
    data = clustered(n_users=120)
    shuffled = np.random.default_rng(5).permutation(data.items)
    found = fit(few(data.users.tolist(), shuffled.tolist()), CONFIG)
    other = clustered(n_users=120, seed=17)
    part = Slice.cut(other.users, other.items, other.item_ids, other.weights, other.ts_ms, int(np.quantile(other.ts_ms, 0.5)))
    assert evaluate(found, part)["recall@10"] < 1.6 * 10 / (N_ITEMS - 7)  # by chance, of the items that a user has not touched


def test_early_stop_keeps_the_best_epoch(interactions: TrainingSet) -> None:
    said: list[float] = []

    def heard(done: float, message: str) -> bool:
        said.append(float(message.rpartition(" ")[2]))
        return True

    found = fit(interactions, replace(CONFIG, max_epochs=30, patience=2), heard)
    best = int(np.argmax(said))
    assert len(said) == best + 3 < 30
    again = fit(interactions, replace(CONFIG, max_epochs=best + 1, patience=2))
    np.testing.assert_array_equal(found.item_vectors, again.item_vectors)


def test_options_beyond_their_bounds_name_themselves() -> None:
    with pytest.raises(ModelError, match="lightgcn option masked"):
        LightGCNConfig(masked=1.0)
    with pytest.raises(ShapeError):
        LightGCNModel(CONFIG, ["a"], fit(few([0, 0], [0, 1]), CONFIG).vectors)
