"""Vectors that the trainer makes of items' texts take part in content like those that the owner supplies, and outlive a new description."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.catalogue.item_vectors import ItemVectors, text_digests, with_texts
from recsys.catalogue.items import Catalogue, ItemContent
from recsys.errors import ModelError, ShapeError

F32 = NDArray[np.float32]
KINDS = pytest.mark.parametrize("is_large", [False, True])
N, E = 6, 4


def described(is_large: bool) -> Catalogue:
    catalogue = Catalogue()
    for number in range(N):
        catalogue.put(number, ItemContent(categories=[f"c{number % 2}"], embeddings={"image": [1.0, float(number)]}))
    if is_large:
        catalogue.compact()
    return catalogue


def cosines(catalogue: Catalogue) -> F32:
    """Inner products of the features of all items, (N, N)."""
    if catalogue.kinds is None:
        features = catalogue.features[:N]
    else:
        catalogue.kinds.reweigh()
        features = catalogue.kinds.features(catalogue.kinds.of[:N].astype(np.int64), catalogue.width)
    return features @ features.T


def vectors(seed: int = 0, width: int = E) -> F32:
    return np.random.default_rng(seed).normal(size=(N, width)).astype(np.float32)


@KINDS
def test_supplied_vectors_count_like_those_of_the_owner(is_large: bool) -> None:
    given, ours = vectors(), described(is_large)
    theirs = Catalogue()
    for number in range(N):
        content = ItemContent(categories=[f"c{number % 2}"], embeddings={"image": [1.0, float(number)], "text": given[number].tolist()})
        theirs.put(number, content)
    ours.supply(np.arange(N), given)
    np.testing.assert_allclose(cosines(ours), cosines(theirs), atol=1e-5)


@KINDS
def test_supplied_vectors_stay_when_an_item_is_described_again_and_go_when_taken_away(is_large: bool) -> None:
    catalogue, without = described(is_large), cosines(described(is_large))
    catalogue.supply(np.arange(N), vectors())
    before = cosines(catalogue)
    for number in range(N):
        catalogue.put(number, None)
        catalogue.put(number, ItemContent(categories=[f"c{number % 2}"], embeddings={"image": [1.0, float(number)]}))
    np.testing.assert_allclose(cosines(catalogue), before, atol=1e-6)
    catalogue.supply(np.arange(N), np.zeros((N, E), np.float32))
    np.testing.assert_allclose(cosines(catalogue), without, atol=1e-6)


@KINDS
def test_vectors_of_another_language_model_take_the_place_of_all_earlier_ones(is_large: bool) -> None:
    catalogue, anew = described(is_large), described(is_large)
    catalogue.supply(np.arange(N), vectors())
    catalogue.supply(np.arange(2), vectors(1, E + 3)[:2])
    anew.supply(np.arange(2), vectors(1, E + 3)[:2])
    np.testing.assert_allclose(cosines(catalogue), cosines(anew), atol=1e-6)


def test_vectors_survive_that_the_catalogue_becomes_large() -> None:
    catalogue = described(False)
    catalogue.supply(np.arange(N), vectors())
    before = cosines(catalogue)
    catalogue.compact()
    np.testing.assert_allclose(cosines(catalogue), before, atol=1e-6)
    catalogue.supply(np.arange(N), np.zeros((N, E), np.float32))
    np.testing.assert_allclose(cosines(catalogue), cosines(described(True)), atol=1e-6)


def test_the_trainers_contents_have_the_features_of_a_workers_catalogue() -> None:
    texts, contents = item_vectors(), {n: ItemContent(categories=[f"c{n % 2}"], embeddings={"image": [1.0, float(n)]}) for n in range(N)}
    trainers, workers = Catalogue(), described(False)
    for number, content in with_texts(contents, texts.item_ids, texts).items():
        trainers.put(number, content)
    workers.supply(np.arange(N), texts.vectors.astype(np.float32))
    np.testing.assert_allclose(cosines(trainers), cosines(workers), atol=1e-6)


def item_vectors(texts: str = "abcdef", encoder: str = "e") -> ItemVectors:
    rows = vectors()[: len(texts)].astype(np.float16)
    return ItemVectors([f"i{n}" for n in range(len(texts))], rows, text_digests(texts, encoder), encoder)


def test_only_vectors_of_new_texts_and_all_of_another_language_model_have_changed() -> None:
    before = item_vectors()
    assert item_vectors().changed_since(before).tolist() == []
    assert item_vectors("abxdef").changed_since(before).tolist() == [2]
    assert item_vectors("abcd").changed_since(item_vectors("abc")).tolist() == [3]
    assert item_vectors(encoder="f").changed_since(before).tolist() == list(range(6))
    assert item_vectors().changed_since(None).tolist() == list(range(6))


def test_vectors_that_do_not_fit_are_refused() -> None:
    good = item_vectors()
    tensors = good.tensors()
    assert ItemVectors.from_tensors(good.config, good.item_ids, tensors).changed_since(good).tolist() == []
    with pytest.raises(ShapeError, match="lack the tensor digests"):
        ItemVectors.from_tensors(good.config, good.item_ids, {"vectors": good.vectors})
    for item_ids, changed, said in (
        (good.item_ids[:5], {}, "have shape"),
        (good.item_ids, {"digests": good.digests[:, :1]}, "digests of texts have shape"),
        (["i0"] * 6, {}, "one item id"),
        (good.item_ids, {"vectors": good.vectors.astype(np.float32)}, "float16"),
        (good.item_ids, {"vectors": np.full_like(good.vectors, np.inf)}, "not finite"),
    ):
        with pytest.raises((ShapeError, ModelError), match=said):
            ItemVectors.from_tensors(good.config, item_ids, tensors | changed)


def test_values_and_vectors_never_share_a_column() -> None:
    catalogue = Catalogue()
    for number in range(N):
        catalogue.put(number, ItemContent(categories=[f"c{number}"]))
        catalogue.supply(np.array([number]), vectors()[:1])
        catalogue.put(number, ItemContent(categories=[f"c{number}"], attributes={"brand": f"b{number // 2}"}, embeddings={"x": [1.0]}))
        _ = catalogue.features
    columns = [column for block in catalogue.embedding_blocks for column in range(block.start, block.stop)] + catalogue._places
    assert len(columns) == len(set(columns)) == catalogue.width == 5 + N + N // 2
