"""Reasons are faithful: without the reason, the score of an item drops."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from recsys.engine import Engine
from recsys.lists.reason_kinds import KINDS, Reasons
from recsys.lists.result import Lists
from tests.unit.recsys.lists.reason_worlds import (
    BUY,
    I64,
    NAMED,
    NOW_S,
    SOURCES,
    Places,
    engine_of,
    kind_of,
    listed,
    scores_of,
    scores_without_reasons,
    without_sources,
)

CONTROL = dict.fromkeys(NAMED, ("trending",)) | {"popular_now": ("cooccurrence", "content"), "again": ("trending",), "profile": ("new",)}
"""Sources that are not the reason."""


@pytest.fixture(scope="module")
def engine() -> Engine:
    return engine_of()


@pytest.fixture(scope="module")
def made(engine: Engine) -> tuple[I64, Lists]:
    return listed(engine)


def test_without_its_reason_the_score_of_an_item_drops(
    engine: Engine, made: tuple[I64, Lists], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand lists: of each item alone, what the reason names is taken away."""
    places, context = Places.of(*made), engine.shared(NOW_S)
    before = scores_of(engine, places.slots, places.items, context, places.preferred)
    after = scores_without_reasons(engine, places, context, monkeypatch)
    has_reason = places.kinds != None  # noqa: E711
    assert len(set(places.slots.tolist())) == 1_000 and has_reason.mean() > 0.99
    assert (before > after)[has_reason].mean() >= 0.99
    for kind in set(places.kinds[has_reason].tolist()):
        assert (before > after)[places.kinds == kind].mean() >= 0.97, kind


def test_without_the_source_of_the_reason_the_score_drops_more_than_without_another(engine: Engine, made: tuple[I64, Lists]) -> None:
    places, context = Places.of(*made), engine.shared(NOW_S)
    places = places.chosen(np.arange(len(places.slots)) % 2 == 0)
    drops, leads = [], []
    for kind, other in CONTROL.items():
        some = places.chosen(places.kinds == kind)
        before = scores_of(engine, some.slots, some.items, context, some.preferred)
        own, control = (
            scores_of(engine, some.slots, some.items, without_sources(context, names), some.preferred) for names in (SOURCES[kind], other)
        )
        drops.append(before > own)
        leads.append(own < control)
        assert leads[-1].mean() > 0.7, kind
    assert np.concatenate(drops).mean() >= 0.97 and np.concatenate(leads).mean() >= 0.9


def test_kinds_follow_the_structure_of_the_data(engine: Engine, made: tuple[I64, Lists]) -> None:
    slots, lists = made
    kinds, reasons = kind_of(lists), lists.reasons
    assert reasons is not None and set(Counter(kinds.ravel().tolist())) >= set(KINDS)
    table = engine.users
    for row, place in zip(*np.nonzero(np.isin(kinds, NAMED)), strict=True):
        own = int(lists.because[row, place, 0])
        column = np.flatnonzero(table.items[slots[row]] == own)[-1]
        assert own >= 0 and (kinds[row, place] != "bought_together" or table.types[slots[row], column] == BUY)
    for row, place in zip(*np.nonzero(kinds == "again"), strict=True):
        assert lists.items[row, place] in table.items[slots[row]]
    for row, place in zip(*np.nonzero(kinds == "new_in"), strict=True):
        item = int(lists.items[row, place])
        assert item % 40 == 7 and reasons.category(row, place) == f"taste {item % 12}"
    newcomers = np.flatnonzero(table.lengths[slots] == 0)
    assert set(kinds[newcomers].ravel().tolist()) <= {"profile", "new_in", "popular_now"}
    for row, place in zip(*np.nonzero(kinds == "profile"), strict=True):
        assert row in newcomers and reasons.category(row, place) == f"taste {lists.items[row, place] % 12}"


def test_reasons_change_neither_items_nor_scores_nor_what_else_lists_say(engine: Engine, made: tuple[I64, Lists]) -> None:
    slots, context = made[0], engine.shared(NOW_S)
    off = replace(context, options=replace(context.options, reasons=False), _made={})
    vectors = engine.encode(slots)
    plain, again = engine.recommend(slots, vectors, off), engine.recommend(slots, vectors, context)
    assert plain.reasons is None and again.reasons is not None
    for name in ("items", "scores", "because", "propensities"):
        assert np.array_equal(getattr(plain, name), getattr(again, name)), name
    assert plain.contributions.keys() == again.contributions.keys()
    assert all(np.array_equal(part, again.contributions[name]) for name, part in plain.contributions.items())


def test_reasons_do_not_depend_on_who_is_listed_together(engine: Engine, made: tuple[I64, Lists]) -> None:
    slots, lists = made
    rows = np.array([3, 17, 400, 401])
    alone = engine.recommend(slots[rows], engine.encode(slots[rows]), engine.shared(NOW_S))
    assert np.array_equal(kind_of(alone), kind_of(lists)[rows])


def test_joined_lists_keep_their_categories() -> None:
    one = Reasons(np.array([[6, 1]], np.uint8), np.array([[0, -1]], np.int32), ["jazz"])
    other = Reasons(np.array([[5, 6]], np.uint8), np.array([[1, 0]], np.int32), ["folk", "soul"])
    joined = Reasons.joined([one, other])
    assert [joined.category(row, place) for row in range(2) for place in range(2)] == ["jazz", None, "soul", "folk"]
    assert [joined.kind(1, place) for place in range(2)] == ["profile", "new_in"] and joined.at(np.array([1])).category(0, 0) == "soul"
