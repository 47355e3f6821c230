from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import ShapeError
from recsys.evaluation.gate import gate
from recsys.evaluation.metrics import mean_ranks, ndcg_at_k, recall_at_k
from recsys.evaluation.protocol import Slice, evaluate, evaluate_popularity, temporal_split
from recsys.models.base import Histories
from recsys.models.popular.model import PopularConfig, PopularModel


def test_ties_share_their_mean_rank() -> None:
    scores = np.array([[3, 1, 1, 1, 0]], np.float32)
    assert mean_ranks(scores, np.array([0])).tolist() == [1.0]
    assert mean_ranks(scores, np.array([2])).tolist() == [3.0]
    assert mean_ranks(np.zeros((1, 5), np.float32), np.array([4])).tolist() == [3.0]


def test_masked_items_are_not_ranked_but_the_target_is() -> None:
    scores = np.array([[5, 4, 3, 2]], np.float32)
    mask = np.array([[True, False, True, False]])
    assert mean_ranks(scores, np.array([2]), mask).tolist() == [2.0]
    assert mean_ranks(scores, np.array([3]), mask).tolist() == [2.0]


def test_an_unknown_target_has_no_rank_and_nan_is_worst() -> None:
    scores = np.array([[np.nan, 1.0], [np.nan, 1.0]], np.float32)
    assert mean_ranks(scores, np.array([-1, 0])).tolist() == [np.inf, 2.0]


@given(
    st.integers(1, 9).flatmap(
        lambda n: st.tuples(
            st.lists(st.integers(0, 4), min_size=n, max_size=n), st.lists(st.booleans(), min_size=n, max_size=n), st.integers(0, n - 1)
        )
    )
)
def test_mean_rank_is_the_mean_over_all_orders_of_ties(case: tuple[list[int], list[bool], int]) -> None:
    scores, masked, target = case
    found = mean_ranks(np.array([scores], np.float32), np.array([target]), np.array([masked]))[0]
    rivals = [s for i, s in enumerate(scores) if i != target and not masked[i]]
    best, worst = 1 + sum(s > scores[target] for s in rivals), 1 + sum(s >= scores[target] for s in rivals)
    assert found == (best + worst) / 2


def test_recall_and_ndcg_of_known_ranks() -> None:
    ranks = np.array([1.0, 3.0, 11.0, np.inf])
    assert recall_at_k(ranks, 10) == 0.5
    assert ndcg_at_k(ranks, 10) == pytest.approx((1 + 0.5) / 4)
    assert recall_at_k(np.zeros(0), 10) == ndcg_at_k(np.zeros(0), 10) == 0.0


def test_temporal_split_keeps_one_millisecond_together() -> None:
    assert temporal_split(np.arange(100), 0.1) == 90
    assert temporal_split(np.array([1, 2, 3, 3, 3]), 0.2) == 3


def test_the_slice_never_reaches_into_what_the_champion_has_seen() -> None:
    ts_ms = np.arange(1_000)
    assert temporal_split(ts_ms, 0.1, seen_until_ms=500) == 900
    assert temporal_split(ts_ms, 0.1, seen_until_ms=959) == 980
    assert temporal_split(ts_ms, 0.1, seen_until_ms=998) == 999
    with pytest.raises(ShapeError, match="newer"):
        temporal_split(ts_ms, 0.1, seen_until_ms=999)


class Recorder(PopularModel):
    """A model that scores items by number and records the histories that it encodes."""

    def __init__(self, item_ids: list[str], length: int = 3) -> None:
        super().__init__(PopularConfig(), item_ids, np.arange(len(item_ids), 0, -1, dtype=np.float32)[:, None])
        self.history_length, self.asked = length, []

    asked: list[Histories]

    def encode(self, histories: Histories) -> Any:
        self.asked.append(histories)
        return super().encode(histories)


def part_of(events: list[tuple[int, int, float, int]], n_items: int, split: int) -> Slice:
    users, items, weights, ts = (np.array(column) for column in zip(*events, strict=True))
    return Slice.cut(users, items, [f"i{k}" for k in range(n_items)], weights.astype(np.float32), ts, split)


