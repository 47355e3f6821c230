"""Scores, their order, and the draw of the last places."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.lists.candidates import Candidates, Columns, best
from recsys.lists.policy import explore
from recsys.lists.reading import CooccurrenceReading, Recency, Recent
from recsys.state.neighbours import DenseNeighbours
from tests.specification.lists import content_scores, cooccurrence_scores


def recent_of(items: list[int], weights: list[int], times_s: list[int] | None = None) -> Recent:
    times_s = list(range(len(items))) if times_s is None else times_s
    return Recent.of(
        np.array([items], np.uint32), np.array([times_s], np.uint32), np.array([weights], np.int8), np.array([len(items)], np.int32)
    )


CANDIDATES = st.lists(st.tuples(st.sampled_from([-2.0, 0.0, 1.0, 2.5]), st.booleans()), min_size=1, max_size=12)


@given(CANDIDATES, st.integers(1, 9), st.randoms())
def test_the_best_candidates_come_first_and_equal_ones_by_number(candidates: list[tuple[float, bool]], size: int, random: Random) -> None:
    numbers = [number if there else -1 for number, (_, there) in enumerate(candidates)]
    scores = [score for score, _ in candidates]
    order = list(range(len(numbers)))
    random.shuffle(order)
    columns, items, values = best(
        np.array([[scores[at] for at in order]], np.float32), np.array([[numbers[at] for at in order]], np.int64), size
    )
    expected = sorted((-scores[number], number) for number in numbers if number >= 0)[:size]
    n = len(expected)
    assert items[0, :n].tolist() == [number for _, number in expected] and values[0, :n].tolist() == [-score for score, _ in expected]
    assert [numbers[order[column]] for column in columns[0, :n]] == items[0, :n].tolist()
    assert (items[0, n:] == -1).all() and np.isneginf(values[0, n:]).all()


@pytest.mark.parametrize("size", [20, 40, 150, 400])
def test_few_and_many_places_are_filled_alike_whatever_the_scores_are(size: int) -> None:
    random = np.random.default_rng(size)
    scores = np.round(random.standard_normal((4, 213)), 1).astype(np.float32)
    scores[:, :9], scores[1], scores[2, 50:60], scores[3] = -0.0, 3.0, -np.inf, scores[3] * np.float32(1e30)
    numbers = np.stack([random.permutation(500)[:213] for _ in scores])
    numbers[:, 100:110], numbers[0, 5:] = -1, -1
    columns, items, values = best(scores, numbers, size)
    for user in range(len(scores)):
        there = sorted(np.flatnonzero(numbers[user] >= 0).tolist(), key=lambda at: (-scores[user, at], numbers[user, at]))[:size]
        assert columns[user, : len(there)].tolist() == there and (items[user, len(there) :] == -1).all()
        np.testing.assert_array_equal(items[user, : len(there)], numbers[user, there])
        np.testing.assert_array_equal(values[user, : len(there)], scores[user, there])


def test_what_nobody_reads_is_not_gathered_and_each_stage_finds_its_own_places() -> None:
    random, names = np.random.default_rng(3), ("a", "b")
    parts = {name: random.standard_normal((2, 7)).astype(np.float32) for name in names}
    first, second = random.integers(0, 7, (2, 6)), random.integers(0, 6, (2, 4))
    numbers, ones = np.arange(14).reshape(2, 7), np.ones((2, 7), np.float32)
    ranked = Candidates(numbers, parts, {}, ones, parts, ones)
    once = ranked.at(first)
    added = random.standard_normal((2, 6)).astype(np.float32)
    moved = replace(once, parts=Columns.of(once.parts).and_("c", added)).at(second).first(3)
    rows = np.arange(2)[:, None]
    chosen = first[rows, second][:, :3]
    assert list(moved.parts) == ["a", "b", "c"] and list(moved.raw) == ["a", "b"]
    np.testing.assert_array_equal(moved.parts["c"], added[rows, second[:, :3]])
    np.testing.assert_array_equal(moved.raw["b"], parts["b"][rows, chosen])
    np.testing.assert_array_equal(moved.numbers, numbers[rows, chosen])
    assert moved.numbers.flags.c_contiguous and isinstance(moved.parts, Columns) and moved.parts._gathered.keys() == {"c"}
    assert isinstance(once.parts, Columns) and not once.parts._gathered


@given(st.integers(2, 10), st.integers(0, 12), st.integers(1, 30), st.integers(0, 2**62))
@settings(max_examples=60)
def test_explored_places_are_drawn_from_behind_the_fixed_ones_and_again_by_the_same_seed(
    size: int, slots: int, pool: int, seed: int
) -> None:
    scores = -np.tile(np.arange(pool), (3, 1)).astype(np.float32)
    seeds = np.array([seed, seed, seed // 2])
    drawn, propensities = explore(scores, size, slots, seeds)
    k = min(size, pool)
    assert drawn.shape == propensities.shape == (3, k)
    assert all(len(set(row)) == k for row in drawn.tolist())
    assert (drawn[0] == drawn[1]).all()
    assert (explore(scores, size, slots, seeds)[0] == drawn).all()
    fixed = propensities[0] == 1
    assert drawn[0][fixed].tolist() == list(range(int(fixed.sum())))
    if not fixed.all():
        assert int((~fixed).sum()) == slots
        # every candidate of the pool is equally likely, so the probabilities of being listed sum to the places that are drawn
        assert propensities[0][-1] * (pool - int(fixed.sum())) == pytest.approx(slots)


def test_what_may_not_be_listed_is_never_drawn() -> None:
    scores = np.where(np.arange(9) < 6, 1.0, -np.inf).astype(np.float32)
    drawn, propensities = explore(np.tile(scores, (99, 1)), 4, 1, np.arange(99))
    assert set(drawn[:, 3].tolist()) == {3, 4, 5}
    assert propensities[0, 3] == pytest.approx(1 / 3)


def test_every_candidate_of_the_pool_is_drawn_as_often_as_its_propensity_says() -> None:
    n = 4_000
    drawn, propensities = explore(np.zeros((n, 12), np.float32), 6, 2, np.arange(n))
    shares = np.bincount(drawn[:, 4:].ravel(), minlength=12)[4:] / n
    np.testing.assert_allclose(shares, propensities[0, 5], atol=0.03)


def test_the_age_of_an_interaction_counts_from_the_newest_that_was_liked() -> None:
    recent = recent_of([5, 6, 7], [32, 16, -32], [100, 160, 900])
    assert recent.ages_s.tolist() == [[60.0, 0.0, 0.0]]
    assert recent.strengths.tolist() == [[1.0, 0.5, 0.0]]
    assert recent.places.tolist() == [[1.0, 0.0, 0.0]]
    weights = Recency(step=0.5, age_s=60.0).weights(recent)
    assert weights.tolist() == [[0.25, 0.5, 0.0]]


def test_unused_columns_weigh_nothing() -> None:
    recent = Recent.of(
        np.zeros((1, 4), np.uint32), np.array([[0, 0, 7, 9]], np.uint32), np.array([[9, 9, 32, 32]], np.int8), np.array([2], np.int32)
    )
    assert Recency(step=1.0, age_s=1e9).weights(recent).tolist() == [[0.0, 0.0, 1.0, 1.0]]


def test_cosine_divides_by_the_roots_of_both_popularities() -> None:
    neighbours = DenseNeighbours(4)
    neighbours.set_row(0, np.array([1, 2], np.uint32), np.array([3.0, 4.0], np.float32), 0)
    popularity = np.array([9.0, 4.0, 16.0, 0.0], np.float32)
    reading = CooccurrenceReading(recency=Recency(step=1.0, age_s=1e9), similarity="cosine")
    scores, weights = cooccurrence_scores(recent_of([0], [32]), neighbours, popularity, reading)
    np.testing.assert_allclose(scores, [[0.0, 3 / (3 * 2), 4 / (3 * 4), 0.0]], rtol=1e-6)
    np.testing.assert_allclose(weights, [[1 / 3]], rtol=1e-6)
    np.testing.assert_allclose(reading.candidate_factor(popularity), [1 / 3, 1 / 2, 1 / 4, 0.0], rtol=1e-6)


def test_llr_prefers_the_neighbour_that_is_there_more_often_than_chance() -> None:
    neighbours = DenseNeighbours(4)
    neighbours.set_row(0, np.array([1, 2], np.uint32), np.array([10.0, 10.0], np.float32), 0)
    popularity = np.array([20.0, 15.0, 900.0, 65.0], np.float32)
    reading = CooccurrenceReading(recency=Recency(step=1.0, age_s=1e9), similarity="llr")
    scores, _ = cooccurrence_scores(recent_of([0], [32]), neighbours, popularity, reading)
    assert scores[0, 1] > scores[0, 2] == scores[0, 3] == 0


def test_content_scores_are_never_negative() -> None:
    features = np.array([[1, 0], [1, 0], [-1, 0], [0, 1]], np.float32)
    scores, weights = content_scores(recent_of([0], [32]), Recency(step=1.0, age_s=1e9), features)
    assert scores.tolist() == [[1.0, 1.0, 0.0, 0.0]] and weights.tolist() == [[1.0]]


def test_a_source_counts_relative_to_the_best_candidate_however_many_items_it_scores() -> None:
    numbers = np.array([[4, 7, -1], [4, 7, 9], [1, 2, 3]])
    few = np.array([[0.0, 3.0, 90.0], [0.0, 0.0, 5.0], [0.0, 0.0, 0.0]], np.float32)
    found = Candidates.unranked(numbers, {"mine": few}, {"mine": 2.0})
    np.testing.assert_allclose(found.scales["mine"], [2 / 3, 2 / 5, 0])
