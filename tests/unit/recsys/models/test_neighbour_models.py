"""The contract of neighbour models: rows that are summed, stored, served and explained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys.catalogue.items import ItemContent
from recsys.cooccurrence import log_likelihood_ratio
from recsys.engine import Engine, EngineConfig
from recsys.errors import CoreError, ModelError, ShapeError, TooFewInteractions
from recsys.evaluation.protocol import Slice
from recsys.evaluation.ranking import evaluate, evaluate_popularity
from recsys.models.base import Histories, Model
from recsys.models.checks import check_model
from recsys.models.knn.config import OF_ITEMS, OF_USERS
from recsys.models.neighbour import NeighbourModel
from recsys.models.registry import MODELS, NEIGHBOUR_KINDS, load_model
from recsys.models.training_set import TrainingSet
from tests.unit.recsys.models.model_cases import N_ITEMS, clustered, histories_of

QUICK: dict[str, tuple[str, dict[str, Any]]] = {
    "ease": ("ease", {"regularisation": 20.0, "neighbours": 20}),
    **{name: ("knn", {"similarity": name, "shrink": 1.0, "neighbours": 20}) for name in OF_ITEMS + OF_USERS},
    "slim": ("slim", {"l1": 0.5, "l2": 5.0, "neighbours": 20}),
}
ROWS = [[1, 2, 3], [], [20, 21], [5] * 12, [80, 81, 82, 83]]


def fitted(name: str, interactions: TrainingSet, **options: Any) -> NeighbourModel:
    kind, quick = QUICK[name]
    model = MODELS[kind].fit(interactions, MODELS[kind].configure({**quick, **options}))
    assert isinstance(model, NeighbourModel) and isinstance(model, Model)
    return model


def few(users: list[int], items: list[int], weights: list[float] | None = None) -> TrainingSet:
    given = np.array([1.0] * len(users) if weights is None else weights, np.float32)
    ids = [f"item-{i}" for i in range(max(items) + 1)]
    return TrainingSet.from_columns(np.array(users), np.array(items), ids, given, np.arange(len(users)))


@pytest.fixture(scope="module")
def interactions() -> TrainingSet:
    return clustered()


@pytest.fixture(scope="module")
def trained(interactions: TrainingSet) -> dict[str, NeighbourModel]:
    return {name: fitted(name, interactions) for name in QUICK}


@pytest.fixture(params=list(QUICK))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(name: str, trained: dict[str, NeighbourModel]) -> NeighbourModel:
    return trained[name]


def test_every_neighbour_kind_is_tested() -> None:
    assert {kind for kind, _ in QUICK.values()} == set(NEIGHBOUR_KINDS)


def test_scores_have_the_axes_of_users_and_items(model: NeighbourModel) -> None:
    scores = model.scores(histories_of(ROWS, 12))
    assert scores.shape == (len(ROWS), N_ITEMS) and scores.dtype == np.float32 and np.isfinite(scores).all()
    assert model.encode(histories_of(ROWS, 12)).shape == (len(ROWS), 0)
    check_model(model)


def test_an_empty_history_reads_nothing_and_others_do(model: NeighbourModel) -> None:
    scores = model.scores(histories_of(ROWS, 12))
    assert not scores[1].any() and scores[[0, 2, 3, 4]].any(axis=1).all()
    assert model.scores(histories_of([], 4)).shape == (0, N_ITEMS)


def test_scores_do_not_depend_on_the_batch_padding_or_unknown_items(model: NeighbourModel) -> None:
    histories = histories_of(ROWS, 12)
    together = model.scores(histories)
    assert np.array_equal(together, model.scores(histories))
    for row in range(len(ROWS)):
        alone = Histories(histories.items[[row]], histories.weights[[row]], histories.ages_s[[row]])
        assert np.array_equal(model.scores(alone)[0], together[row])
    items = np.array([[1, -1, 2, -1, -1, 3]], np.int32)
    gaps = Histories(items, (items >= 0).astype(np.float32), np.zeros((1, 6), np.float32))
    np.testing.assert_allclose(model.scores(gaps)[0], together[0], rtol=1e-5)


def test_an_item_counts_once_and_a_dislike_or_a_weight_of_zero_not_at_all(model: NeighbourModel) -> None:
    once, often = model.scores(histories_of([[5]], 12)), model.scores(histories_of([[5] * 12], 12))
    assert np.array_equal(once, often)
    histories = histories_of([[1, 2, 3]], 6)
    for weight in (0.0, -1.0):
        histories.weights[0, -1] = weight
        np.testing.assert_allclose(model.scores(histories), model.scores(histories_of([[1, 2]], 6)), rtol=1e-5)


def test_a_stored_model_scores_identically(model: NeighbourModel) -> None:
    again = load_model(model.kind, model.config, model.item_ids, {name: array.copy() for name, array in model.tensors().items()})
    assert isinstance(again, NeighbourModel) and again.config == model.config
    assert np.array_equal(again.scores(histories_of(ROWS, 12)), model.scores(histories_of(ROWS, 12)))


def test_training_repeats_itself_exactly(name: str, model: NeighbourModel, interactions: TrainingSet) -> None:
    again = fitted(name, interactions)
    assert all(np.array_equal(again.tensors()[key], array) for key, array in model.tensors().items())


@pytest.mark.parametrize("name", [name for name in QUICK if name not in OF_USERS])
def test_rows_hold_no_more_neighbours_than_they_may(name: str, interactions: TrainingSet) -> None:
    model = fitted(name, interactions, neighbours=3)
    by_target = np.bincount(model.rows.columns, minlength=N_ITEMS)
    assert by_target.max() <= 3 and by_target.sum() > N_ITEMS


def test_quality_floor_twice_popularity_on_clustered_users(model: NeighbourModel) -> None:
    other = clustered(n_users=120, seed=17)
    part = Slice.cut(other.users, other.items, other.item_ids, other.weights, other.ts_ms, int(np.quantile(other.ts_ms, 0.5)))
    judged, popular = evaluate(model, part), evaluate_popularity(part)
    assert judged["n_targets"] == popular["n_targets"] > 100
    assert judged["recall@10"] > 2 * popular["recall@10"] and judged["recall@10"] > 0.35


def test_shuffled_labels_are_worth_little_more_than_chance(name: str, interactions: TrainingSet) -> None:
    shuffled = np.random.default_rng(5).permutation(interactions.items)
    model = fitted(name, few(interactions.users.tolist(), shuffled.tolist()))
    other = clustered(n_users=120, seed=17)
    part = Slice.cut(other.users, other.items, other.item_ids, other.weights, other.ts_ms, int(np.quantile(other.ts_ms, 0.5)))
    assert evaluate(model, part)["recall@10"] < 1.6 * 10 / (N_ITEMS - 7)  # by chance, of the items that a user has not touched


@pytest.mark.parametrize(("users", "items"), [([0], [0]), ([0, 1, 2], [0, 0, 0]), ([0, 1], [0, 1])], ids=["one", "one-item", "apart"])
def test_data_without_neighbours_is_too_little(name: str, users: list[int], items: list[int]) -> None:
    with pytest.raises(TooFewInteractions):
        fitted(name, few(users, items))


@pytest.mark.parametrize("name", ["ease", "slim", "cosine", "jaccard", "user_cosine"])
def test_one_user_with_two_items_is_enough_and_dislikes_are_not(name: str) -> None:
    model = fitted(name, few([0, 0, 0], [0, 1, 1]), **({"l1": 0.0} if name == "slim" else {}))
    scores = model.scores(histories_of([[0]], 3))[0]
    assert scores[1] > 0 and (scores[0] == 0 or name in OF_USERS)
    with pytest.raises(TooFewInteractions):
        fitted(name, few([0, 0], [0, 1], [-1.0, -1.0]))


def test_weights_that_are_no_numbers_are_refused(name: str) -> None:
    with pytest.raises(CoreError, match="finite"):
        fitted(name, few([0, 0, 1, 1], [0, 1, 0, 1], [1.0, float("nan"), 1.0, 1.0]))


@pytest.mark.parametrize(
    ("tensor", "value", "error"),
    [
        ("columns", lambda a: np.full_like(a, N_ITEMS), ShapeError),
        ("columns", lambda a: -1 - a, ShapeError),
        ("columns", lambda a: a[::-1].copy(), ShapeError),
        ("columns", lambda a: a.astype(np.int64), ShapeError),
        ("starts", lambda a: a[:-1], ShapeError),
        ("starts", lambda a: a[::-1].copy(), ShapeError),
        ("values", lambda a: a[:-1], ShapeError),
        ("values", lambda a: a * np.float32("nan"), ModelError),
        ("values", lambda a: a * np.float32(0), ModelError),
        ("values", lambda a: a * np.float32(1e9), ModelError),
    ],
)
def test_damaged_rows_are_refused(tensor: str, value: Any, error: type[Exception], trained: dict[str, NeighbourModel]) -> None:
    model = trained["ease"]
    tensors = dict(model.tensors())
    tensors[tensor] = value(tensors[tensor])
    with pytest.raises(error):
        load_model(model.kind, model.config, model.item_ids, tensors)


@pytest.mark.parametrize("kind", ["ease", "slim"])
def test_too_many_items_name_the_remedy_and_the_most_popular_ones_are_kept(kind: str, interactions: TrainingSet) -> None:
    counts = np.arange(1, 301)
    many = few(np.concatenate([np.arange(n) for n in counts]).tolist(), np.repeat(np.arange(300), counts).tolist())
    with pytest.raises(ModelError, match=r"300 items need .* MB, more than memory_mb \(1\); set max_items to at most \d+"):
        MODELS[kind].fit(many, MODELS[kind].configure({"memory_mb": 1}))
    kept = fitted(kind, many, memory_mb=1, max_items=5)
    assert kept.item_ids == [f"item-{i}" for i in range(295, 300)]


def served(model: NeighbourModel, exact_items: int) -> tuple[Engine, np.ndarray]:
    """Return an engine with three users, whose items have other numbers than positions in the model."""
    engine = Engine(EngineConfig(exact_items=exact_items, source_weights={model.kind: 1.0}, list_size=8, exploration_slots=0))
    numbers = {item_id: N_ITEMS + 4 - position for position, item_id in enumerate(model.item_ids[:-5])}
    for number in range(N_ITEMS + 5):
        engine.describe_item(number, ItemContent(["c"]))
    engine.users.load(dict.fromkeys("abc"))
    slots = np.array([engine.users.slot(user) for user in "abc"], np.int64)
    engine.serve(model.kind, "v", model, numbers)
    from recsys.state.interactions import Interactions

    liked = [numbers[model.item_ids[position]] for position in (1, 2, 3, 20, 21)]
    batch = Interactions(
        slots[:2], np.array([3, 2]), np.array(liked, np.uint32), np.arange(5, dtype=np.uint32), np.full(5, 32, np.int8),
        np.zeros(5, np.int8), np.arange(5, dtype=np.int32), np.arange(5),
    )  # fmt: skip
    engine.learn_histories(engine.derive(batch))
    return engine, slots


@pytest.mark.parametrize("exact_items", [1_000, 10], ids=["small", "large"])
def test_lists_hold_the_best_items_and_reasons_sum_up_to_the_score(exact_items: int, model: NeighbourModel) -> None:
    engine, slots = served(model, exact_items)
    assert engine.is_large == (exact_items == 10)
    vectors = engine.encode(slots)
    assert engine.embeddings(vectors, len(slots)) == [[], [], []]
    context = engine.shared(10)
    users = context.users(slots, vectors)
    lists = engine.recommend(slots, vectors, context)
    expected = np.zeros((3, engine.n_items), np.float32)
    positions = engine.models[model.kind].positions
    scores = model.scores(histories_of([[1, 2, 3], [20, 21], []], 5))
    expected[:, positions >= 0] = np.maximum(scores[:, positions[positions >= 0]], 0)
    (source,) = engine._lists._active(context, vectors)
    every = np.tile(np.arange(engine.n_items), (3, 1))
    np.testing.assert_allclose(source.score(users, every, context), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(source.score(users, np.broadcast_to(every[0], every.shape), context), expected, rtol=1e-5, atol=1e-6)
    for user, own in ((0, (1, 2, 3)), (1, (20, 21))):
        best = expected[user].copy()
        best[[np.flatnonzero(positions == position)[0] for position in own]] = 0
        n_best = min(4, int((best > 0).sum()))
        np.testing.assert_allclose(best[lists.items[user, :n_best]], np.sort(best)[::-1][:n_best], rtol=1e-5)
        added = np.zeros((3, lists.items.shape[1], users.recent.items.shape[1]), np.float32)
        source.explain(users, lists.items, np.ones(3, np.float32), context, added)
        shown = best[lists.items[user]] > 0
        np.testing.assert_allclose(added[user].sum(axis=1)[shown], best[lists.items[user]][shown], rtol=1e-4)
        assert lists.because[user, 0, 0] in [np.flatnonzero(positions == position)[0] for position in own]


def test_a_catalogue_that_becomes_large_serves_the_same_scores(model: NeighbourModel) -> None:
    engine, slots = served(model, N_ITEMS + 20)
    before = engine.recommend(slots[:2], engine.encode(slots[:2]), 10).items[:, :3]
    engine.ensure_items(N_ITEMS + 40)
    assert engine.is_large
    assert np.array_equal(engine.recommend(slots[:2], engine.encode(slots[:2]), 10).items[:, :3], before)
    engine.prepare(model)


def test_ease_solves_its_equation() -> None:
    interactions = clustered(n_users=60)
    model = fitted("ease", interactions, neighbours=N_ITEMS)
    touched = np.zeros((interactions.n_users, N_ITEMS))
    touched[interactions.users, interactions.items] = 1
    inverse = np.linalg.inv(touched.T @ touched + 20 * np.eye(N_ITEMS))
    expected = -inverse / inverse.diagonal()
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(model.scores(histories_of([[i] for i in range(N_ITEMS)], 1)), expected, atol=1e-5)


def test_slim_satisfies_the_conditions_of_its_optimum() -> None:
    interactions = clustered(n_users=60)
    model = fitted("slim", interactions, neighbours=N_ITEMS, tolerance=1e-6, max_sweeps=500)
    touched = np.zeros((interactions.n_users, N_ITEMS))
    touched[interactions.users, interactions.items] = 1
    weights = model.scores(histories_of([[i] for i in range(N_ITEMS)], 1)).astype(np.float64)
    slope = touched.T @ (touched @ weights - touched) + 0.5 + 5.0 * weights
    np.fill_diagonal(slope, 0)
    assert (weights >= 0).all() and not weights.diagonal().any() and weights.any()
    assert np.abs(slope[weights > 0]).max() < 1e-3 and slope[weights == 0].min() > -1e-3


@pytest.mark.parametrize(("kind", "ridge", "times"), [("slim", "l2", 2), ("ease", "regularisation", 4)])
def test_the_ridge_grows_with_the_users_of_an_item(kind: str, ridge: str, times: int) -> None:
    """So many times the mean number of users of an item is the default, not a constant of a large log."""
    interactions = clustered(n_users=60)
    mean = len(np.unique(interactions.users.astype(np.int64) * N_ITEMS + interactions.items)) / N_ITEMS
    found, same = fitted(kind, interactions, **{ridge: None}), fitted(kind, interactions, **{ridge: times * mean})
    np.testing.assert_allclose(found.scores(histories_of([[1], [40]], 1)), same.scores(histories_of([[1], [40]], 1)), rtol=1e-5)
    assert found.config[ridge] is None and load_model(kind, found.config, found.item_ids, found.tensors()).config == found.config


def dense(interactions: TrainingSet) -> np.ndarray:
    """Return the preferences as a matrix (U, I)."""
    touched = np.zeros((interactions.n_users, interactions.n_items))
    touched[interactions.users, interactions.items] = interactions.weights
    return touched


@pytest.mark.parametrize("name", OF_ITEMS)
def test_similarities_of_items_are_those_of_their_definitions(name: str) -> None:
    random = np.random.default_rng(1)
    interactions = clustered(n_users=40)
    interactions.weights[:] = random.choice([0.5, 1.0, 2.0], len(interactions))
    interactions = interactions.entries(100)
    touched = dense(interactions)
    counted = (touched > 0).astype(float)
    together = counted.T @ counted
    n = counted.sum(axis=0)
    if name == "jaccard":
        expected = together / (n[:, None] + n - together + 1)
    elif name == "llr":
        expected = log_likelihood_ratio(*(a.astype(np.float32) for a in (together, n[:, None], n)), len(touched)).astype(float)
    else:
        centre = {"cosine": 0.0, "pearson": touched.mean(axis=0), "adjusted_cosine": touched.mean(axis=1)[:, None]}[name]
        moved = touched - centre
        lengths = np.sqrt((moved**2).sum(axis=0))
        expected = moved.T @ moved / (lengths[:, None] * lengths + 1)
    np.fill_diagonal(expected, 0)
    expected[(together == 0) | (expected < 0)] = 0
    model = fitted(name, interactions, neighbours=N_ITEMS)
    found = model.scores(histories_of([[i] for i in range(interactions.n_items)], 1))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OF_USERS)
def test_nearest_users_are_those_of_the_definition(name: str) -> None:
    interactions = clustered(n_users=40)
    model, touched = fitted(name, interactions, neighbours=5), (dense(interactions) > 0).astype(float)
    asked = np.zeros((1, N_ITEMS))
    asked[0, [1, 2, 3]] = 1
    mine, theirs = (asked - 3 / N_ITEMS, touched - touched.mean(axis=1, keepdims=True)) if name == "user_pearson" else (asked, touched)
    similar = (mine @ theirs.T / (np.sqrt((mine**2).sum()) * np.sqrt((theirs**2).sum(axis=1)) + 1))[0]
    nearest = np.argsort(-similar, kind="stable")[:5]
    read = model.read(histories_of([[1, 2, 3]], 4))
    np.testing.assert_allclose(np.sort(read.weights[0])[::-1], similar[nearest], rtol=1e-5)
    np.testing.assert_allclose(read.weights[0], similar[read.places[0]], rtol=1e-5)
    expected = similar[read.places[0]] @ touched[read.places[0]]
    np.testing.assert_allclose(model.scores(histories_of([[1, 2, 3]], 4))[0], expected, rtol=1e-5)


def test_the_index_keeps_the_users_of_the_newest_interactions() -> None:
    model = fitted("user_cosine", few([0, 0, 1, 1, 2, 2, 3], [0, 1, 2, 3, 4, 5, 6]), max_users=2)
    assert len(model.rows) == 2 and set(model.rows.columns.tolist()) == {2, 3, 4, 5}
    with pytest.raises(ModelError, match="similarity"):
        MODELS["knn"].configure({"similarity": "cosin"})
    tensors = {**model.tensors(), "values": model.rows.values * 2}
    with pytest.raises(ModelError, match="other values"):
        load_model("knn", model.config, model.item_ids, tensors)
