"""Protocols and the ranking of their cases, on a log of three users and against a specification in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import ShapeError
from recsys.evaluation.cases import Cases
from recsys.evaluation.outcome import group_means, list_metrics, outcome_of
from recsys.evaluation.protocol import Slice
from recsys.evaluation.splits import one_by_one, split_rows, temporal
from recsys.models.base import F32, Histories
from recsys.models.popular.model import PopularConfig, PopularModel, fit

IDS = list("abcdef")
USERS = np.array([0, 0, 0, 1, 1, 1, 2, 2])
ITEMS = np.array([0, 1, 2, 1, 3, 1, 4, 0])
TIMES = np.array([1, 2, 5, 2, 6, 7, 8, 9]) * 1000
HELD = np.array([0, 0, 1, 0, 1, 1, 1, 0], bool)
ONES = np.ones(8, np.float32)


def cases(**more: object) -> Cases:
    return split_rows(USERS, ITEMS, IDS, ONES, TIMES, HELD, **more)  # type: ignore[arg-type]


def cut(split_ms: int) -> Slice:
    return Slice.cut(USERS, ITEMS, IDS, ONES, TIMES, split_ms)


def targets_of(made: Cases) -> list[tuple[int, list[str], list[str]]]:
    """User, ids of the targets and of the history of each case."""
    found = []
    for at, (user, row) in enumerate(zip(made.users.tolist(), made.rows.tolist(), strict=True)):
        start = int(np.searchsorted(made.part.users, user))
        found.append((user, [IDS[i] for i in made.targets[made.case_of == at]], [IDS[i] for i in made.part.items[start:row]]))
    return found


def test_held_out_items_are_the_targets_and_everything_else_is_the_history() -> None:
    assert targets_of(cases()) == [(0, ["c"], ["a", "b"]), (1, ["d"], ["b"]), (2, ["e"], ["a"])]
    assert cases().n_repeats == 1  # user 1 touched b before
    assert targets_of(cases(repeats=True))[1] == (1, ["d", "b"], ["b"])
    training = cases().training()
    assert sorted(zip(training.users.tolist(), (training.item_ids[i] for i in training.items), strict=True)) == [
        (0, "a"), (0, "b"), (1, "b"), (2, "a"),
    ]  # fmt: skip


def test_a_temporal_case_knows_what_came_before_the_time_and_asks_for_what_is_new() -> None:
    made = temporal(cut(5000))
    assert targets_of(made) == [(0, ["c"], ["a", "b"]), (1, ["d"], ["b"])]
    assert (made.n_repeats, made.n_without_history) == (1, 2)  # b again; user 2 comes after the time


def test_one_by_one_the_history_grows_with_every_event() -> None:
    found = one_by_one(cut(5000), "discovery")
    assert targets_of(found) == [(2, ["a"], ["e"])]  # c, d and e were touched by nobody before
    assert targets_of(one_by_one(cut(5000), "again")) == [(1, ["b"], ["b", "d"])]
    assert not one_by_one(cut(5000), "again").leaves_out_seen


def test_history_lengths_count_distinct_items_before_the_case() -> None:
    assert one_by_one(cut(5000), "again").history_lengths().tolist() == [2]
    assert cases().history_lengths().tolist() == [2, 1, 1]


def test_negatives_are_ranked_beside_the_target_and_nothing_else() -> None:
    made = cases(candidates={0: np.array([5]), 1: np.array([0, 3]), 2: np.array([1])})
    assert made.ranked(slice(0, 3)).astype(int).tolist() == [[0, 0, 1, 0, 0, 1], [1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 1, 0]]
    assert made.ranked(slice(1, 3)).astype(int).tolist() == made.ranked(slice(0, 3)).astype(int).tolist()[1:]


def test_cases_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="every case needs a target"):
        Cases(cut(5000), np.array([1, 2]), np.array([0]), np.array([0]))


class Fixed:
    """A model whose scores are given: every user gets the same."""

    kind, link, history_length = "fixed", "identity", 5

    def __init__(self, scores: F32, item_ids: list[str]) -> None:
        self.item_ids, self.item_vectors = item_ids, scores[:, None]

    def encode(self, histories: Histories) -> F32:
        return (histories.items >= 0).any(axis=1, keepdims=True).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=6, max_size=6), st.sets(st.integers(0, 5), max_size=2))
def test_ranking_equals_the_plain_specification(scores: list[int], unknown: set[int]) -> None:
    known = [i for i in range(6) if i not in unknown]
    model = Fixed(np.array(scores, np.float32)[known], [IDS[i] for i in known])
    made = cases()
    found = outcome_of(model, made)  # type: ignore[arg-type]
    for at, (_, (target,), history) in enumerate(targets_of(made)):
        readable = any(IDS.index(item) in known for item in history)
        ranked = sorted((-scores[i], i) for i in known if IDS[i] not in history) if readable else []
        assert [IDS[i] for i in found.lists[at] if i >= 0] == [IDS[i] for _, i in ranked]
        wanted = IDS.index(target)
        if readable and wanted in known:
            above = sum(scores[i] > scores[wanted] for _, i in ranked)
            same = sum(scores[i] == scores[wanted] for _, i in ranked)
            assert found.metrics["mrr"][at] == pytest.approx(1 / (above + (same + 1) / 2))
        else:
            assert found.metrics["mrr"][at] == 0
    assert found.n_unknown_items == len(unknown & {2, 3, 4})


class Scored(Fixed):
    """The same model, without vectors."""

    def scores(self, histories: Histories) -> F32:
        return super().encode(histories) * self.item_vectors[:, 0]

    def encode(self, histories: Histories) -> F32:
        return np.zeros((len(histories), 0), np.float32)


def test_a_model_that_scores_by_itself_is_ranked_like_one_with_vectors() -> None:
    scores, made = np.array([3, 1, 4, 1, 5, 9], np.float32), cases()
    vectors, own = (outcome_of(kind(scores[:5], IDS[:5]), made) for kind in (Fixed, Scored))  # type: ignore[arg-type]
    assert vectors.means()["mrr"] > 0
    assert own.means() == vectors.means()
    assert np.array_equal(own.lists, vectors.lists)
    assert own.n_unreadable_histories == vectors.n_unreadable_histories == 0


def test_lists_are_measured_over_the_whole_catalogue_and_groups_by_history() -> None:
    made = cases()
    model: PopularModel = fit(made.training(), PopularConfig())
    found = outcome_of(model, made)
    measured = list_metrics(found, made, np.eye(6, dtype=np.float32))
    assert measured["coverage@10"] == pytest.approx(2 / 6)  # user 0 knows a and b, the others get one of them
    assert measured["novelty@10"] == pytest.approx(2 / 3 * -np.log2(2 / 3))
    assert set(measured) == {"coverage@10", "gini@10", "novelty@10", "diversity@10", "miscalibration@10"}
    groups = group_means(found, made, ("hr@10",))
    assert {name: (means["n_cases"], means["longest_history"]) for name, means in groups.items()} == {"short": (2, 1), "long": (1, 2)}


def test_a_history_knows_the_gap_before_its_case_and_the_types_of_its_entries() -> None:
    """The list is made at the moment of the target; where that is made up, no gap is known."""
    types = np.array([1, 4, 7, 1, 4, 7, 1, 4])
    part = Slice.cut(USERS, ITEMS, IDS, ONES, TIMES, 5000, types)
    rows, to_model = part.cases(10), np.arange(6, dtype=np.int32)
    found = part.histories(rows, 3, to_model)
    assert part.ts_ms[rows].tolist() == [5000, 6000, 9000] and found.gaps_s is not None and found.gaps_s.tolist() == [3, 4, 1]
    assert found.types is not None and found.types.tolist() == [[0, 1, 4], [0, 0, 1], [0, 0, 1]]
    late = np.where(HELD, 20_000 + TIMES, TIMES)
    for times, has_moments in ((TIMES, False), (late, True)):
        made = split_rows(USERS, ITEMS, IDS, ONES, times, HELD)
        assert made.part.has_moments == has_moments
        gaps_s = made.part.histories(made.rows, 3, to_model).gaps_s
        assert gaps_s is None if not has_moments else (gaps_s is not None and (gaps_s > 15).all())
    training = one_by_one(part, "discovery").training()
    assert training.types is not None and training.types.tolist() == [1, 4, 1], "of what is not in the slice"
