"""A map from content serves only where content tells what users choose, and its items take no more places than they are worth."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.catalogue.items import Catalogue, ItemContent
from recsys.catalogue.words import Words, words_of
from recsys.evaluation import content_maps
from recsys.evaluation.content_maps import learn_map
from recsys.models.ials.model import IALSConfig, IALSModel, fit
from recsys.models.training_set import TrainingSet
from tests.unit.recsys.models.model_cases import ITEMS_PER_CLUSTER, N_CLUSTERS, N_ITEMS, clustered


@pytest.fixture(scope="module")
def trained() -> tuple[IALSModel, TrainingSet]:
    entries = clustered().entries(100)
    return fit(entries, IALSConfig(factors=8, epochs=6, unobserved_weight=0.05, regularisation=0.02)), entries


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_maps, "LEAST_ITEMS", 40)


def words(model: IALSModel, category_of: list[int]) -> Words:
    catalogue = Catalogue()
    for number, item_id in enumerate(model.item_ids):
        catalogue.put(number, ItemContent([f"c{category_of[int(item_id.removeprefix('item-'))]}"]))
    return words_of(catalogue, np.arange(len(model.item_ids)))


CLUSTERS = [number // ITEMS_PER_CLUSTER for number in range(N_ITEMS)]


def test_where_categories_are_tastes_a_map_puts_items_beside_those_of_their_taste(trained: tuple[IALSModel, TrainingSet]) -> None:
    model, entries = trained
    learnt = learn_map(model, entries, words(model, CLUSTERS))
    assert learnt.content_map is not None and learnt.ndcg > 2 * learnt.chance
    by_category = learnt.content_map.vectors(words(model, CLUSTERS))[0]
    own = np.array([CLUSTERS[int(item_id.removeprefix("item-"))] for item_id in model.item_ids])
    centres = np.stack([model.item_vectors[own == cluster].mean(axis=0) for cluster in range(N_CLUSTERS)])
    cosines = by_category @ centres.T / np.linalg.norm(centres, axis=1)
    assert (cosines.argmax(axis=1) == own).all()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_where_categories_say_nothing_no_map_serves(trained: tuple[IALSModel, TrainingSet], seed: int) -> None:
    model, entries = trained
    learnt = learn_map(model, entries, words(model, np.random.default_rng(seed).permutation(CLUSTERS).tolist()))
    assert learnt.content_map is None and "not better beyond chance" in learnt.reason


def test_the_same_seed_gives_the_same_map(trained: tuple[IALSModel, TrainingSet]) -> None:
    model, entries = trained
    maps = [learn_map(model, entries, words(model, CLUSTERS), seed=4).content_map for _ in range(2)]
    assert maps[0] is not None and maps[1] is not None and maps[0].gain == maps[1].gain
    np.testing.assert_array_equal(maps[0].weights, maps[1].weights)


def test_too_few_items_or_users_are_named(trained: tuple[IALSModel, TrainingSet], monkeypatch: pytest.MonkeyPatch) -> None:
    model, entries = trained
    assert "only 0 items with events say anything" in learn_map(model, entries, Words([[] for _ in model.item_ids], {})).reason
    monkeypatch.setattr(content_maps, "LEAST_USERS", 10_000)
    assert "users chose an item that was held out" in learn_map(model, entries, words(model, CLUSTERS)).reason


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_gain_undoes_the_length_of_the_vectors_so_that_items_neither_flood_nor_vanish(
    trained: tuple[IALSModel, TrainingSet], scale: float
) -> None:
    model, entries = trained
    held = np.arange(0, len(model.item_ids), 5)
    cases = content_maps._cases(model, entries, np.arange(len(model.item_ids)), held)
    plain = content_maps._gain(model, cases, held, model.item_vectors[held])
    scaled = content_maps._gain(model, cases, held, np.float32(scale) * model.item_vectors[held])
    assert scaled * scale == pytest.approx(plain, rel=0.01)
    vectors = model.item_vectors.copy()
    vectors[held] *= np.float32(plain)
    scores = cases.vectors @ vectors.T
    n_held, n_known = 0, sum(map(len, cases.left_out))
    for user, (row, read, own) in enumerate(zip(scores, cases.read, cases.held, strict=True)):
        asked = content_maps._one_in_five(len(own), user)
        row[read], row[held[own[~asked]]] = -np.inf, -np.inf
        n_held += int(asked.sum())
    share = np.isin(np.argsort(-scores, axis=1)[:, :10], held).mean()
    assert share == pytest.approx(n_held / (n_held + n_known), abs=0.02)
