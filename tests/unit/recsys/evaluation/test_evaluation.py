from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import ShapeError
from recsys.evaluation.metrics import mean_ranks, ndcg_at_k, recall_at_k
from recsys.evaluation.protocol import MAX_CASES_PER_USER, Slice, newest_events, temporal_split
from recsys.evaluation.ranking import HALF_LIVES, evaluate, evaluate_popularity, rank_by_popularity, rank_by_recent_popularity
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
    ts_ms, arrivals = np.arange(1_000), np.arange(1_000.0)

    def first(seen: int) -> int:
        return int(np.flatnonzero(newest_events(ts_ms, arrivals, 0.1, unseen=ts_ms > seen))[0])

    assert [first(500), first(959), first(998)] == [900, 980, 999]
    with pytest.raises(ShapeError, match="newer"):
        first(999)


def test_imported_history_is_judged_by_its_arrival() -> None:
    """Ten live events, of which eight are known to the champion; then twenty years of history arrive."""
    ts_ms = np.concatenate([np.arange(1_000, 1_010), np.arange(90)])
    arrivals, unseen = np.arange(100.0), np.arange(100) >= 8
    assert np.flatnonzero(newest_events(ts_ms, arrivals, 0.2, unseen=unseen)).tolist() == list(range(80, 100))
    assert np.flatnonzero(newest_events(ts_ms, arrivals, 0.2)).tolist() == [*range(10), *range(90, 100)], "a first model: by event time"


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


def test_targets_are_new_preferences_of_users_with_a_history() -> None:
    model = Recorder([f"i{k}" for k in range(5)])
    judged = evaluate(model, part_of(EVENTS, 5, 10))
    assert judged["n_targets"] == 2  # item 1 and item 2 of user 0; user 1 has no history before item 1
    assert judged["n_without_history"] == 1
    histories = model.asked[0].items
    assert histories.tolist() == [[-1, 0, 3], [1, 0, 4]]
    assert model.asked[0].weights[1].tolist() == [1.0, 1.0, -1.0]
    assert model.asked[0].ages_s[0].tolist() == [0.0, pytest.approx(0.001), 0.0]
    assert judged["recall@1"] == 1.0  # item 1 first of {1, 2, 4}; item 2 alone in what is left


def test_a_history_has_one_entry_per_item_at_its_last_touch_with_the_strongest_weight_of_its_sign() -> None:
    events = [
        (0, 0, 0.3, 1_000),
        (0, 1, 1.0, 2_000),
        (0, 0, 1.0, 3_000),
        (0, 2, 1.0, 4_000),
        (0, 0, 0.5, 5_000),
        (0, 2, -1.0, 6_000),
        (0, 1, -0.5, 7_000),
        (0, 1, 0.2, 8_000),
        (0, 3, 1.0, 9_000),
    ]
    model = Recorder([f"i{k}" for k in range(5)], length=4)
    evaluate(model, part_of(events, 5, 9_000))
    (asked,) = model.asked
    assert asked.items.tolist() == [[-1, 0, 2, 1]]
    assert asked.weights.tolist() == [[0.0, pytest.approx(1.0), -1.0, pytest.approx(0.2)]]
    assert asked.ages_s.tolist() == [[0.0, 3.0, 2.0, 0.0]]


def test_items_the_model_does_not_know_are_misses_and_never_rank_above_others() -> None:
    knows_two = Recorder(["i0", "i2"])
    judged = evaluate(knows_two, part_of(EVENTS, 5, 10))
    assert judged["n_unknown_items"] == 1
    assert judged["recall@1"] == pytest.approx(1 / 2)


def test_a_history_that_the_model_cannot_read_is_a_miss() -> None:
    judged = evaluate(Recorder(["i1", "i2"], length=2), part_of(EVENTS, 5, 10))
    assert judged["n_unreadable_histories"] == 2 and judged["recall@20"] == 0.0


def test_both_models_and_popularity_are_judged_on_the_same_cases() -> None:
    part = part_of(EVENTS, 5, 10)
    assert evaluate(Recorder(["i1"]), part)["n_targets"] == evaluate_popularity(part)["n_targets"] == 2


def test_a_limit_takes_an_even_selection() -> None:
    events = [(user, item, 1.0, 100 * user + item) for user in range(10) for item in range(10)]
    part = part_of(events, 10, 0)
    cases = part.cases(20)
    assert len(cases) == 20
    assert set(part.users[cases].tolist()) == set(range(10))


def test_one_user_gives_a_bounded_number_of_targets() -> None:
    events = [(0, item, 1.0, item) for item in range(200)] + [(user, item, 1.0, item) for user in (1, 2) for item in range(30)]
    part = part_of(events, 200, 0)
    cases = part.cases(5_000)
    assert np.bincount(part.users[cases]).tolist() == [MAX_CASES_PER_USER, 29, 29]
    assert np.diff(cases[part.users[cases] == 0]).max() <= 5, "evenly chosen"


@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 3.0]))
def test_popularity_ranks_like_a_model_with_its_counts(seed: int, half_life: float | None) -> None:
    """The short cut for scores that all users share against full ranking, repeats and ties included."""
    random = np.random.default_rng(seed)
    n, n_items, split = 60, 7, 40
    events = [(int(random.integers(5)), int(random.integers(n_items)), float(random.choice([1.0, 1.0, -1.0])), at) for at in range(n)]
    part = part_of(events, n_items, split)
    counts = np.zeros(n_items)
    liked = [item for _, item, weight, at in events if weight > 0 and at < split]
    for age, item in enumerate(reversed(liked)):
        counts[item] += 1.0 if half_life is None else 0.5 ** (age / half_life)
    cases = part.cases(1_000)
    scores = np.broadcast_to(counts.astype(np.float32), (len(cases), n_items))
    wanted = mean_ranks(scores, part.items[cases].astype(np.int64), part.seen(cases))
    assert rank_by_popularity(part, half_life=half_life).ranks.tolist() == wanted.tolist()


def test_recent_popularity_follows_a_fashion_that_popularity_has_not_noticed() -> None:
    events = [(at % 7, at % 5, 1.0, at) for at in range(400)] + [(100 + at // 2, 10 + at % 2, 1.0, 400 + at) for at in range(200)]
    part = part_of(events, 100, 500)
    recent = rank_by_recent_popularity(part)
    assert recent.counts["half_life_events"] in HALF_LIVES
    assert recent.scores.mean_ndcg > 2 * rank_by_popularity(part).scores.mean_ndcg
