"""The short way to a record and the long way through the schema say the same."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from recsys.engine import Lists
from schemas import Recommendations, encode
from workers.list_records import ListHead, encode_lists

IDS = [f"i{number}" for number in range(9)]
HEADS = [ListHead("u1", 3, 77, "e1"), ListHead("ü 2", 0, 0, None)]


def some_lists() -> Lists:
    scores = np.array([[2.123456, 1.0, 0.0], [0.5, -np.inf, -np.inf]], np.float32)
    return Lists(
        items=np.array([[4, 0, 8], [1, 2, 3]]),
        scores=scores,
        propensities=np.array([[1.0, 1.0, 1 / 3], [1.0, 1.0, 1.0]], np.float32),
        contributions={
            "cooccurrence": np.array([[2.0, 0.0, 0.0], [0.1, 0.0, 0.0]], np.float32),
            "trending": np.array([[0.123456, 1.0, 0.0], [0.4, 0.0, 0.0]], np.float32),
        },
        because=np.array([[[5, 6], [7, -1], [-1, -1]], [[-1, -1], [0, 0], [0, 0]]]),
    )


def records(lists: Lists, versions: dict[str, str]) -> list[bytes]:
    return encode_lists(HEADS, lists, IDS, generated_ts_ms=1_700_000_000_123, model_versions=versions, variant="default")


@pytest.mark.parametrize("versions", [{}, {"sasrec": "7", "ials": "3"}])
def test_a_record_is_what_the_schema_would_have_written(versions: dict[str, str]) -> None:
    for record in records(some_lists(), versions):
        read = Recommendations.model_validate_json(record)
        assert orjson.loads(encode(read)) == orjson.loads(record)


def test_a_record_names_items_reasons_and_sources() -> None:
    first, second = (Recommendations.model_validate_json(record) for record in records(some_lists(), {"b": "2", "a": "1"}))
    assert first.user_id == "u1" and first.model_version == "a=1,b=2"
    assert (first.trigger.event_id, first.trigger.partition, first.trigger.source_offset) == ("e1", 3, 77)
    assert [(item.rank, item.item_id) for item in first.items] == [(1, "i4"), (2, "i0"), (3, "i8")]
    assert [item.because for item in first.items] == [("i5", "i6"), ("i7",), ()]
    assert first.items[0].sources == {"cooccurrence": 2.0, "trending": 0.1235} and first.items[0].score == 2.1235
    assert first.items[2].propensity == pytest.approx(1 / 3, abs=1e-6)
    assert second.user_id == "ü 2" and second.trigger.event_id is None and second.model_version == "a=1,b=2"
    assert [item.item_id for item in second.items] == ["i1"], "places with nothing to list are left out"
    assert first.list_id != second.list_id


def test_a_list_without_sources_is_a_list_all_the_same() -> None:
    lists = some_lists()
    bare = Lists(lists.items, lists.scores, lists.propensities, {}, lists.because)
    assert Recommendations.model_validate_json(records(bare, {})[0]).items[0].sources == {}
