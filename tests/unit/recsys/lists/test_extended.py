"""Items that a model does not know have a place in it by what they say, in small and in large catalogues."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from recsys.catalogue.item_vectors import ItemVectors, text_digests
from recsys.catalogue.items import ItemContent
from recsys.engine import Engine, EngineConfig
from recsys.lists import serving
from recsys.lists.sources.models import ModelSource
from recsys.models.content_map import ContentMap, Features, MappedModel
from recsys.models.ials.model import IALSConfig, IALSModel
from tests.builders import batch_of, learn

KNOWN, NEW = 12, 4
N = KNOWN + NEW
D = 3
IDS = {f"i{number}": number for number in range(N)}


def model(seed: int = 0) -> MappedModel:
    random = np.random.default_rng(seed)
    features = Features(("category\x1fa", "category\x1fb"), (("\x00text/2", 2),))
    weights = random.normal(size=(4, D)).astype(np.float32)
    vectors = np.abs(random.normal(size=(KNOWN, D))).astype(np.float32)
    own = IALSModel(IALSConfig(factors=D), [f"i{number}" for number in range(KNOWN)], vectors)
    return MappedModel(own, ContentMap(features, weights, np.full(D, 0.1, np.float32), 2.0))


def engine(is_large: bool) -> Engine:
    made = Engine(EngineConfig(exact_items=1 if is_large else 100, source_weights={"ials": 1.0}))
    made.ensure_items(N)
    made.neighbours.hold_all()
    for number in range(N):
        made.describe_item(number, ItemContent(["ab"[number % 2]]))
    made.users.load({"u": None, "nobody": None})
    return made


def scores(made: Engine, link: Literal["identity", "softmax"] = "identity") -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Raw scores of all items for one user with a vector and one without, (2, N)."""
    context = made.shared(1_000)
    slots = np.array([made.users.slot("u"), made.users.slot("nobody")])
    users = context.users(slots, {"ials": np.array([[1.0, 0.5, 0.2], [0, 0, 0]], np.float32)})
    return ModelSource("ials").score(users, np.tile(np.arange(N), (2, 1)), context)


def expected(mapped: MappedModel, features: list[list[float]]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    vectors = (np.array(features) @ mapped.content_map.weights + 0.1) * 2.0
    return np.maximum(vectors @ [1.0, 0.5, 0.2], 0)


KINDS = pytest.mark.parametrize("is_large", [False, True])
A, B = [1.0, 0, 0, 0], [0, 1.0, 0, 0]


@KINDS
def test_new_items_are_scored_by_what_they_say_and_known_ones_by_their_events(is_large: bool) -> None:
    made, mapped = engine(is_large), model()
    made.serve("ials", "1", mapped.model, IDS)
    alone = scores(made)
    assert not alone[:, KNOWN:].any()
    made.serve("ials", "2", mapped, IDS)
    found = scores(made)
    np.testing.assert_allclose(found[:, :KNOWN], alone[:, :KNOWN], atol=1e-6)
    np.testing.assert_allclose(found[0, KNOWN:], expected(mapped, [A, B, A, B]), atol=1e-5)
    assert not found[1].any(), "nothing is known of this user"


@KINDS
def test_an_item_follows_what_it_says_and_its_text(is_large: bool) -> None:
    made, mapped = engine(is_large), model()
    made.serve("ials", "1", mapped, IDS)
    made.describe_item(KNOWN, ItemContent(["b"]))
    made.describe_item(KNOWN + 1, ItemContent())
    texts = ItemVectors([f"i{KNOWN + 2}"], np.array([[0.6, 0.8]], np.float16), text_digests(["t"], "e"), "e")
    for numbers, vectors in texts.changes(IDS):
        made.supply_texts(numbers, vectors)
    found = scores(made)[0, KNOWN:]
    np.testing.assert_allclose(found, [*expected(mapped, [B]), 0, *expected(mapped, [[1, 0, 0.6, 0.8], B])], atol=2e-3)
    for numbers, vectors in ItemVectors([], texts.vectors[:0], texts.digests[:0], "e").changes(IDS, texts):
        made.supply_texts(numbers, vectors)
    np.testing.assert_allclose(scores(made)[0, KNOWN + 2], expected(mapped, [A])[0], atol=1e-5)


@KINDS
def test_an_item_that_the_model_knows_keeps_its_own_vector_whatever_it_says(is_large: bool) -> None:
    made = engine(is_large)
    made.serve("ials", "1", model(), IDS)
    before = scores(made)[0, 0]
    made.describe_item(0, ItemContent(["b"]))
    assert scores(made)[0, 0] == pytest.approx(before)


@KINDS
def test_an_item_that_comes_after_the_model_has_a_place_when_it_is_described(is_large: bool) -> None:
    made, mapped = engine(is_large), model()
    made.serve("ials", "1", mapped, IDS)
    made.describe_item(N, ItemContent(["a"]))
    context = made.shared(1_000)
    users = context.users(np.array([made.users.slot("u")]), {"ials": np.array([[1.0, 0.5, 0.2]], np.float32)})
    found = ModelSource("ials").score(users, np.array([[N]]), context)
    np.testing.assert_allclose(found, [expected(mapped, [A])], atol=1e-5)


def test_new_items_keep_their_places_when_the_catalogue_becomes_large() -> None:
    made, mapped = engine(False), model()
    made.serve("ials", "1", mapped, IDS)
    before = scores(made)
    made._become_large()
    np.testing.assert_allclose(scores(made), before, atol=1e-5)


def test_a_large_catalogue_nominates_new_items() -> None:
    made, mapped = engine(True), model()
    made.serve("ials", "1", mapped, IDS)
    context = made.shared(1_000)
    users = context.users(np.array([made.users.slot("u")]), {"ials": np.array([[1.0, 0.5, 0.2]], np.float32)})
    assert set(range(KNOWN, N)) <= set(ModelSource("ials").nominate(users, context, N)[0].tolist())
    nobody = context.users(np.array([made.users.slot("u")]), {"ials": np.zeros((1, D), np.float32)})
    assert (ModelSource("ials").nominate(nobody, context, N) == -1).all()


@KINDS
def test_new_items_are_on_lists(is_large: bool) -> None:
    made, mapped = engine(is_large), model()
    for number in range(KNOWN, N):
        made.describe_item(number, ItemContent(["a"]))
    slots = np.array([made.users.slot("u")])
    learn(made, batch_of(slots.tolist(), [2], [0, 1], [1_000, 1_001], [32, 32]))
    made.serve("ials", "1", mapped.model, IDS)
    without = made.recommend(slots, made.encode(slots), 2_000)
    made.serve("ials", "2", mapped, IDS)
    lists = made.recommend(slots, made.encode(slots), 2_000)
    places = [lists.items[0].tolist().index(number) for number in range(KNOWN, N)]
    assert len(set(places)) == NEW and lists.scores[0][places].min() > without.scores[0].min()


def test_the_newest_items_get_vectors_where_not_all_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MAX_EXTENDED", 2)
    made, mapped = engine(True), model()
    made.serve("ials", "1", mapped, IDS)
    found = scores(made)[0, KNOWN:]
    assert not found[:2].any()
    np.testing.assert_allclose(found[2:], expected(mapped, [A, B]), atol=1e-5)
