"""BPR, matrix factorisation with biases, incremental SGD and item2vec: their equations on small cases, and a floor on known structure."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from recsys.errors import ModelError, ShapeError, TooFewInteractions
from recsys.evaluation.protocol import Slice
from recsys.evaluation.ranking import evaluate
from recsys.models.base import F32, Histories
from recsys.models.biased_mf.model import BiasedMFModel
from recsys.models.bpr import kernel as bpr_kernel
from recsys.models.factor_model import FactorModel
from recsys.models.isgd import kernel as isgd_kernel
from recsys.models.isgd.model import ISGDModel
from recsys.models.item2vec.model import Item2VecModel
from recsys.models.random_kernel import aliases, first_state
from recsys.models.registry import FACTOR_KINDS, MODELS, load_model
from recsys.models.training_set import TrainingSet
from tests.unit.recsys.models.model_cases import N_ITEMS, clustered, histories_of

pytestmark = pytest.mark.xdist_group("models_contract")  # the same compiled loops

SMALL: dict[str, dict[str, Any]] = {"bpr": {"epochs": 2}, "biased_mf": {"epochs": 2}, "isgd": {}, "item2vec": {"epochs": 2}}


def fitted(kind: str, interactions: TrainingSet, warm_start: Any = None, **options: Any) -> Any:
    model = MODELS[kind].fit(interactions, MODELS[kind].configure({"factors": 4, **SMALL[kind], **options}), None, warm_start)
    assert isinstance(model, FactorModel)
    return model


def few(users: list[int], items: list[int], weights: list[float] | None = None) -> TrainingSet:
    given = np.array([1.0] * len(users) if weights is None else weights, np.float32)
    ids = [f"item-{i}" for i in range(max(items) + 1)]
    return TrainingSet.from_columns(np.array(users), np.array(items), ids, given, np.arange(len(users)))


def weighed(rows: list[list[tuple[int, float]]], length: int = 8) -> Histories:
    histories = histories_of([[item for item, _ in row] for row in rows], length)
    for at, row in enumerate(rows):
        histories.weights[at, length - len(row) :] = [weight for _, weight in row]
    return histories


@pytest.fixture(scope="module")
def interactions() -> TrainingSet:
    return clustered()


@pytest.mark.parametrize("kind", FACTOR_KINDS)
def test_an_item_counts_once_and_a_weight_of_zero_not_at_all(kind: str, interactions: TrainingSet) -> None:
    model = fitted(kind, interactions)
    once, often = model.encode(histories_of([[5]], 12)), model.encode(histories_of([[5] * 12], 12))
    assert np.array_equal(once, often) and once.any()
    assert np.array_equal(model.encode(weighed([[(1, 1.0), (2, 0.0)]])), model.encode(weighed([[(1, 1.0)]])))


@pytest.mark.parametrize("kind", FACTOR_KINDS)
def test_only_the_newest_items_of_a_longer_history_are_read(kind: str, interactions: TrainingSet) -> None:
    model = fitted(kind, interactions, history_length=3)
    assert np.array_equal(model.encode(histories_of([[9, 8, 1, 2, 3]], 8)), model.encode(histories_of([[1, 2, 3]], 8)))


@pytest.mark.parametrize("kind", FACTOR_KINDS)
def test_one_user_or_one_item_is_enough_and_dislikes_are_not(kind: str) -> None:
    one_user = fitted(kind, few([0, 0, 0], [0, 1, 1]))
    assert np.isfinite(one_user.encode(histories_of([[0]], 3)) @ one_user.item_vectors.T).all()
    if kind != "item2vec":
        one_item = fitted(kind, few([0, 1, 2], [0, 0, 0]))
        assert np.isfinite(one_item.encode(histories_of([[0]], 3)) @ one_item.item_vectors.T).all()
    with pytest.raises(TooFewInteractions):
        fitted(kind, few([0, 0], [0, 1], [-1.0, -1.0]))


@pytest.mark.parametrize("kind", FACTOR_KINDS)
def test_weights_that_are_no_numbers_are_refused(kind: str) -> None:
    with pytest.raises(ModelError, match="finite"):
        fitted(kind, few([0, 0, 1, 1], [0, 1, 0, 1], [1.0, float("nan"), 1.0, 1.0]))


@pytest.mark.parametrize("kind", FACTOR_KINDS)
def test_shuffled_labels_are_worth_little_more_than_chance(kind: str, interactions: TrainingSet) -> None:
    shuffled = np.random.default_rng(5).permutation(interactions.items)
    model = fitted(kind, few(interactions.users.tolist(), shuffled.tolist()))
    other = clustered(n_users=120, seed=17)
    part = Slice.cut(other.users, other.items, other.item_ids, other.weights, other.ts_ms, int(np.quantile(other.ts_ms, 0.5)))
    assert evaluate(model, part)["recall@10"] < 1.8 * 10 / (N_ITEMS - 7)  # by chance, of the items that a user has not touched


@pytest.mark.parametrize("kind", FACTOR_KINDS)
def test_a_stored_model_of_another_shape_is_refused(kind: str, interactions: TrainingSet) -> None:
    model = fitted(kind, interactions)
    for name, array in model.tensors().items():
        with pytest.raises(ShapeError):
            load_model(kind, model.config, model.item_ids, {**model.tensors(), name: array[:-1]})


@pytest.mark.parametrize("kind", ["bpr", "isgd", "item2vec"])
def test_steps_that_diverge_are_an_error_that_names_the_remedy(kind: str, interactions: TrainingSet) -> None:
    with pytest.raises(ModelError, match="lower learning_rate"):
        fitted(kind, interactions, learning_rate=10.0, **({} if kind == "item2vec" else {"regularisation": 10.0}))


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        ("biased_mf", {"solver": "adam"}, "solver"),
        ("biased_mf", {"solver": "sgd", "unobserved_weight": 0.1}, "unobserved_weight"),
        ("item2vec", {"order": "random"}, "order"),
        ("item2vec", {"score": "dot"}, "score"),
        ("bpr", {"drawn": 0}, "drawn"),
        ("isgd", {"steps": 0}, "steps"),
    ],
)
def test_an_option_out_of_its_bounds_is_named(kind: str, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError, match=named):
        MODELS[kind].configure(options)


def test_a_table_of_aliases_draws_in_proportion_to_the_weights() -> None:
    for weights in ([1.0], [1.0, 1.0, 1.0], [0.0, 3.0, 1.0], [1e-9, 5.0, 1.0, 0.25, 7.0]):
        kept, others = aliases(np.array(weights))
        chances = kept.astype(float)
        np.add.at(chances, others, 1 - kept)
        np.testing.assert_allclose(chances / len(weights), np.array(weights) / sum(weights), atol=1e-6)


def test_a_step_of_bpr_follows_the_gradient() -> None:
    chance = np.random.default_rng(2)
    users, items = chance.normal(size=(1, 4)).astype(np.float32), chance.normal(size=(2, 4)).astype(np.float32)
    users[0, -1] = 1
    before_user, (liked, other) = users[0].astype(float), items.astype(float)
    kept, others = aliases(np.ones(2))
    one, weight, step, ridge = np.zeros(1, np.int32), np.array([0.5], np.float32), 0.1, 0.2
    bpr_kernel.epoch(
        one.astype(np.int64), one, one, weight, np.array([0, 1]), one, kept, others, 1, np.float32(step), np.float32(ridge),
        first_state(1), users, items,
    )  # fmt: skip
    slope = 0.5 / (1 + np.exp(before_user @ (liked - other)))
    expected = before_user + step * (slope * (liked - other) - ridge * before_user)
    np.testing.assert_allclose(users[0], [*expected[:-1], 1], rtol=1e-5)
    np.testing.assert_allclose(items[0], liked + step * (slope * before_user - ridge * liked), rtol=1e-5)
    np.testing.assert_allclose(items[1], other + step * (-slope * before_user - ridge * other), rtol=1e-5)


def test_a_user_folded_in_by_bpr_ranks_likes_above_the_rest_and_dislikes_below(interactions: TrainingSet) -> None:
    model = fitted("bpr", interactions, epochs=20, factors=16, learning_rate=0.1)
    plain = model.encode(weighed([[(1, 1.0), (2, 1.0)]])) @ model.item_vectors.T
    hated = model.encode(weighed([[(1, 1.0), (2, 1.0), (20, -1.0)]])) @ model.item_vectors.T
    assert plain[0, :15].mean() > plain[0, 15:].max()
    assert hated[0, 15:30].mean() < plain[0, 15:30].mean()


def rated(n_users: int = 80, n_items: int = 40, seed: int = 4) -> tuple[TrainingSet, F32]:
    """Generate ratings with biases and two factors, of which a half is seen, and all of them (U, I)."""
    chance = np.random.default_rng(seed)
    truth = 0.2 + chance.normal(0, 0.2, (n_users, 1)) + chance.normal(0, 0.3, n_items)
    truth = truth + chance.normal(0, 0.5, (n_users, 2)) @ chance.normal(0, 0.6, (2, n_items))
    users, items = np.nonzero(chance.random(truth.shape) < 0.5)
    seen = (truth[users, items] + chance.normal(0, 0.05, len(users))).astype(np.float32)
    ids = [f"item-{i}" for i in range(n_items)]
    return TrainingSet.from_columns(users, items, ids, seen, np.arange(len(users))), truth.astype(np.float32)


@pytest.mark.parametrize("solver", ["als", "sgd"])
def test_biased_mf_predicts_ratings_that_it_has_not_seen(solver: str) -> None:
    interactions, truth = rated()
    options = {"epochs": 20, "regularisation": 0.003} if solver == "als" else {"epochs": 200, "learning_rate": 0.1, "regularisation": 0.003}
    model = fitted("biased_mf", interactions, solver=solver, **options)
    length = int(np.bincount(interactions.users).max())
    starts = interactions.user_starts()
    given = list(zip(interactions.items.tolist(), interactions.weights.tolist(), strict=True))
    rows = [given[first:last] for first, last in pairwise(starts.tolist())]
    hidden = np.ones(truth.shape, bool)
    hidden[interactions.users, interactions.items] = False
    predicted = model.ratings(weighed(rows, length))
    assert np.sqrt(np.square(predicted - truth)[hidden].mean()) < 0.3 * truth[hidden].std()


def test_a_user_of_biased_mf_minimises_the_loss_that_its_docstring_states() -> None:
    chance = np.random.default_rng(6)
    items = chance.normal(size=(7, 4)).astype(np.float32)
    config = MODELS["biased_mf"].configure({"factors": 3, "regularisation": 0.2, "unobserved_weight": 0.3})
    model = BiasedMFModel(config, [str(i) for i in range(7)], items)
    seen, given = np.array([1, 4, 6]), np.array([1.0, -0.5, 2.0])
    features, offsets = np.concatenate((items[:, :3], np.ones((7, 1))), axis=1).astype(float), items[:, 3].astype(float)
    system = 0.3 * features.T @ features + features[seen].T @ features[seen] + 0.2 * (3 + 0.3 * 7) * np.eye(4)
    solved = np.linalg.solve(system, features[seen].T @ (given - offsets[seen]) - 0.3 * features.T @ offsets)
    histories = weighed([list(zip(seen.tolist(), given.tolist(), strict=True))])
    np.testing.assert_allclose(model.encode(histories)[0], [*solved[:3], 1], rtol=1e-4)
    np.testing.assert_allclose(model.ratings(histories)[0], features @ solved + offsets, rtol=1e-4)


def test_ratings_of_one_value_need_pairs_without_a_rating(interactions: TrainingSet) -> None:
    assert fitted("biased_mf", interactions).settings.unobserved_weight == 0.1
    assert fitted("biased_mf", rated()[0]).settings.unobserved_weight == 0.0
    for options in ({"unobserved_weight": 0.0}, {"solver": "sgd"}):
        with pytest.raises(ModelError, match="all ratings have one value"):
            fitted("biased_mf", interactions, **options)


def test_isgd_moves_by_each_preference_as_published() -> None:
    items = np.array([[0.5, 0.0], [0.0, 0.4]], np.float32)
    users, queue = np.array([[0.2, 0.1]], np.float32), (np.array([-1, -1, 2], np.int32), np.array([-1, -1, 2], np.int32))
    pair = np.zeros(1, np.int32)
    isgd_kernel.learn(pair, pair, np.ones(1, np.float32), 1, 0, np.float32(0.1), np.float32(0.2), *queue, users, items)
    user = np.array([0.2, 0.1]) + 0.1 * (0.9 * np.array([0.5, 0.0]) - 0.2 * np.array([0.2, 0.1]))
    np.testing.assert_allclose(users[0], user, rtol=1e-6)
    np.testing.assert_allclose(items[0], np.array([0.5, 0.0]) + 0.1 * (0.9 * user - 0.2 * np.array([0.5, 0.0])), rtol=1e-6)
    assert items[1].tolist() == [0.0, np.float32(0.4)]


def test_negatives_of_isgd_are_the_items_that_have_waited_longest() -> None:
    before, after = np.full(5, -1, np.int32), np.full(5, -1, np.int32)
    before[-1] = after[-1] = 4
    users, items = np.ones((1, 1), np.float32), np.ones((4, 1), np.float32)
    columns = np.zeros(5, np.int32), np.array([2, 0, 1, 2, 3], np.int32), np.ones(5, np.float32)
    isgd_kernel.learn(*columns, 1, 1, np.float32(0.0), np.float32(0.0), before, after, users, items)
    queue, at = [], int(after[4])
    while at != 4:
        queue.append(at)
        at = int(after[at])
    # 2 | 2 waits: 2, 0 | 2 again: 0, 2, 1 | 2 leaves, 0 waits: 1, 0, 2 | 1 waits: 0, 2, 1, 3
    assert queue == [0, 2, 1, 3]


def test_isgd_reads_in_the_order_of_time_and_goes_on_from_an_earlier_model(interactions: TrainingSet) -> None:
    columns = interactions.users, interactions.items, interactions.item_ids, interactions.weights
    backwards = TrainingSet.from_columns(*columns, -interactions.ts_ms)
    model = fitted("isgd", interactions)
    assert not np.allclose(model.item_vectors, fitted("isgd", backwards).item_vectors)
    nothing_new = TrainingSet.from_columns(*columns, interactions.ts_ms, unseen=np.zeros(len(interactions), bool))
    assert np.array_equal(fitted("isgd", nothing_new, model).item_vectors, model.item_vectors)
    unseen = interactions.ts_ms > np.quantile(interactions.ts_ms, 0.9)
    some_new = TrainingSet.from_columns(*columns, interactions.ts_ms, unseen=unseen)
    after = fitted("isgd", some_new, model).item_vectors
    touched = np.isin(np.arange(interactions.n_items), interactions.items[unseen])
    assert np.array_equal(after[~touched], model.item_vectors[~touched]) and not np.allclose(after[touched], model.item_vectors[touched])


def test_item2vec_learns_what_stands_near() -> None:
    """Items of a chain: each is nearer to the next one than to the others of its cluster, unless the order does not count."""
    chains = clustered(n_users=600, length=10)
    leads = {}
    for order in ("time", "none"):
        model = fitted("item2vec", chains, factors=16, epochs=10, window=1, order=order, subsample=0.0)
        scores = model.centres @ model.contexts.T
        leads[order] = np.mean([scores[i, i + 1] - scores[i, (i // 15) * 15 + (i + 7) % 15] for i in range(N_ITEMS - 1) if i % 15 < 14])
    assert leads["time"] > 1.0 and leads["time"] > 3 * leads["none"]


def test_a_user_of_item2vec_is_the_mean_of_the_newest_items() -> None:
    centres = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]], np.float32)
    ids = ["a", "b", "c"]
    config = MODELS["item2vec"].configure({"factors": 2, "half_life": 1.0, "score": "context"})
    model = Item2VecModel(config, ids, centres, centres[::-1].copy())
    histories = weighed([[(0, 1.0), (2, -1.0), (1, 0.5)], [(2, -1.0)]])
    np.testing.assert_allclose(model.encode(histories), [[0.5, 1.0], [0.0, 0.0]])  # both weigh a half: by age, by weight
    cosine = Item2VecModel(MODELS["item2vec"].configure({"factors": 2, "score": "cosine"}), ids, centres, centres[::-1].copy())
    alike = cosine.encode(histories_of([[0]], 2)) @ cosine.item_vectors.T
    np.testing.assert_allclose(alike[0], [1.0, 0.0, 0.5**0.5], rtol=1e-6)
    assert isinstance(model, FactorModel) and not isinstance(model, ISGDModel)
