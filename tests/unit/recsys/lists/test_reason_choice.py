"""What carried an item: by hand, for large catalogues, sequences, and rankers of plugins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys.lists import features_kernel, reason_kernel
from recsys.lists.features import Features
from recsys.lists.reason_kernel import AGAIN, NEW, OWN, PEOPLE, POPULAR, PROFILE, SEQUENCE, Carried, Own
from recsys.lists.reason_kinds import KINDS
from recsys.lists.registry import built_in
from recsys.lists.sources.base import Source
from tests.unit.recsys.lists.policy_worlds import NOW_S, engine_of, slots_of


def kind_of(
    parts: dict[int, tuple[float, float, float]],
    *,
    named: bool = True,
    bought: bool = False,
    preferred: bool = False,
    cooccurrence: int = -1,
) -> str | None:
    """Return the kind of one item: group ▸ what its part gave, what it gave to the average candidate, and the raw score."""
    columns = np.array([list(values) for values in parts.values()], np.float32).reshape(-1, 3)
    given, average, raw = (np.ascontiguousarray(columns[:, at]) for at in range(3))
    carried = Carried(given[:, None, None], raw[:, None, None], average[:, None], np.array(list(parts), np.int64), cooccurrence)
    types = np.zeros(256, np.bool_)
    types[1] = bought
    because = np.array([[[7 if named else -1, -1]]])
    history, codes = np.array([[0, 7]], np.uint32), np.array([[0, 1]], np.uint8)
    own = Own(because, history, codes, 2, np.zeros(1, np.int64), types, np.array([preferred]))
    kinds = np.empty((1, 1), np.uint8)
    reason_kernel.choose(carried, own, np.array([[3]]), kinds)
    return KINDS[kinds[0, 0] - 1] if kinds[0, 0] else None


@pytest.mark.parametrize(
    ("parts", "options", "kind"),
    [
        ({OWN: (5.0, 4.9, 1.0), POPULAR: (1.0, 0.5, 1.0)}, {}, "popular_now"),  # the larger part is what all have
        ({OWN: (5.0, 1.0, 1.0), POPULAR: (1.0, 0.5, 1.0)}, {}, "because"),
        ({OWN: (5.0, 1.0, 1.0), POPULAR: (1.0, 0.5, 1.0)}, {"bought": True}, "because"),  # by content, not by co-occurrence
        ({OWN: (5.0, 1.0, 1.0), POPULAR: (1.0, 0.5, 1.0)}, {"bought": True, "cooccurrence": 0}, "bought_together"),
        ({OWN: (5.0, 1.0, 1.0)}, {"named": False}, None),
        ({OWN: (5.0, 1.0, 1.0)}, {"named": False, "preferred": True}, "profile"),
        ({SEQUENCE: (5.0, 1.0, 1.0)}, {}, "because"),
        ({SEQUENCE: (5.0, 1.0, 1.0)}, {"named": False}, "people_like_you"),
        ({PEOPLE: (2.0, 1.0, 1.0), OWN: (1.0, 0.5, 1.0)}, {}, "people_like_you"),
        ({PEOPLE: (2.0, 1.0, 1.0), OWN: (1.0, 0.5, 1.0), SEQUENCE: (1.0, 0.4, 1.0)}, {}, "because"),  # together they are more
        ({AGAIN: (2.0, 0.0, 1.0), OWN: (1.0, 0.5, 1.0)}, {}, "again"),
        ({PROFILE: (2.0, 0.0, 1.0), OWN: (1.0, 0.5, 1.0)}, {}, "profile"),
        ({NEW: (2.0, 0.0, 1.0), POPULAR: (1.0, 0.5, 1.0)}, {}, "new_in"),
        ({NEW: (2.0, 0.0, 0.0), POPULAR: (1.0, 0.5, 1.0)}, {}, "popular_now"),  # a source without an opinion
        ({POPULAR: (0.2, 0.5, 1.0), OWN: (0.1, 0.9, 1.0)}, {}, "popular_now"),  # below the average in all: where it loses least
        ({-1: (9.0, 0.0, 1.0)}, {}, None),
        ({}, {}, None),
    ],
)
def test_the_part_by_which_an_item_stands_out_is_the_reason(
    parts: dict[int, tuple[float, float, float]], options: dict[str, Any], kind: str | None
) -> None:
    assert kind_of(parts, **options) == kind


def test_the_average_candidate_has_the_mean_features_of_those_that_there_are() -> None:
    values = np.arange(12, dtype=np.float32).reshape(2, 6) ** 2
    for numbers in ([4, 5, 6, 7, 8], [4, 5, 6, -1, -1], [4, -1, 6, -1, 8], [-1, -1, -1, -1, -1]):
        of, given = np.array(numbers), values.copy()
        features_kernel._average(given, of)
        valid = of >= 0
        expected = values[:, :5][:, valid].mean(axis=1) if valid.any() else np.zeros(2)
        assert given[:, 5] == pytest.approx(expected) and np.array_equal(given[:, :5], values[:, :5])


def test_reasons_of_a_large_catalogue_are_those_of_a_small_one_where_candidates_are_the_same() -> None:
    found = []
    for large in (False, True):
        engine = engine_of(n_items=64, large=large, reasons=True, bought_types=1, list_size=10)
        slots = slots_of(engine)
        preferred = {len(slots) - 1: ["c3", "d1"]}
        lists = engine.recommend(slots, {}, NOW_S, preferred=preferred)
        assert lists.reasons is not None
        places = [(row, place) for row in range(len(slots)) for place in range(10)]
        found.append({(row, int(lists.items[row, place])): lists.reasons.kind(row, place) for row, place in places})
        newcomer = {lists.reasons.category(len(slots) - 1, place) for place in range(10)}
        assert newcomer >= {"c3"} and newcomer <= {None, "c3", "d1", *(f"c{n}" for n in range(8)), *(f"d{n}" for n in range(3))}
    small, large_ = found
    both = small.keys() & large_.keys()
    assert len(both) > 0.8 * len(small) and np.mean([small[key] == large_[key] for key in both]) > 0.9


class Shelf(Source):
    """Knows items 0 to 4."""

    name = "shelf"
    reason = "people_like_you"

    def nominate(self, users: Any, context: Any, size: int) -> Any:
        return np.broadcast_to(np.arange(5), (len(users), 5))

    def score(self, users: Any, numbers: Any, context: Any) -> Any:
        return np.where((numbers >= 0) & (numbers < 5), np.float32(1), np.float32(0))


class Unnamed(Shelf):
    name = "unnamed"
    reason = None


class Sum:
    """Ranks by the sum of all shares."""

    def score(self, features: Features, valid: Any) -> Any:
        return features.values.sum(axis=2)

    def parts(self, features: Features) -> Any:
        return features.values


@pytest.mark.parametrize("source", [Shelf, Unnamed])
def test_a_plugins_source_says_its_kind_and_a_plugins_ranker_its_parts(source: type[Source]) -> None:
    registry = built_in()
    registry.sources.add(source.name, source)
    registry.rankers.add("sum", Sum)
    engine = engine_of(n_items=64, registry=registry, source_weights={"trending": 0.1, source.name: 5.0}, reasons=True)
    lists = engine.recommend(slots_of(engine), {}, NOW_S)
    assert lists.reasons is not None
    on_shelf = [(row, place) for row, place in zip(*np.nonzero((lists.items >= 0) & (lists.items < 5)), strict=True)]
    assert len(on_shelf) > 20
    expected = {"people_like_you"} if source is Shelf else {"popular_now", None}
    assert {lists.reasons.kind(row, place) for row, place in on_shelf} <= expected
