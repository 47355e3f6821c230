"""The benchmark of new users: its gains are those of the first ten places, and its check fails when a list does not hold."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.cold import Gains, _gain, _without, failures


def test_a_gain_is_of_the_first_ten_places() -> None:
    listed = np.arange(40)
    assert _gain(listed, np.arange(10)) == pytest.approx((1.0, 1.0, 1.0))
    assert _gain(listed, np.arange(10, 20)) == (0.0, 0.0, 0.0)
    recall, ndcg, hit = _gain(listed, np.array([0, 30, 31, 32]))
    assert (recall, hit) == (0.25, 1.0) and 0.25 < ndcg < 0.5, "the first place counts most"
    assert _gain(_without(listed, np.array([0, 1])), np.array([2])) == (1.0, 1.0, 1.0)


def gains(**means: float) -> Gains:
    """Return gains of 200 users with about these means."""
    noise = np.linspace(-0.01, 0.01, 200).tolist()
    return {name: [(mean + one, mean + one, 1.0) for one in noise] for name, mean in means.items()}


GOOD = {"popularity": 0.1, "first": 0.12, "after_1": 0.13, "after_2": 0.14, "after_5": 0.2}


def test_the_check_passes_where_each_list_is_above_the_one_before() -> None:
    assert failures(gains(popularity=0.1, first=0.12), gains(**GOOD), 0) == []


def test_the_check_names_each_list_that_is_not() -> None:
    found = failures(gains(popularity=0.1, first=0.1), gains(**{**GOOD, "after_1": 0.11}), 0)
    assert len(found) == 4 and "recall@10 of the first list leads popularity by 0.0000" in found[0]
    assert "after_1, 0.1100, is not above first, 0.1200" in found[1]


def test_a_lead_over_popularity_must_be_certain_before_the_first_event_and_an_average_one_afterwards() -> None:
    wide = [(0.0, 0.0, 0.0), (0.21, 0.21, 1.0)] * 100
    uncertain = {"popularity": [(0.1, 0.1, 1.0)] * 200, "first": wide}
    found = failures(uncertain, gains(**GOOD), 0)
    assert [one.split(":")[0] for one in found] == ["start", "start"]
    assert failures(gains(popularity=0.1, first=0.12), {**gains(**GOOD), **uncertain}, 0) == []
