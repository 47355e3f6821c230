"""Similar items go from content to what users choose as an item is chosen, in small and in large catalogues; trending compares shares."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.catalogue.items import ItemContent
from recsys.catalogue.labels import Labels
from recsys.engine import Engine, EngineConfig
from recsys.related.similar import similar_items
from recsys.related.trending import by_value, rising
from recsys.state.half_lives import NAMED_HALF_LIVES_S
from recsys.state.popularity import Popularity

DAY_S = 86_400
NOW_S = 20_000 * DAY_S


def engine_of(n_items: int, *, large: bool) -> Engine:
    """Items of two categories, each with a brand of its own every tenth item."""
    engine = Engine(EngineConfig(exact_items=0 if large else 16_000, dense_items=0 if large else 8_192))
    for number in range(n_items):
        engine.describe_item(number, ItemContent(["even" if number % 2 == 0 else "odd"], {"brand": str(number % 10)}))
    engine.neighbours.hold_all()
    return engine


def choose(engine: Engine, number: int, times: int) -> None:
    engine.popularity.add("all", 0, np.array([number], np.uint32), np.array([64 * times]))


def pair(engine: Engine, one: int, other: int, times: float) -> None:
    for row, neighbour in ((one, other), (other, one)):
        engine.neighbours.add_row(row, np.array([neighbour], np.uint32), np.array([times], np.float32), 0)


@pytest.mark.parametrize("large", [False, True])
def test_content_counts_until_users_have_chosen_an_item_often(large: bool) -> None:
    engine = engine_of(60, large=large)
    listable = np.ones(60, np.bool_)
    listable[20] = False
    (before,) = similar_items(engine, [0], listable, size=5, even_events=10, valid_s=NOW_S)
    assert {10, 30, 40, 50} < set(before.numbers.tolist()) and (before.numbers % 2 == 0).all()
    assert (before.support == 0).all() and (np.diff(before.score) <= 0).all() and 0 < before.score[-1] <= before.score[0] <= 1
    for number in range(60):
        choose(engine, number, 5)
    choose(engine, 0, 500)
    choose(engine, 7, 100)
    pair(engine, 0, 7, 60.0)
    pair(engine, 0, 20, 60.0)
    (after,) = similar_items(engine, [0], listable, size=5, even_events=10, valid_s=NOW_S)
    assert after.numbers[0] == 7 and after.support[0] == 60 and 20 not in after.numbers and after.score[0] > 0.9
    (still,) = similar_items(engine, [0], listable, size=5, even_events=1e6, valid_s=NOW_S)
    assert still.numbers[0] != 7, "content still counts most"
    assert not len(similar_items(engine, [0], np.zeros(60, np.bool_), size=5, even_events=10, valid_s=NOW_S)[0].numbers)


def popularity_of(counts: dict[int, tuple[float, float]], n_items: int = 8) -> Popularity:
    """Items by number, with their counts at 6 h and at 15 days."""
    popularity = Popularity(n_items)
    popularity.advance(NOW_S)
    for window, place in (("6h", 0), ("15d", 1)):
        span_s = 6 * NAMED_HALF_LIVES_S[window]
        grown = 2 ** (NOW_S % span_s * 6 / span_s)
        for number, of in counts.items():
            popularity.add(window, NOW_S // span_s, np.array([number], np.uint32), np.array([round(64 * of[place] * grown)]))
    return popularity


def test_what_rises_is_ordered_by_how_sure_that_is() -> None:
    popularity = popularity_of({0: (100, 1_000), 1: (200, 1_000), 2: (5, 10), 3: (3, 0), 4: (1_000, 20_000), 5: (90, 900)})
    found = rising(popularity, np.array([True] * 5 + [False] * 3), now="6h", before="15d", least=4)
    assert found.numbers.tolist() == [1, 0, 2], "3 was chosen too seldom, 4 falls, 5 may not be listed"
    ratio = 1_398 / 22_911
    np.testing.assert_allclose(found.rise, [200 / (1_001 * ratio), 100 / (1_001 * ratio), 5 / (11 * ratio)], rtol=0.05)
    np.testing.assert_allclose(found.count, [200, 100, 5], rtol=0.05)
    assert (np.diff(found.score) < 0).all()


def test_a_log_in_which_all_goes_on_as_before_has_nothing_that_rises() -> None:
    popularity = popularity_of({number: (10.0 * (number + 1), 600.0 * (number + 1) - 1) for number in range(8)})
    found = rising(popularity, np.ones(8, np.bool_), now="6h", before="15d", least=1)
    assert (found.rise < 1.05).all()
    assert not len(rising(Popularity(8), np.ones(8, np.bool_), now="6h", before="15d", least=1).numbers)


def test_each_value_has_its_best_items() -> None:
    popularity = popularity_of({0: (100, 100), 1: (90, 90), 2: (80, 80), 3: (1, 9_000)})
    labels = Labels(8)
    for number, values in enumerate((("a",), ("b", "a"), ("a",), ("c",))):
        labels.put(number, values)
    found = rising(popularity, np.ones(8, np.bool_), now="6h", before="15d", least=1)
    assert {value: best.numbers.tolist() for value, best in by_value(found, labels, 2)} == {"a": [0, 1], "b": [1]}
