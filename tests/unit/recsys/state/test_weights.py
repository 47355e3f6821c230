from __future__ import annotations

import numpy as np
import pytest

from recsys.errors import ShapeError
from recsys.state.event_weights import WeightTable, event_weights
from schemas import EventType
from workers.settings import WeightSettings
from workers.state.event_weights import weight_table_of

TABLE = WeightTable(by_code=(0.5, 1.0, -1.0, 0.0), rating_code=3, rating_neutral=2.5, rating_best=5.0)


def weigh(codes: list[int], values: list[float]) -> list[float]:
    return event_weights(np.array(codes, np.int8), np.array(values, np.float64), TABLE).tolist()


def test_each_type_has_the_weight_of_its_code() -> None:
    assert weigh([0, 1, 2], [np.nan] * 3) == [0.5, 1.0, -1.0]


def test_a_rating_weighs_by_its_distance_from_neutral_and_is_clipped() -> None:
    assert weigh([3, 3, 3, 3], [5.0, 3.75, 1.25, -40.0]) == [1.0, 0.5, -0.5, -1.0]


def test_a_neutral_rating_is_the_smallest_dislike_and_one_without_value_is_nothing() -> None:
    assert weigh([3, 3], [2.5, np.nan]) == [-1 / 32, 0.0]


def test_no_events_have_no_weights() -> None:
    assert weigh([], []) == []


def test_codes_outside_the_table_and_unequal_lengths_are_refused() -> None:
    with pytest.raises(ShapeError, match="table"):
        weigh([4], [0.0])
    with pytest.raises(ShapeError, match="table"):
        weigh([-1], [0.0])
    with pytest.raises(ShapeError, match="length"):
        weigh([0, 1], [0.0])


def test_settings_name_a_weight_for_every_type_of_the_schema() -> None:
    table = weight_table_of(WeightSettings(purchase=2.0))
    assert len(table.by_code) == len(EventType)
    assert table.by_code[EventType.PURCHASE.code] == 2.0
    assert table.rating_code == EventType.RATING.code