EVENTS = [
    (0, 0, 1.0, 1),
    (0, 3, 1.0, 2),
    (0, 1, 1.0, 10),
    (0, 0, 1.0, 11),
    (0, 4, -1.0, 12),
    (0, 2, 1.0, 13),
    (1, 1, 1.0, 14),
    (1, 2, 0.0, 15),
]


def test_targets_are_new_preferences_of_the_slice_with_the_history_before_each() -> None:
    model = Recorder([f"i{k}" for k in range(5)])
    judged = evaluate(model, part_of(EVENTS, 5, 10))
    assert judged["n_targets"] == 3  # item 1, item 2 of user 0; item 1 of user 1
    histories = model.asked[0].items
    assert histories.tolist() == [[-1, 0, 3], [1, 0, 4], [-1, -1, -1]]
    assert model.asked[0].weights[1].tolist() == [1.0, 1.0, -1.0]
    assert model.asked[0].ages_s[0].tolist() == [0.0, pytest.approx(0.001), 0.0]
    assert judged["n_without_history"] == 1
    # item 1 first of {1, 2, 4}; item 2 alone in what is left; the third case is a miss
    assert judged["recall@1"] == pytest.approx(2 / 3)


def test_items_the_model_does_not_know_are_misses_and_never_rank_above_others() -> None:
    knows_two = Recorder(["i0", "i2"])
    judged = evaluate(knows_two, part_of(EVENTS, 5, 10))
    assert judged["n_unknown_items"] == 2
    assert judged["recall@1"] == pytest.approx(1 / 3)


def test_both_models_and_popularity_are_judged_on_the_same_cases() -> None:
    part = part_of(EVENTS, 5, 10)
    assert evaluate(Recorder(["i1"]), part)["n_targets"] == evaluate_popularity(part)["n_targets"] == 3


def test_a_limit_takes_an_even_selection() -> None:
    events = [(user, item, 1.0, 100 * user + item) for user in range(10) for item in range(10)]
    part = part_of(events, 10, 0)
    cases = part.cases(20)
    assert len(cases) == 20
    assert set(part.users[cases].tolist()) == set(range(10))


def test_a_challenger_must_reach_the_champion_within_the_tolerance() -> None:
    champion = {"ndcg@10": 0.10, "n_targets": 50.0}
    assert gate(champion, {"ndcg@10": 0.10, "n_targets": 50.0}).promote
    assert not gate(champion, {"ndcg@10": 0.0999, "n_targets": 50.0}).promote
    lenient = gate(champion, {"ndcg@10": 0.096, "n_targets": 50.0}, tolerance=0.05)
    assert lenient.promote
    assert lenient.figures == {"challenger": 0.096, "n_targets": 50.0, "champion": 0.10, "needed": pytest.approx(0.095)}
    assert "0.0960" in lenient.reason


@pytest.mark.parametrize(
    "challenger", [{"ndcg@10": 0.0, "n_targets": 9.0}, {"ndcg@10": float("nan"), "n_targets": 9.0}, {"ndcg@10": 0.5, "n_targets": 0.0}]
)
def test_a_first_model_that_proves_nothing_is_refused(challenger: dict[str, float]) -> None:
    decision = gate(None, challenger)
    assert not decision.promote
    assert decision.reason
    assert all(np.isfinite(figure) for figure in decision.figures.values())


def test_a_first_model_that_hits_is_promoted() -> None:
    assert gate(None, {"ndcg@10": 0.01, "n_targets": 9.0}).promote


@pytest.mark.parametrize(("figure", "promoted"), [(0.0999, False), (0.1, False), (0.1001, True)])
def test_a_first_model_serves_only_if_it_beats_popularity(figure: float, promoted: bool) -> None:
    decision = gate(None, {"ndcg@10": figure, "n_targets": 9.0}, popularity={"ndcg@10": 0.1}, tolerance=0.5)
    assert decision.promote is promoted
    assert "popularity" in decision.reason and decision.figures["needed"] == 0.1


def test_against_a_champion_popularity_decides_nothing() -> None:
    champion, challenger = {"ndcg@10": 0.1, "n_targets": 9.0}, {"ndcg@10": 0.1, "n_targets": 9.0}
    assert gate(champion, challenger, popularity={"ndcg@10": 0.9}).promote
