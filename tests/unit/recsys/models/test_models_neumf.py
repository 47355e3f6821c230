"""NeuMF: an inner product and a network over both sides, from training to lists."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.catalogue.item_content import ItemContent
from recsys.engine import Engine, EngineConfig
from recsys.errors import ModelError, ShapeError, TooFewInteractions
from recsys.lists.sources.pairs import PairSource
from recsys.models.base import Histories, ScoresPairs
from recsys.models.checks import MAX_WEIGHT, check_model
from recsys.models.neumf.config import NeuMFConfig
from recsys.models.neumf.model import NeuMFModel
from recsys.models.neumf.pairs import Pairs
from recsys.models.neumf.training import fit
from recsys.models.registry import load_model
from recsys.models.training_set import TrainingSet
from recsys.state.interactions import Interactions
from tests.unit.recsys.models.model_cases import N_ITEMS, clustered, histories_of

pytestmark = pytest.mark.xdist_group("models_neumf")  # a model is trained once, in one process

CONFIG = NeuMFConfig(factors=8, hidden=8, max_epochs=8, patience=8, learning_rate=0.02, targets=4)
IDS = [f"item-{at}" for at in range(N_ITEMS)]


@pytest.fixture(scope="module")
def model() -> NeuMFModel:
    return fit(clustered(n_users=120), CONFIG)


def test_training_and_serving_give_the_same_scores(model: NeuMFModel) -> None:
    assert isinstance(model, ScoresPairs)
    rows = [[1, 2, 30, 31], [50], [7, 8]]
    users = model.trained.users(np.concatenate(rows), np.array([len(row) for row in rows]))
    expected = model.trained.logits(users, np.arange(N_ITEMS)).detach().numpy()
    np.testing.assert_allclose(model.scores(histories_of(rows, 6)), expected, rtol=1e-4, atol=1e-4)
    assert not model.scores(histories_of([[], [1]], 6))[0].any()


def test_the_vectors_give_the_part_without_the_network(model: NeuMFModel) -> None:
    histories = histories_of([[1, 2], [50]], 4)
    vectors = model.encode(histories)
    quiet = NeuMFModel(model.settings, model.item_ids, model.trained._replace(out=torch.zeros_like(model.trained.out)))
    np.testing.assert_allclose(vectors @ model.item_vectors.T, quiet.scores(histories), rtol=1e-4, atol=1e-5)
    assert np.abs(model.scores(histories) - vectors @ model.item_vectors.T).max() > 0.01, "the network says something"
    assert model.pair_scores(vectors, np.array([[3, -1], [-1, 4]])).tolist() == [
        [pytest.approx(model.scores(histories)[0, 3], rel=1e-5), 0], [0, pytest.approx(model.scores(histories)[1, 4], rel=1e-5)]
    ]  # fmt: skip


def test_a_history_continues_in_its_cluster(model: NeuMFModel) -> None:
    """Quality floor: each cluster is one in six of the items."""
    rows = [[15 * cluster + at for at in (1, 4, 7)] for cluster in range(6)]
    best = np.argsort(-model.scores(histories_of(rows, 4)), axis=1)[:, :10]
    assert np.mean(best // 15 == np.arange(6)[:, None]) > 0.9


def test_the_network_finds_what_an_inner_product_cannot() -> None:
    """Two dimensions cannot hold eight clusters of which each user likes one; the network over both sides can."""
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(240), 8)
    items = (users % 8) * 6 + random.integers(6, size=len(users))
    data = TrainingSet.from_columns(users, items, IDS[:48], np.ones(len(users), np.float32), np.arange(len(users)))
    narrow = replace(CONFIG, factors=1, hidden=16, max_epochs=20, patience=20, learning_rate=0.03)
    model = fit(data, narrow)
    histories = histories_of([[6 * cluster + at for at in range(2)] for cluster in range(8)], 3)
    share = {}
    for name, scores in (("both", model.scores(histories)), ("product", model.encode(histories) @ model.item_vectors.T)):
        share[name] = np.mean(np.argsort(-scores, axis=1)[:, :6] // 6 == np.arange(8)[:, None])
    assert share["both"] > 0.9 > 0.6 > share["product"]


def served(model: NeuMFModel, exact_items: int) -> tuple[Engine, np.ndarray]:
    engine = Engine(EngineConfig(exact_items=exact_items, source_weights={"neumf": 1.0}, list_size=6, reasons=True))
    for number in range(N_ITEMS + 3):
        engine.describe_item(number, ItemContent(["c"]))
    engine.users.load(dict.fromkeys("abc"))
    slots = np.array([engine.users.slot(user) for user in "abc"], np.int64)
    engine.serve(model.kind, "v", model, {item_id: at for at, item_id in enumerate(IDS)})
    liked = np.array([0, 4, 7, 40], np.uint32)
    batch = Interactions(
        slots[:2], np.array([3, 1]), liked, np.arange(4, dtype=np.uint32), np.full(4, 32, np.int8), np.zeros(4, np.int8),
        np.arange(4, dtype=np.int32), np.arange(4),
    )  # fmt: skip
    engine.learn_histories(engine.derive(batch))
    return engine, slots


@pytest.mark.parametrize("exact_items", [1_000, 10], ids=["small", "large"])
def test_lists_are_ranked_by_the_whole_score(exact_items: int, model: NeuMFModel) -> None:
    engine, slots = served(model, exact_items)
    vectors, context = engine.encode(slots), engine.shared(10)
    users, positions = context.users(slots, vectors), engine.models["neumf"].positions[:N_ITEMS]
    (source,) = engine._lists._active(context, vectors)
    assert isinstance(source, PairSource) and source.product(users, context) is None
    logits = model.scores(histories_of([[0, 4, 7], [40], []], 4))[:, positions]
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected[2] = 0
    every = np.tile(np.arange(N_ITEMS + 3), (3, 1))
    found = source.score(users, every, context)
    np.testing.assert_allclose(found[:, :N_ITEMS], expected, rtol=1e-3, atol=1e-6)
    assert not found[:, N_ITEMS:].any(), "items that the model does not know"
    if engine.is_large:
        by_product = vectors["neumf"] @ model.item_vectors[positions].T
        assert source.nominate(users, context, 5)[0].tolist() == np.argsort(-by_product[0])[:5].tolist()
    lists, own = engine.recommend(slots, vectors, context), ([0, 4, 7], [40])
    for row in range(2):
        best = expected[row].copy()
        best[own[row]] = 0
        n_sure = 6 if not engine.is_large else 3
        assert lists.items[row, :n_sure].tolist() == np.argsort(-best, kind="stable")[:n_sure].tolist()


def test_an_item_counts_once_and_a_dislike_not_at_all(model: NeuMFModel) -> None:
    np.testing.assert_allclose(model.encode(histories_of([[5]], 8)), model.encode(histories_of([[5] * 8], 8)), rtol=1e-5)
    histories = histories_of([[1, 2, 3]], 6)
    histories.weights[0, -1] = -1
    np.testing.assert_allclose(model.encode(histories), model.encode(histories_of([[1, 2]], 6)), rtol=1e-5)
    assert not model.encode(Histories(histories.items, -np.abs(histories.weights), histories.ages_s)).any()


def test_a_stored_model_with_wrong_tensors_is_refused(model: NeuMFModel) -> None:
    tensors = {name: array.copy() for name, array in model.tensors().items()}
    with pytest.raises(ShapeError, match="wide_items"):
        load_model("neumf", {**model.config, "hidden": 16}, model.item_ids, tensors)
    with pytest.raises(ModelError, match="neumf option reads"):
        NeuMFConfig(reads="after")


def test_the_largest_numbers_that_are_allowed_make_finite_scores() -> None:
    huge = {name: torch.full(shape, MAX_WEIGHT) for name, shape in Pairs.shapes(4, 2, 1_024).items()}
    model = NeuMFModel(NeuMFConfig(factors=2, hidden=1_024), list("abcd"), Pairs(**huge))
    check_model(model)
    assert np.isfinite(model.scores(histories_of([[0, 1, 2, 3]], 4))).all()


def test_a_training_without_two_preferences_of_a_user_is_refused() -> None:
    with pytest.raises(TooFewInteractions, match="neumf"):
        fit(TrainingSet.from_columns(np.arange(3), np.arange(3), IDS, np.ones(3, np.float32), np.arange(3)), CONFIG)
