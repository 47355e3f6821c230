"""Intervals and paired tests: known answers, and no more false alarms than they promise."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.errors import ShapeError
from recsys.evaluation.significance import intervals, paired


def test_an_interval_is_that_of_the_normal_distribution_where_users_are_many() -> None:
    values = np.random.default_rng(0).normal(2.0, 3.0, 1000)
    ((low, high),) = intervals(values[:, None], np.arange(1000))
    error = 1.96 * values.std() / np.sqrt(1000)
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.03)


def test_users_are_drawn_whole() -> None:
    """Ten equal cases of one user say no more than one."""
    values = np.random.default_rng(0).normal(size=200)
    ((low, high),) = intervals(np.repeat(values, 10)[:, None], np.repeat(np.arange(200), 10))
    ((once_low, once_high),) = intervals(values[:, None], np.arange(200))
    assert (low, high) == pytest.approx((once_low, once_high))


def test_a_clear_lead_is_found_and_a_draw_is_not() -> None:
    chance = np.random.default_rng(1)
    ours, users = chance.random(300), np.arange(300)
    lead = paired(ours + 0.1, ours + chance.normal(0, 0.05, 300), users)
    assert lead.mean == pytest.approx(0.1, abs=0.02)
    assert lead.low > 0
    assert max(lead.p_bootstrap, lead.p_sign_flip) < 0.01
    draw = paired(ours, ours, users)
    assert (draw.mean, draw.low, draw.high, draw.p_bootstrap, draw.p_sign_flip) == (0, 0, 0, 1, 1)


def test_sign_flips_give_the_exact_share_for_few_users() -> None:
    """All four differences are 1: two of 16 sign patterns are as far from 0."""
    found = paired(np.ones(4), np.zeros(4), np.arange(4))
    assert found.p_sign_flip == pytest.approx(2 / 16, abs=0.02)


@pytest.mark.parametrize("test", ["p_bootstrap", "p_sign_flip"])
def test_equal_contenders_are_called_different_about_as_often_as_promised(test: str) -> None:
    chance = np.random.default_rng(2)
    alarms = [getattr(paired(chance.random(60), chance.random(60), np.arange(60), seed=seed), test) < 0.05 for seed in range(100)]
    assert 0 < np.mean(alarms) < 0.12


def test_the_same_seed_gives_the_same_answer_and_cases_must_match() -> None:
    values, users = np.random.default_rng(3).random(50), np.arange(50)
    assert paired(values, values[::-1], users, seed=4) == paired(values, values[::-1], users, seed=4)
    with pytest.raises(ShapeError):
        paired(values, values[1:], users)
    assert np.isnan(intervals(np.zeros((0, 1)), np.zeros(0, np.int64))).all()
