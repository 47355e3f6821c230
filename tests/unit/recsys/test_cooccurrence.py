"""Weights of pairs by distance, and the measures of association, are what the papers say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.cooccurrence import PairWeights, log_likelihood_ratio

WEIGHTS = PairWeights.decaying(window=5, step=0.8, backward=0.5)


def test_the_newest_pair_counts_most_and_the_way_back_less() -> None:
    assert WEIGHTS.forward == (64, 51, 41, 33, 26)
    assert WEIGHTS.backward == (32, 26, 20, 16, 13)
    assert min(PairWeights.decaying(window=40, step=0.5, backward=0.1).backward) == 1


def test_the_log_likelihood_ratio_is_the_one_worked_out_by_hand() -> None:
    # k11 10, k12 5, k21 2, k22 83: the G² of a 2 × 2 table is 2 Σ k ln(k · n / (row · column))
    cells = {(0, 0): 10.0, (0, 1): 5.0, (1, 0): 2.0, (1, 1): 83.0}
    total, row, column = 100.0, (15.0, 85.0), (12.0, 88.0)
    by_hand = 2 * sum(k * math.log(k * total / (row[i] * column[j])) for (i, j), k in cells.items())
    found = log_likelihood_ratio(np.array([10.0], np.float32), np.array([15.0], np.float32), np.array([12.0], np.float32), total)
    assert by_hand == pytest.approx(35.339, abs=1e-3)
    assert found[0] == pytest.approx(by_hand, rel=1e-6)


def test_the_log_likelihood_ratio_of_chance_and_of_avoidance_is_zero() -> None:
    one, other = np.array([50, 50], np.float32), np.array([40, 40], np.float32)
    assert log_likelihood_ratio(np.array([20, 3], np.float32), one, other, 100.0).tolist() == [0.0, 0.0]


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 500))
def test_the_log_likelihood_ratio_is_symmetric_finite_and_never_negative(k11: int, k12: int, k21: int, k22: int) -> None:
    def ratio(a: int, b: int) -> float:
        table = (np.array([k11], np.float32), np.array([k11 + a], np.float32), np.array([k11 + b], np.float32))
        return float(log_likelihood_ratio(*table, float(k11 + k12 + k21 + k22))[0])

    assert 0 <= ratio(k12, k21) < math.inf
    assert ratio(k12, k21) == pytest.approx(ratio(k21, k12), rel=1e-5, abs=1e-6)
