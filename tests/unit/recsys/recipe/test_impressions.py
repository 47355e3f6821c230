"""Impressions in a replay: a case knows those that its list was made after, and a ranker learns from them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.engine import EngineConfig
from recsys.errors import ShapeError
from recsys.lists.learned.feature_names import FEATURES, SHOWN, WITHOUT_SHOWN, names_of
from recsys.lists.learned.features_kernel import NEVER
from recsys.ranker.budget import RankerOptions
from recsys.ranker.cases import RankerCases, gather
from recsys.ranker.train import train_ranker
from recsys.recipe.impressions import Impressions, ShownLog
from recsys.recipe.judge import judge
from recsys.recipe.replay import Log, Replay, evenly
from recsys.state.shown import ShownTable, unpack_shown
from tests.builders import recipe_of
from tests.unit.recsys.recipe.test_replay import START_S, log_of
from workers.operations.shown_fold import UserShown

WIDTH, N_USERS = 3, 3
IMPRESSION = 4
"""Any code of a type."""
ROWS = st.lists(st.tuples(st.integers(0, N_USERS - 1), st.integers(0, 4), st.integers(1, 9), st.sampled_from("eeiiiw")), max_size=40)
"""User, item, second, and whether it is an event, an impression, or an impression with a weight, which is both."""


def shown_of(*rows: tuple[int, int, int, int]) -> Impressions:
    """Return impressions of user, item, second and place."""
    columns = np.array(sorted(rows, key=lambda row: row[3]), np.int64).reshape(-1, 4).T
    return Impressions(*columns, IMPRESSION)


@given(ROWS, st.lists(st.integers(0, 40), max_size=4))
def test_each_event_is_folded_behind_the_impressions_that_its_user_saw_before(
    rows: list[tuple[int, int, int, str]], cuts: list[int]
) -> None:
    events, shown = [row for row in rows if row[3] != "i"], list[tuple[int, int, int, int]]()
    place, plain, waiting = 0, [UserShown() for _ in range(N_USERS)], [list[tuple[int, int]]() for _ in range(N_USERS)]
    for user, item, at_s, kind in rows:
        if kind != "e":
            shown.append((user, item, at_s, place))
            waiting[user].append((item, at_s))
        if kind != "i":
            for seen in waiting[user]:
                plain[user].add(str(seen[0]), seen[1], is_impression=True, most=WIDTH)
            waiting[user].clear()
            place += 1
        if kind == "e":
            plain[user].add(str(item), at_s, is_impression=False, most=WIDTH)
    users, items, times_s = (np.array([row[column] for row in events], np.int64) for column in range(3))
    folded = ShownLog.of(shown_of(*shown), users, items, times_s, np.array([row[3] == "e" for row in events], np.bool_))
    table = ShownTable(WIDTH, N_USERS)
    for start, end in pairwise([0, *sorted(cuts), 40]):
        table.learn(folded.between(start, end, lambda user: user))
    for user in range(N_USERS):
        entries = unpack_shown(table.pack(np.array([user])))[0].tolist()
        assert [(str(item), *facts) for item, *facts in entries] == plain[user].entries


COUNTING = EngineConfig(shown_items=20)


def case_with(log: Log, event: int, *rows: tuple[int, int, int, int], config: EngineConfig = COUNTING) -> RankerCases:
    return gather(config, replace(log, impressions=shown_of(*rows)), np.array([event]), size=50)


@pytest.mark.parametrize("exact_items", [10_000, 10], ids=["small", "large"])
def test_what_is_shown_after_the_event_that_the_list_was_made_at_changes_no_case_and_one_event_earlier_it_does(exact_items: int) -> None:
    log, config = log_of(600), replace(COUNTING, exact_items=exact_items)
    event = int(log.targets()[-20])
    user, now_s = int(log.users[event]), int(log.times_s[event])
    before = int(np.flatnonzero(log.users[:event] == user)[-1])
    shown_s = now_s - 7_200
    none, replay = gather(config, log, np.array([event]), size=50), Replay(config, log)
    replay.learn_until(event)
    candidates, _ = replay.engine.shortlist(np.array([replay.slot(user)]), {}, now_s, size=50)
    best, other = candidates.numbers[0, :2].tolist()
    rows = [(user, best, shown_s, before), (user, best, shown_s, before), (user, other, shown_s + 3_600, before)]
    first = case_with(log, event, *rows[:1], config=config)
    assert first.version != WITHOUT_SHOWN and first.features.shape[2] == none.features.shape[2] + len(SHOWN)
    np.testing.assert_array_equal(first.features[:, :, : len(FEATURES)], none.features, err_msg="nothing else reads impressions")
    later = [(user, best, at_s, place) for place in (before + 1, event, event + 1, len(log)) for at_s in (1, shown_s, now_s)]
    others = [((user + 1) % 40, best, shown_s, 0)]  # another user's
    np.testing.assert_array_equal(case_with(log, event, *rows[:1], *later, *others, config=config).features, first.features)
    earlier = case_with(log, event, *rows, config=config)
    count, age = (earlier.features[0, :, names_of(()).index(name)] for name in SHOWN)
    seen = np.flatnonzero(count)
    assert seen.tolist() == [0, 1] and (age[2:] == NEVER).all()
    assert count[:2].tolist() == pytest.approx([np.log2(3), 1.0]) and age[:2].tolist() == pytest.approx([np.log2(3), 1.0])


def test_where_nobody_counts_or_nothing_was_shown_the_features_are_those_of_version_2() -> None:
    log, events = log_of(600), np.array([400, 500])
    plain = gather(EngineConfig(), log, events, size=20)
    shown = shown_of(*((int(user), 5, START_S, place) for place, user in enumerate(log.users.tolist())))
    for config, impressions in ((EngineConfig(), shown), (COUNTING, None), (COUNTING, shown_of())):
        cases = gather(config, replace(log, impressions=impressions), events, size=20)
        assert cases.version == plain.version == WITHOUT_SHOWN
        np.testing.assert_array_equal(cases.features, plain.features)
    np.testing.assert_array_equal(gather(COUNTING, replace(log, impressions=shown), events, size=20).features[..., :-2], plain.features)


def test_the_first_events_of_a_log_keep_the_impressions_before_them_and_columns_are_checked() -> None:
    log = replace(log_of(30), impressions=shown_of((1, 2, 3, 0), (1, 2, 4, 9), (1, 2, 5, 10), (1, 2, 6, 30)))
    cut = log.first(10).impressions
    assert cut is not None and cut.times_s.tolist() == [3, 4] and cut.type_code == IMPRESSION
    one = np.zeros(1, np.int64)
    with pytest.raises(ShapeError, match="places has 2 entries for 1 impressions"):
        Impressions(one, one, one, np.zeros(2, np.int64))
    with pytest.raises(ShapeError, match="must ascend"):
        Impressions(*np.array([[0, 0]] * 3), np.array([1, 0]))


def tired(n_events: int, seed: int = 0, n_items: int = 120) -> Log:
    """Return a log of users who choose what is popular, but never what they saw three times."""
    random = np.random.default_rng(seed)
    liking = 1.0 / (10 + np.arange(n_items))
    users, items, shown = random.integers(0, 40, n_events), np.empty(n_events, np.int64), list[tuple[int, int, int, int]]()
    seen, touched = np.zeros((40, n_items), np.int64), np.zeros((40, n_items), np.bool_)
    for event, user in enumerate(users.tolist()):
        chances = liking * ~touched[user]
        page = random.choice(n_items, 8, replace=False, p=chances / chances.sum())
        at_s = START_S + 300 * event
        shown += [(user, item, at_s - 60, event) for item in page.tolist()]
        seen[user, page] += 1
        chances = liking * ~touched[user] * (seen[user] < 3)
        items[event] = random.choice(n_items, p=chances / chances.sum())
        touched[user, items[event]] = True
    return Log(users, items, START_S + 300 * np.arange(n_events), np.full(n_events, 32, np.int8), impressions=shown_of(*shown))


def test_a_ranker_learns_that_users_are_tired_of_what_they_saw_three_times_and_one_without_impressions_does_not() -> None:
    log, config = tired(1_200), EngineConfig(shown_items=120)
    targets, start = log.targets(), recipe_of(**{"popularity.all": 1.0})
    cut = int(0.75 * len(targets))
    options = RankerOptions(trees=30, leaves=6, learning_rate=0.2, least_rows=10, ridge=1.0, patience=10, cases=400)
    newest, found = evenly(targets[cut:], 150), {}
    for name, one in (("with", log), ("without", replace(log, impressions=None))):
        ranker = train_ranker(config, one.first(int(targets[cut])), start, options, among=targets[:cut])
        assert ranker.reads_shown == (name == "with")
        judged = judge(config, one, newest, {"on": start, "off": start}, 2, rankers={"on": ranker})
        found[name] = judged.ndcg("on").mean()
    assert found["with"] > 1.25 * found["without"]
