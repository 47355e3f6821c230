"""Metrics of lists, against cases worked out by hand and against a specification in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.evaluation.case_metrics import (
    CUTOFFS,
    case_metrics,
    coverage,
    diversity,
    gini,
    miscalibration,
    novelty,
    places_of_ties,
    thirds,
)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_metrics_of_a_case_are_those_worked_out_by_hand() -> None:
    """Case 0: targets at places 1, 4 and 30; case 1: one at place 2; case 2: one that is not ranked."""
    found = case_metrics(np.array([4.0, 1.0, 30.0, 2.0, np.inf]), ints(0, 0, 0, 1, 2), 3)
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert found["hr@1"].tolist() == [1, 0, 0]
    assert found["hr@5"].tolist() == [1, 1, 0]
    assert found["recall@20"] == pytest.approx([2 / 3, 1, 0])
    assert found["recall@50"] == pytest.approx([1, 1, 0])
    assert found["ndcg@10"] == pytest.approx([(1 + 1 / math.log2(5)) / ideal, 1 / math.log2(3), 0])
    assert found["ndcg@1"].tolist() == [1, 0, 0]  # of three targets one fits on a list of one
    assert found["map@10"] == pytest.approx([(1 / 1 + 2 / 4) / 3, 1 / 2, 0])
    assert found["mrr"] == pytest.approx([1, 1 / 2, 0])


def specification(places: list[float]) -> dict[str, float]:
    ranked = sorted(places)
    found = {"mrr": 1 / ranked[0]}
    for k in CUTOFFS:
        hits = [place for place in ranked if place <= k]
        best = min(len(ranked), k)
        found[f"hr@{k}"] = float(bool(hits))
        found[f"recall@{k}"] = len(hits) / len(ranked)
        found[f"ndcg@{k}"] = sum(1 / math.log2(1 + place) for place in hits) / sum(1 / math.log2(1 + j) for j in range(1, best + 1))
        found[f"map@{k}"] = sum(nth / place for nth, place in enumerate(hits, 1)) / best
    return found


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sets(st.integers(1, 60), min_size=1, max_size=8), min_size=1, max_size=6))
def test_metrics_equal_the_plain_specification(cases: list[set[int]]) -> None:
    places = np.array([float(place) for case in cases for place in case])
    case_of = np.repeat(np.arange(len(cases)), [len(case) for case in cases])
    found = case_metrics(places, case_of, len(cases))
    for at, case in enumerate(cases):
        for name, value in specification([float(place) for place in case]).items():
            assert found[name][at] == pytest.approx(value), name


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.data())
def test_tied_targets_get_their_mean_place_over_all_orders_of_the_ties(scores: list[int], data: st.DataObject) -> None:
    targets = sorted(data.draw(st.sets(st.integers(0, len(scores) - 1), min_size=1)))
    above = ints(*(sum(other > scores[t] for other in scores) for t in targets))
    tied = ints(*(scores.count(scores[t]) - 1 for t in targets))
    places = places_of_ties(above, tied, np.zeros(len(targets), np.int64))
    assert len(set(places.tolist())) == len(targets)  # no two targets at one place
    for score in set(scores):
        own = [place for place, target in zip(places.tolist(), targets, strict=True) if scores[target] == score]
        first, size = sum(other > score for other in scores) + 1, scores.count(score)
        if own:  # order statistics of g out of m places
            assert sum(own) / len(own) == pytest.approx(first + (size - 1) / 2)
            assert min(own) >= first
            assert max(own) <= first + size - 1


def test_one_tied_target_has_the_mean_rank_and_an_unranked_one_none() -> None:
    assert places_of_ties(ints(2, -1), ints(3, 0), ints(0, 1)).tolist() == [4.5, np.inf]


LISTS = np.array([[0, 1], [0, 2], [0, -1]])


def test_metrics_of_lists_are_those_worked_out_by_hand() -> None:
    assert coverage(LISTS, 6) == pytest.approx(0.5)
    assert gini(LISTS, 3) == pytest.approx((-2 * 1 + 0 * 1 + 2 * 3) / (3 * 5))  # counts 1, 1, 3
    assert gini(np.array([[0, 1, 2]]), 3) == pytest.approx(0)
    assert novelty(LISTS, ints(4, 2, 0), 8) == pytest.approx([(1 + 2) / 2, (1 + 3) / 2, 1])
    content = np.array([[1.0, 0], [1, 0], [0, 1]])
    assert diversity(LISTS, content) == pytest.approx([0, 1, 0])
    half = np.array([[1.0, 1.0]])
    all_of_one = 0.5 * math.log(0.5 / (0.99 + 0.005)) + 0.5 * math.log(0.5 / 0.005)
    assert miscalibration(np.array([[0, 1]]), half, content) == pytest.approx([all_of_one])
    assert miscalibration(np.array([[0, 2]]), half, content) == pytest.approx([0])


def test_thirds_keep_equal_lengths_together() -> None:
    groups = thirds(ints(1, 1, 2, 3, 5, 8))
    assert {name: marked.tolist() for name, marked in groups.items()} == {
        "short": [True, True, False, False, False, False],
        "middle": [False, False, True, True, False, False],
        "long": [False, False, False, False, True, True],
    }
