"""The map from content is the ridge regression that it says, reads values by name, and survives the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.catalogue.items import Catalogue, ItemContent
from recsys.catalogue.words import words_of
from recsys.errors import ModelError, ShapeError
from recsys.models.content_map import OPTION, ContentMap, Features, MappedModel, Ridge, as_map, chosen
from recsys.models.ials.model import IALSConfig, IALSModel
from workers.models.manifest import TrainedOn
from workers.models.store import ModelStore

CONTENTS = (
    ItemContent(["a", "b"], {"brand": "x"}, published_s=0, embeddings={"text": [3.0, 4.0]}),
    ItemContent(["b"], {"brand": "x", "size": "1"}, embeddings={"text": [1.0, 0.0], "image": [2.0]}),
    ItemContent(["a"], {"brand": "y"}, published_s=0, embeddings={"text": [0.0, -2.0]}),
    ItemContent(),
)
NUMBERS = np.arange(len(CONTENTS))


def catalogue(order: list[int] | None = None, *, is_large: bool = False) -> Catalogue:
    made = Catalogue()
    for number in range(len(CONTENTS)) if order is None else order:
        made.put(number, CONTENTS[number])
    if is_large:
        made.compact()
    return made


def content_map(seed: int = 0, width: int = 3) -> ContentMap:
    features, random = Features.of(words_of(catalogue(), NUMBERS)), np.random.default_rng(seed)
    weights = random.normal(size=(features.width, width)).astype(np.float32)
    return ContentMap(features, weights, random.normal(size=width).astype(np.float32), 1.5)


def test_words_are_values_by_name_and_embeddings_of_unit_length() -> None:
    words = words_of(catalogue(), NUMBERS)
    assert dict(words.values[0])["category\x1fa"] == pytest.approx(2**-0.5)
    assert dict(words.values[0])["attribute.brand\x1fx"] == 1.0
    assert dict(words.values[1])["attribute.size\x1f1"] == pytest.approx(2**-0.5), "a value that no other item has counts, too"
    assert sum(weight**2 for value, weight in words.values[0] if value.startswith("era")) == pytest.approx(1.0)
    assert words.values[3] == []
    rows, vectors = words.embeddings["text/2"]
    np.testing.assert_allclose(vectors[rows == 0], [[0.6, 0.8]], atol=1e-6)


@given(st.permutations(range(len(CONTENTS))), st.booleans())
@settings(max_examples=20)
def test_vectors_do_not_depend_on_the_catalogue_that_items_are_in(order: list[int], is_large: bool) -> None:
    expected, known = content_map().vectors(words_of(catalogue(), NUMBERS))
    found, also = content_map().vectors(words_of(catalogue(order, is_large=is_large), NUMBERS))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert known.tolist() == also.tolist() == [True, True, True, False]
    assert not found[3].any(), "an item that says nothing has no place"


def test_distinct_values_of_distinct_names_have_distinct_words() -> None:
    made = Catalogue()
    for number, attributes in enumerate(({"y": "=1"}, {"y=": "1"}, {"y": "1"}, {"category": "a"})):
        made.put(number, ItemContent(["=a"], attributes))
    words = [value for said in words_of(made, NUMBERS).values for value, _ in said]
    assert len(set(words)) == 5, "four attributes, and one category that all have"


def test_the_features_are_frequent_values_and_shared_embeddings() -> None:
    features = Features.of(words_of(catalogue(), NUMBERS))
    assert {"category\x1fa", "category\x1fb", "attribute.brand\x1fx"} <= set(features.values)
    assert "attribute.brand\x1fy" not in features.values and features.blocks == (("text/2", 2),)


def test_ridge_minimises_the_weighted_squares() -> None:
    random = np.random.default_rng(0)
    x, y, counts = random.normal(size=(40, 5)), random.normal(size=(40, 2)), random.integers(1, 90, 40)
    weights, bias = Ridge(x.astype(np.float32), y.astype(np.float32), counts).solve(3.0)
    c = counts / (counts + 10)
    with_one = np.concatenate((x, np.ones((40, 1))), axis=1)
    penalty = np.diag([3.0 * c.mean()] * 5 + [0.0])
    direct = np.linalg.solve(with_one.T @ (with_one * c[:, None]) + penalty, with_one.T @ (y * c[:, None]))
    np.testing.assert_allclose(weights, direct[:5], atol=1e-4)
    np.testing.assert_allclose(bias, direct[5], atol=1e-4)


def test_a_part_of_the_items_says_what_it_says_alone() -> None:
    words = words_of(catalogue(), NUMBERS)
    some = chosen(words, [2, 1])
    np.testing.assert_array_equal(content_map().vectors(some)[0], content_map().vectors(words)[0][[2, 1]])


def test_a_map_is_stored_with_its_model_and_the_model_alone_is_what_it_was(tmp_path: Path) -> None:
    store, made = ModelStore(str(tmp_path)), content_map()
    model = IALSModel(IALSConfig(factors=3), ["p", "q"], np.eye(2, 3, dtype=np.float32))
    on = TrainedOn(n_events=1, first_event_ts_ms=10**12, last_event_ts_ms=10**12, next_offsets={})
    saved = store.save(
        MappedModel(model, made),
        parent=None,
        metrics={},
        decision="",
        trained_on=on,
        trained_ts_ms=10**12,
        train_s=0,
        refit=None,
        code_version="1",
    )
    stored = store.load_stored("ials", saved.version)
    assert isinstance(stored.served, MappedModel) and isinstance(stored.model, IALSModel)
    np.testing.assert_array_equal(stored.model.item_vectors, model.item_vectors)
    words = words_of(catalogue(), NUMBERS)
    np.testing.assert_array_equal(stored.served.content_map.vectors(words)[0], made.vectors(words)[0])


def test_a_damaged_map_is_refused() -> None:
    made = content_map()
    good, tensors = made.config(), made.tensors()
    for config, changed, said in (
        ({}, {}, "incomplete"),
        ({**good, "gain": 0}, {}, "the gain of a map"),
        ({**good, "gain": float("nan")}, {}, "the gain of a map"),
        ({**good, "values": ["a", "a"]}, {}, "names a value twice"),
        ({**good, "blocks": [["text", 0]]}, {}, "without dimensions"),
        ({**good, "values": good["values"][1:]}, {}, "has weights"),
        (good, {f"{OPTION}.bias": np.zeros(2, np.float32)}, "has weights"),
        (good, {f"{OPTION}.weights": np.full_like(made.weights, np.nan)}, "not finite"),
    ):
        with pytest.raises((ModelError, ShapeError), match=said):
            ContentMap.from_tensors(config, tensors | changed)
    with pytest.raises(ShapeError, match="the map has 3 dimensions, the model 2"):
        MappedModel(IALSModel(IALSConfig(factors=2), ["p"], np.ones((1, 2), np.float32)), as_map(made.features, (made.weights, made.bias)))
