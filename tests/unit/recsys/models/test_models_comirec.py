"""ComiRec: several vectors of a user, from training to lists."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.catalogue.item_content import ItemContent
from recsys.engine import Engine, EngineConfig
from recsys.errors import ModelError, ShapeError, TooFewInteractions
from recsys.models.base import Histories
from recsys.models.comirec.config import ComiRecConfig
from recsys.models.comirec.interests import Interests, Read, Sizes, loss_of
from recsys.models.comirec.model import ComiRecModel
from recsys.models.comirec.training import fit
from recsys.models.registry import load_model
from recsys.models.training_set import TrainingSet
from recsys.models.user_vectors import best_products
from recsys.state.interactions import Interactions
from recsys.state.user_row import Embedding, model_tag, unpack_row
from tests.unit.recsys.models.model_cases import histories_of

pytestmark = pytest.mark.xdist_group("models_comirec")  # a model is trained once, in one process

N_TASTES, OF_TASTE = 12, 8
N_ITEMS = N_TASTES * OF_TASTE
IDS = [f"i{at}" for at in range(N_ITEMS)]
CONFIG = ComiRecConfig(factors=4, interests=3, hidden=16, max_epochs=25, patience=25, learning_rate=0.03, targets=4, regularisation=0.0)


def mixed(n_users: int = 240, length: int = 12, seed: int = 1) -> TrainingSet:
    """Users with two of twelve tastes each, at random; each choice is an item of one of the two."""
    random = np.random.default_rng(seed)
    users, items = np.repeat(np.arange(n_users), length), np.empty(n_users * length, np.int64)
    for user in range(n_users):
        tastes = random.choice(N_TASTES, 2, replace=False)
        items[user * length : (user + 1) * length] = random.choice(tastes, length) * OF_TASTE + random.integers(OF_TASTE, size=length)
    return TrainingSet.from_columns(users, items, IDS, np.ones(len(users), np.float32), np.tile(np.arange(length) * 60_000, n_users))


def found_of_both(model: ComiRecModel) -> float:
    """Return which share of the items of two tastes is among the best ones for a user who chose three of each."""
    pairs = [(one, other) for one in range(N_TASTES) for other in range(one)]
    rows = [[one * OF_TASTE + at for at in range(3)] + [other * OF_TASTE + at for at in range(3)] for one, other in pairs]
    position = {item_id: at for at, item_id in enumerate(model.item_ids)}
    scores = best_products(model.encode(histories_of([[position[IDS[item]] for item in row] for row in rows], 8)), model.item_vectors)
    best = np.argsort(-scores, axis=1)[:, : 2 * OF_TASTE]
    tastes = np.array([IDS.index(item_id) // OF_TASTE for item_id in model.item_ids])[best]
    return float(np.mean([np.isin(own, pair).mean() for own, pair in zip(tastes, pairs, strict=True)]))


@pytest.fixture(scope="module")
def model() -> ComiRecModel:
    return fit(mixed(), CONFIG)


def test_several_vectors_find_both_tastes_where_one_cannot(model: ComiRecModel) -> None:
    """Quality floor: twelve tastes in four dimensions, so the sum of two tastes is near to others, too."""
    one = fit(mixed(), replace(CONFIG, interests=1))
    assert found_of_both(model) > 0.8
    assert found_of_both(model) > found_of_both(one) + 0.1


def test_training_and_serving_make_the_same_vectors(model: ComiRecModel) -> None:
    rows = [[1, 2, 30, 31, 32], [50], [7, 8]]
    histories = histories_of(rows, 6)
    lengths = np.array([len(row) for row in rows])
    ts_ms = np.concatenate([np.arange(n) * 60_000 for n in lengths])
    found = model.trained.users(Read.of(np.concatenate(rows), ts_ms, lengths))
    np.testing.assert_allclose(model.encode(histories), found.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_the_loss_is_that_of_the_score_that_serves() -> None:
    generator = torch.Generator().manual_seed(0)
    users, items = torch.randn((3, 2, 4), generator=generator), torch.randn((5, 4), generator=generator)
    rows, places = torch.tensor([0, 0, 2]), torch.tensor([1, 4, 3])
    scores = torch.from_numpy(best_products(users.numpy(), items.numpy()))
    expected = torch.nn.functional.cross_entropy(scores[rows], places)
    assert float(loss_of(users, items, rows, places, None)) == pytest.approx(float(expected), rel=1e-5)


def test_thinned_histories_keep_the_newest_item() -> None:
    read = Read.of(np.arange(40), np.arange(40), np.array([30, 10]))
    thinned = read.thinned(0.5, np.random.default_rng(0))
    assert thinned.inside[0, 29] and thinned.inside[1, 9]
    assert 5 < int(thinned.inside.sum()) < 35 and not (thinned.inside & ~read.inside).any()
    assert read.thinned(0.0, np.random.default_rng(0)) is read


def test_an_item_counts_once_and_a_dislike_not_at_all(model: ComiRecModel) -> None:
    np.testing.assert_allclose(model.encode(histories_of([[5]], 8)), model.encode(histories_of([[5] * 8], 8)), rtol=1e-5)
    histories = histories_of([[1, 2, 3]], 6)
    histories.weights[0, -1] = -1
    histories.ages_s[0] -= 60
    np.testing.assert_allclose(model.encode(histories), model.encode(histories_of([[1, 2]], 6)), rtol=1e-4, atol=1e-6)
    assert not model.encode(Histories(histories.items, -np.abs(histories.weights), histories.ages_s)).any()


def served(model: ComiRecModel, exact_items: int) -> tuple[Engine, np.ndarray]:
    engine = Engine(EngineConfig(exact_items=exact_items, source_weights={"comirec": 1.0}, list_size=6, reasons=True))
    for number in range(N_ITEMS):
        engine.describe_item(number, ItemContent(["c"]))
    engine.users.load(dict.fromkeys("abc"))
    slots = np.array([engine.users.slot(user) for user in "abc"], np.int64)
    engine.serve(model.kind, "v", model, {item_id: at for at, item_id in enumerate(IDS)})
    liked = np.array([0, 1, 2, 40, 41, 42, 88, 89], np.uint32)
    batch = Interactions(
        slots[:2], np.array([6, 2]), liked, np.arange(8, dtype=np.uint32), np.full(8, 32, np.int8), np.zeros(8, np.int8),
        np.arange(8, dtype=np.int32), np.arange(8),
    )  # fmt: skip
    engine.learn_histories(engine.derive(batch))
    return engine, slots


@pytest.mark.parametrize("exact_items", [1_000, 10], ids=["small", "large"])
def test_lists_hold_what_is_nearest_to_one_of_the_vectors(exact_items: int, model: ComiRecModel) -> None:
    engine, slots = served(model, exact_items)
    vectors, context = engine.encode(slots), engine.shared(10)
    assert vectors["comirec"].shape == (3, 3, 5) and not vectors["comirec"][2].any()
    users, serving = context.users(slots, vectors), engine.models["comirec"]
    logits = best_products(vectors["comirec"], model.item_vectors[serving.positions])
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected[2] = 0
    (source,) = engine._lists._active(context, vectors)
    np.testing.assert_allclose(source.score(users, np.tile(np.arange(N_ITEMS), (3, 1)), context), expected, rtol=1e-4, atol=1e-6)
    lists = engine.recommend(slots, vectors, context)
    for row, own in ((0, [0, 1, 2, 40, 41, 42]), (1, [88, 89])):
        best = expected[row].copy()
        best[own] = 0
        assert lists.items[row].tolist() == np.argsort(-best, kind="stable")[:6].tolist()
    assert {int(item) // OF_TASTE for item in lists.items[0]} == {0, 5}
    numbers = source.nominate(users, context, 20) if engine.is_large else np.zeros((3, 0), np.int64)
    assert all(len(set(row.tolist())) == len(row) for row in numbers[:2])


def test_a_catalogue_that_becomes_large_lists_the_same(model: ComiRecModel) -> None:
    engine, slots = served(model, N_ITEMS + 20)
    before = engine.recommend(slots, engine.encode(slots), 10).items[:2]
    engine.ensure_items(N_ITEMS + 40)
    assert engine.is_large
    assert np.array_equal(engine.recommend(slots, engine.encode(slots), 10).items[:2], before)


def test_a_users_row_holds_each_of_the_vectors(model: ComiRecModel) -> None:
    engine, slots = served(model, 1_000)
    vectors = engine.encode(slots)
    rows = engine.users.pack(slots.tolist(), engine.embeddings(vectors, len(slots)))
    held = unpack_row(rows[0]).embeddings
    assert len(held) == 3 and all(isinstance(one, Embedding) and one.tag == model_tag("comirec", "v") for one in held)
    np.testing.assert_allclose([one.vector() for one in held], vectors["comirec"][0], atol=float(np.abs(vectors["comirec"]).max()) / 127)


def test_a_stored_model_with_wrong_tensors_is_refused(model: ComiRecModel) -> None:
    tensors = {name: array.copy() for name, array in model.tensors().items()}
    with pytest.raises(ShapeError, match="narrow"):
        load_model("comirec", {**model.config, "interests": 2}, model.item_ids, tensors)
    with pytest.raises(ModelError, match="comirec option interests"):
        load_model("comirec", {**model.config, "interests": 17}, model.item_ids, tensors)
    with pytest.raises(ModelError, match="comirec option reads"):
        ComiRecConfig(reads="after")


def test_a_training_without_two_preferences_of_a_user_is_refused() -> None:
    with pytest.raises(TooFewInteractions, match="comirec"):
        fit(TrainingSet.from_columns(np.arange(3), np.arange(3), IDS, np.ones(3, np.float32), np.arange(3)), CONFIG)


def test_shapes_name_every_tensor() -> None:
    assert set(Interests.shapes(Sizes(1, 1, 1, 1))) == set(Interests._fields)
