"""A case of a new user is about all of the user's first choices, and about nothing that a training may not know."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import recsys.recipe.train as training
from recsys.engine import EngineConfig
from recsys.recipe.budget import TrainOptions
from recsys.recipe.cases import Cases
from recsys.recipe.horizon import FIRST_EVENTS, later_choices
from recsys.recipe.replay import Log, Serving, gather
from recsys.recipe.train import train_recipe, with_model_weights


def test_later_choices_are_liked_new_items_up_to_the_tenth_event() -> None:
    users = np.array([0, 0, 1, 0, 0, 0, *[1] * 12, 0])
    items = np.array([7, 8, 3, 8, 9, 6, *range(10, 22), 5])
    weights = np.full(len(users), 32, np.int8)
    weights[5] = -32  # a dislike
    found = later_choices(users, items, weights, np.array([0, 1, 2, 10, 14, 18]))
    assert found.shape == (6, FIRST_EVENTS - 1)
    chosen = [row[row >= 0].tolist() for row in found]
    assert chosen == [[8, 9, 5], [9, 5], list(range(10, 19)), list(range(15, 19)), [], []]
    cut = later_choices(users, items, weights, np.array([0, 1, 2]))
    assert cut[0].max() == 8 and (cut >= 0).sum() == 1, "nothing counts after the last of the events"
    assert later_choices(users, items, weights, np.zeros(0, np.int64)).shape == (0, FIRST_EVENTS - 1)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12), st.sampled_from([-32, 0, 32])), min_size=1, max_size=60), st.data())
def test_later_choices_are_those_of_a_walk_through_the_log(log: list[tuple[int, int, int]], data: st.DataObject) -> None:
    events = sorted(data.draw(st.sets(st.integers(0, len(log) - 1), min_size=1)))
    users, items, weights = (np.array(column) for column in zip(*log, strict=True))
    found = later_choices(users, items, weights.astype(np.int8), np.array(events))
    for event, row in zip(events, found.tolist(), strict=True):
        mine = [place for place in range(events[-1] + 1) if users[place] == users[event]][:FIRST_EVENTS]
        expected, seen = list[int](), {int(items[place]) for place in mine if place <= event}
        for place in mine:
            if place > event and items[place] not in seen:
                seen.add(int(items[place]))
                expected += [int(items[place])] if weights[place] > 0 else []
        expected = expected if event in mine else []
        assert row == expected + [-1] * (FIRST_EVENTS - 1 - len(expected))


def pairs_log(n_users: int = 150, seed: int = 3) -> Log:
    """Return a log of users who begin with two items that belong together, and go on with popular ones."""
    random = np.random.default_rng(seed)
    users, items = list[int](), list[int]()
    for user in range(n_users):
        first = 2 * int(random.integers(10, 20))
        users += [user] * 6
        items += [first, first + 1, *random.permutation(8)[:4].tolist()]
    return Log(np.array(users), np.array(items), 1_700_000_000 + 60 * np.arange(len(users)), np.full(len(users), 32, np.int8))


def seen_by_the_fit(monkeypatch: pytest.MonkeyPatch) -> list[Cases]:
    seen, fit = list[Cases](), training.fit

    def watched(cases: Cases, *arguments: object, **options: object) -> object:
        seen.append(cases)
        return fit(cases, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "fit", watched)
    return seen


def test_cases_name_the_candidates_that_were_chosen_later() -> None:
    log = pairs_log(40)
    events = log.targets()
    (cases,) = gather(EngineConfig(), log, events)
    (again,) = gather(EngineConfig(), log.first(int(events[-1]) + 1), events)
    np.testing.assert_array_equal(cases.later, again.later)
    for row, event in enumerate(events.tolist()):
        n_after = int((log.users[event + 1 : int(events[-1]) + 1] == log.users[event]).sum())
        columns = cases.later[row][cases.later[row] >= 0]
        assert len(set(columns.tolist())) == len(columns) <= n_after and cases.targets[row] not in columns
    at_second = [row for row, event in enumerate(events.tolist()) if event % 6 == 1 and event > 60]
    assert np.mean([(cases.later[row] >= 0).sum() for row in at_second[:-1]]) == 4, "all four popular items are candidates"


def test_a_recipe_learns_first_choices_and_weights_of_models_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    log, seen = pairs_log(), seen_by_the_fit(monkeypatch)
    options = TrainOptions(cases=200, searched=0)
    recipe = train_recipe(EngineConfig(), log, options)
    with_model_weights(EngineConfig(), log, log.targets()[-150:], recipe, Serving({}, {}), options)
    of_recipe, of_models = seen
    assert (of_recipe.later >= 0).any(axis=1).mean() > 0.5 and not of_models.later.size
