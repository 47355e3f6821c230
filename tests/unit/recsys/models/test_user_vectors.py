"""Scores of users with several vectors, wherever they are computed."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.errors import ModelError
from recsys.lists.extended import ExtendedItems
from recsys.lists.sources.base import Product
from recsys.lists.sources.models import _best_distinct
from recsys.models.base import F32, Histories
from recsys.models.checks import check_model
from recsys.models.user_vectors import best_products, each_vector, has_vector, nearest
from tests.toy_model import ToyModel

ITEMS = np.array([[1, 0], [0, 1], [-1, -1]], np.float32)
VECTORS = np.array([[[2, 0], [0, 3]], [[-1, -2], [0, 0]], [[0, 0], [0, 0]]], np.float32)
EXPECTED = np.array([[2, 3, -2], [-1, -2, 3], [0, 0, 0]], np.float32)
"""The largest products; a vector of zeros does not count, so the second user's scores may be below 0."""


def test_the_largest_product_counts_and_a_vector_of_zeros_is_none() -> None:
    np.testing.assert_array_equal(best_products(VECTORS, ITEMS), EXPECTED)
    assert has_vector(VECTORS).tolist() == [True, True, False]
    np.testing.assert_array_equal(best_products(VECTORS[:, 0], ITEMS), VECTORS[:, 0] @ ITEMS.T)
    assert [one.tolist() for one in each_vector(VECTORS)] == VECTORS.transpose(1, 0, 2).tolist()
    assert has_vector(np.zeros((0, 2, 3), np.float32)).shape == (0,)


def test_the_nearest_vector_is_the_one_that_gives_the_score() -> None:
    rows = np.array([0, 0, 1, 1])
    found = nearest(VECTORS, rows, ITEMS[[0, 1, 0, 2]])
    np.testing.assert_array_equal(found, [[2, 0], [0, 3], [-1, -2], [-1, -2]])
    np.testing.assert_array_equal(nearest(VECTORS[:, 1], rows, ITEMS[[0, 1, 0, 2]]), VECTORS[rows, 1])


def test_a_small_catalogue_is_scored_by_the_largest_product() -> None:
    raw = np.empty((3, 3), np.float32)
    Product(VECTORS, np.asfortranarray(ITEMS)).write(slice(0, 3), raw)
    np.testing.assert_array_equal(raw, EXPECTED)
    numbers = np.tile(np.arange(3), (3, 1))
    softened = Product(VECTORS, np.asfortranarray(ITEMS), "softmax").scores(numbers)
    np.testing.assert_allclose(softened[:2], np.exp(EXPECTED[:2] - EXPECTED[:2].max(axis=1, keepdims=True)), rtol=1e-6)
    assert not softened[2].any()


def test_items_by_content_are_scored_by_the_largest_product() -> None:
    extended = ExtendedItems(2, 5)
    extended.put(np.array([2, 3, 4]), ITEMS, np.ones(3, np.bool_))
    assert extended.nominated(VECTORS, 1).tolist()[:2] == [[3], [4]]
    scores = np.full((3, 2), 9, np.float32)
    found = extended.add_products(VECTORS, np.array([[2, 1], [4, 0], [-1, 3]]), scores)
    assert found.tolist() == [[True, False], [True, False], [False, True]]
    assert scores.tolist() == [[2, 9], [3, 9], [9, 0]]


def test_a_row_that_two_searches_found_is_nominated_once() -> None:
    rows = np.array([[4, 2, 4, 7], [1, -1, -1, -1]])
    scores = np.array([[1, 5, 6, 2], [1, -np.inf, -np.inf, -np.inf]], np.float32)
    assert _best_distinct(rows, scores, 2).tolist() == [[4, 2], [1, -1]]
    assert _best_distinct(rows, scores, 4).tolist() == [[4, 2, 7, -1], [1, -1, -1, -1]]


class Many(ToyModel):
    """A model of more vectors than a user's row has room for."""

    def encode(self, histories: Histories) -> F32:
        return np.repeat(super().encode(histories)[:, None], 17, axis=1)


def test_a_model_of_too_many_vectors_is_refused() -> None:
    with pytest.raises(ModelError, match="17 vectors of a history, at most 16"):
        check_model(Many(["a", "b"], "identity"))
