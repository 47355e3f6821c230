"""Items that rest are on no list, in small and in large catalogues, and lists stay full."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.catalogue.items import ItemContent
from recsys.engine import Engine, EngineConfig
from recsys.lists.filters import Resting
from recsys.lists.shown import FrequencyCap
from recsys.state.shown import ShownEvents
from tests.builders import batch_of, learn

N_ITEMS, N_USERS, SIZE, NOW_S = 60, 30, 10, 10_000


def engine_of(exact_items: int, cap: FrequencyCap | None, shown_items: int = 20) -> Engine:
    """Return an engine in which every user has chosen three items."""
    engine = Engine(EngineConfig(list_size=SIZE, exact_items=exact_items, shown_items=shown_items, frequency_cap=cap))
    for number in range(N_ITEMS):
        engine.describe_item(number, ItemContent(["even" if number % 2 == 0 else "odd"]))
    engine.neighbours.hold_all()
    engine.users.load({f"u{user}": None for user in range(N_USERS)})
    chosen = np.random.default_rng(1).permuted(np.tile(np.arange(N_ITEMS), (N_USERS, 1)), axis=1)[:, :3].ravel()
    learn(engine, batch_of(range(N_USERS), [3] * N_USERS, chosen.tolist(), [NOW_S] * 3 * N_USERS, [32] * 3 * N_USERS))
    return engine


def slots_of(engine: Engine) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([engine.users.slot(f"u{user}") for user in range(N_USERS)], np.int64)


def show(engine: Engine, numbers: np.ndarray[tuple[int, int], np.dtype[np.int64]], at_s: int, times: int) -> None:
    """Show each user these items (U, K) so often."""
    items = np.tile(numbers, (1, times)).ravel().astype(np.uint32)
    counts = np.full(N_USERS, len(items) // N_USERS, np.int64)
    engine.learn_shown(ShownEvents(slots_of(engine), counts, items, np.full(len(items), at_s, np.uint32), np.ones(len(items), np.bool_)))


@pytest.mark.parametrize("exact_items", [10_000, 10], ids=["small", "large"])
def test_what_rests_is_on_no_list_and_lists_stay_full(exact_items: int) -> None:
    engine = engine_of(exact_items, FrequencyCap(2, 100))
    slots = slots_of(engine)
    before = engine.recommend(slots, {}, NOW_S).items
    show(engine, before, NOW_S - 50, 1)
    np.testing.assert_array_equal(engine.recommend(slots, {}, NOW_S).items, before)
    show(engine, before, NOW_S - 50, 1)
    context = engine.shared(NOW_S)
    users = context.users(slots, {})
    kept = Resting().personal(np.tile(np.arange(N_ITEMS), (N_USERS, 1)), users, context)
    assert kept is not None and (kept.sum(axis=1) == N_ITEMS - SIZE).all() and not np.take_along_axis(kept, before, axis=1).any()
    after = engine.recommend(slots, {}, context).items
    assert (after >= 0).all() and np.take_along_axis(kept, after, axis=1).all()
    np.testing.assert_array_equal(engine.recommend(slots, {}, NOW_S + 50).items, before, err_msg="they have rested")


def test_counts_without_a_cap_change_no_list() -> None:
    for shown_items in (0, 20):
        engine = engine_of(10_000, None, shown_items)
        slots = slots_of(engine)
        before = engine.recommend(slots, {}, NOW_S).items
        show(engine, before, NOW_S, 9)
        np.testing.assert_array_equal(engine.recommend(slots, {}, NOW_S).items, before)
        context = engine.shared(NOW_S)
        users = context.users(slots, {})
        assert Resting().personal(before, users, context) is None
        counts, shown = users.shown_counts(before, context), users.shown(context)
        if not shown_items:
            assert counts is None and shown is None
        else:
            assert counts is not None and shown is not None and (counts.counts == 9).all() and (shown.items >= 0).sum() == before.size
