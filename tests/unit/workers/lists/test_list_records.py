"""The short way to a record and the long way through the schema say the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recsys.engine import Lists
from schemas import Recommendations, encode
from workers.lists import encoding_kernel
from workers.lists.encoding import ItemIds, ListHead, encode_lists

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


RULES = ('no "spirits"', "shelf", *(f"rule {number}" for number in range(10)))


def records(lists: Lists, versions: dict[str, str]) -> list[bytes]:
    ids = ItemIds(IDS).texts()
    return encode_lists(
        HEADS, lists, ids, generated_ts_ms=1_700_000_000_123, model_versions=versions, variant="default", rule_names=RULES
    )


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


def test_a_place_says_which_rules_moved_it() -> None:
    lists = replace(some_lists(), rules=np.array([[3, 0, 0], [1 << 11, 0, 0]]))
    first, second = (Recommendations.model_validate_json(record) for record in records(lists, {}))
    assert [item.rules for item in first.items] == [('no "spirits"', "shelf"), (), ()]
    assert second.items[0].rules == ("rule 9",)
    assert all(b'"rules"' not in record for record in records(some_lists(), {})), "records without rules are what they were"


def test_a_list_without_sources_is_a_list_all_the_same() -> None:
    lists = some_lists()
    bare = Lists(lists.items, lists.scores, lists.propensities, {}, lists.because)
    assert Recommendations.model_validate_json(records(bare, {})[0]).items[0].sources == {}


def plainly(lists: Lists, row: int) -> list[dict[str, Any]]:
    """The items of a list, place by place."""
    return [
        {
            "rank": place + 1,
            "item_id": IDS[lists.items[row, place]],
            "score": round(float(lists.scores[row, place]), 4),
            "sources": {name: value for name, part in lists.contributions.items() if (value := round(float(part[row, place]), 4)) != 0},
            "because": [IDS[number] for number in lists.because[row, place].tolist() if number >= 0],
            "propensity": round(float(lists.propensities[row, place]), 6),
        }
        | ({"rules": moved} if (moved := moved_by(lists, row, place)) else {})
        for place in range(int(np.isfinite(lists.scores[row]).sum()))
    ]


def moved_by(lists: Lists, row: int, place: int) -> list[str]:
    """Names of the first eight rules whose bits are set."""
    return [] if lists.rules is None else [name for bit, name in enumerate(RULES) if int(lists.rules[row, place]) >> bit & 1][:8]


def numbers(*extremes: float) -> st.SearchStrategy[float]:
    """Small multiples of 1/16, exact in float32 and in four decimals, and a few far out."""
    return st.one_of(st.integers(0, 80).map(lambda n: n / 16), st.sampled_from((0.0, *extremes)))


def columns(values: st.SearchStrategy[Any], dtype: type, *shape: int) -> st.SearchStrategy[Any]:
    return arrays.arrays(dtype, shape, elements=values)


@given(
    scores=columns(numbers(255.9375, 256.0, 1e6, -2.5, -np.inf), np.float32, 2, 5).map(lambda drawn: -np.sort(-drawn, axis=1)),
    parts=st.lists(columns(numbers(255.9375, 3.0e5, -0.5), np.float32, 2, 5), max_size=3),
    because=columns(st.integers(-1, 8), np.int64, 2, 5, 2),
    propensities=columns(st.sampled_from([1.0, 0.25, 0.015625]), np.float32, 2, 5),
    drawn=st.booleans(),
    rules=st.none() | columns(st.sampled_from([0, 1, 2, 5, 1 << 11, (1 << 12) - 1]), np.int64, 2, 5),
)
def test_columns_write_what_would_be_written_place_by_place(
    scores: np.ndarray, parts: list[np.ndarray], because: np.ndarray, propensities: np.ndarray, drawn: bool, rules: np.ndarray | None
) -> None:
    items = np.array([[4, 0, 8, 1, 2], [1, 2, 3, 5, 6]])
    sources = {f"source {number}": part for number, part in enumerate(parts)}
    lists = Lists(items, scores, propensities if drawn else np.ones_like(scores), sources, because, rules)
    for row, record in enumerate(records(lists, {})):
        assert orjson.loads(record)["items"] == plainly(lists, row)
        assert orjson.dumps(orjson.loads(record)) == record, "numbers are written the shortest way, and nothing twice"


@pytest.mark.parametrize("name", ['"quoted\\"', "ü", "a,}", "\U0001f600"])
def test_ids_of_any_characters_are_escaped_as_json(name: str) -> None:
    lists = some_lists()
    ids = [f"{name}{number}" for number in range(9)]
    heads = [ListHead(name, 1, 2, name), ListHead("u", 0, 0, None)]
    found = encode_lists(heads, lists, ItemIds(ids).texts(), generated_ts_ms=1_700_000_000_000, model_versions={}, variant="default")
    first = Recommendations.model_validate_json(found[0])
    assert first.user_id == first.trigger.event_id == name
    assert first.items[0].item_id == f"{name}4" and first.items[0].because == (f"{name}5", f"{name}6")


def test_ids_that_come_later_stand_behind_those_that_were_given_out() -> None:
    names = ["a", "ü"]
    ids = ItemIds(names)
    before = ids.texts()
    names += [f'"{number}"' for number in range(2_000)]
    after = ids.texts()
    for texts, n in ((before, 2), (after, len(names))):
        assert len(texts.ends) == n
        places = zip([0, *texts.ends[:-1].tolist()], texts.ends.tolist(), strict=True)
        assert [orjson.loads(texts.joined[start:end].tobytes()) for start, end in places] == names[:n]
    assert len(ids.texts().ends) == len(names)


def test_the_writer_is_compiled_once() -> None:
    records(some_lists(), {})
    lists = some_lists()
    records(Lists(lists.items, lists.scores, lists.propensities, {}, lists.because), {"a": "1"})
    assert len(encoding_kernel.write.signatures) == 1  # type: ignore[attr-defined]
