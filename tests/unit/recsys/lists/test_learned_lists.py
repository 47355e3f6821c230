"""Lists ranked again: the recipe's without trees, another order with them, and parts that add up."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.catalogue.items import ItemContent
from recsys.engine import Engine, EngineConfig
from recsys.lists.learned.feature_names import FEATURES, names_of
from recsys.lists.learned.forest import NO_NODE, Forest
from recsys.lists.learned.ranker import LearnedRanker
from recsys.recipe.replay import Log, Replay
from recsys.state.shown import ShownEvents
from tests.unit.recsys.recipe.test_replay import START_S, log_of

SIZES = pytest.mark.parametrize("exact_items", [10_000, 10], ids=["small", "large"])


def stump(feature: str, threshold: float, below: float, above: float) -> LearnedRanker:
    """Return a ranker of one tree with one comparison."""
    features, left, right, root = (np.array(one, np.int32) for one in ([names_of(()).index(feature), 0, 0], [1, -1, -1], [2, -1, -1], [0]))
    forest = Forest(features, np.array([threshold, 0, 0], np.float32), left, right, np.array([0, below, above], np.float32), root)
    assert forest.left[1] == NO_NODE
    return LearnedRanker(forest)


def world(exact_items: int, n_events: int = 500, *, reasons: bool = False, shown_items: int = 0) -> Replay:
    log = log_of(n_events)
    contents = {number: ItemContent([f"c{number % 7}"], published_s=START_S - 3_600 * number) for number in range(120)}
    config = EngineConfig(exact_items=exact_items, reasons=reasons, shown_items=shown_items)
    replay = Replay(config, Log(log.users, log.items, log.times_s, log.weights, contents))
    replay.learn_until(n_events)
    return replay


def lists_of(engine: Engine, slots: np.ndarray[tuple[int], np.dtype[np.int64]]) -> tuple[list[list[int]], object]:
    made = engine.recommend(slots, {}, engine.popularity.newest_s)
    return made.items.tolist(), made


@SIZES
def test_a_tree_that_says_nothing_changes_no_list_and_one_that_does_takes_its_items_first(exact_items: int) -> None:
    replay = world(exact_items)
    engine, slots = replay.engine, np.array([replay.slot(user) for user in range(12)])
    before, _ = lists_of(engine, slots)
    engine.use_ranker(stump("cooccurrence.newest", 0.0, 0.0, 0.0))
    assert lists_of(engine, slots)[0] == before
    engine.use_ranker(stump("age", 6.0, 0.0, 50.0))  # published 63 hours ago or earlier
    made = engine.recommend(slots, {}, engine.popularity.newest_s)
    hours = (engine.popularity.newest_s - engine.catalogue.published_s[made.items]) / 3_600
    for row in hours:
        is_old = row >= 63
        assert is_old[: int(is_old.sum())].all() and is_old.any()
    engine.use_ranker(None)
    assert lists_of(engine, slots)[0] == before


@SIZES
def test_parts_add_up_to_scores_and_a_tree_counts_under_its_source(exact_items: int) -> None:
    replay = world(exact_items, reasons=exact_items == 10)
    engine, slots = replay.engine, np.array([replay.slot(user) for user in range(12)])
    trees = (("cooccurrence.most", 0.0, "cooccurrence"), ("popularity.1d-4d", -1.0, "trending"), ("age", 4.0, "new"))
    for feature, threshold, source in trees:
        plain = engine.recommend(slots, {}, engine.popularity.newest_s)
        engine.use_ranker(stump(feature, threshold, -3.0, 40.0))
        made = engine.recommend(slots, {}, engine.popularity.newest_s)
        engine.use_ranker(None)
        listed = made.items >= 0
        np.testing.assert_allclose(sum(made.contributions.values())[listed], made.scores[listed], rtol=1e-4, atol=1e-3)
        assert all((part[listed] >= 0).all() for part in made.contributions.values())
        both = (made.scores.max(axis=1) - made.scores.min(axis=1)) > 30  # both sides of the comparison are on the list
        spread = made.contributions[source].max(axis=1) - made.contributions[source].min(axis=1)
        assert (spread[both] > 30).all() and set(made.contributions) == set(plain.contributions)


@SIZES
def test_what_was_shown_ranks_lower_by_a_tree_that_says_so_and_without_counts_nothing_was(exact_items: int) -> None:
    tired = stump("shown.count", 1.5, 0.0, -30.0)  # twice or more
    for shown_items in (0, 30):
        replay = world(exact_items, shown_items=shown_items)
        engine, slots, now_s = replay.engine, np.array([replay.slot(user) for user in range(12)]), replay.engine.popularity.newest_s
        before = engine.recommend(slots, {}, now_s).items
        items = np.repeat(before[:, :3], 2, axis=1).ravel().astype(np.uint32)
        columns = np.full(len(items), now_s - 60, np.uint32), np.ones(len(items), np.bool_)
        engine.learn_shown(ShownEvents(slots, np.full(len(slots), 6, np.int64), items, *columns))
        np.testing.assert_array_equal(engine.recommend(slots, {}, now_s).items, before)
        engine.use_ranker(stump("shown.age", -0.5, 0.0, -30.0))
        by_age = engine.recommend(slots, {}, now_s).items
        engine.use_ranker(tired)
        after = engine.recommend(slots, {}, now_s).items
        np.testing.assert_array_equal(after, by_age)
        np.testing.assert_array_equal(after[:, : before.shape[1] - 3], before[:, 3:] if shown_items else before[:, :-3])


def test_a_small_and_a_large_catalogue_make_the_same_features() -> None:
    found = []
    for exact_items in (10_000, 10):
        replay = world(exact_items)
        slot = np.array([replay.slot(3)])
        candidates, made = replay.engine.shortlist(slot, {}, replay.engine.popularity.newest_s, size=60)
        found.append({number: made.values[0, place] for place, number in enumerate(candidates.numbers[0].tolist()) if number >= 0})
    both = found[0].keys() & found[1].keys()
    assert len(both) > 20
    own = [place for place, name in enumerate(FEATURES) if not name.endswith(("rank", "relative", "lead")) and not name.endswith(".log")]
    for number in both:
        np.testing.assert_allclose(found[0][number][own], found[1][number][own], rtol=1e-3, atol=2e-3, err_msg=str(number))
