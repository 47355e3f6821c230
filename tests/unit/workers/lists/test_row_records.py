"""Rows in records: what the kernel writes is what dictionaries give and what the schema reads; records without rows stay as they were."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recsys.lists.result import Rows
from recsys.lists.row_options import RowSpec
from schemas import Poison, Recommendations, decode_recommendations, encode
from schemas.examples import PAGE, RECOMMENDATIONS
from workers.errors import SettingsError
from workers.lists import row_kernel
from workers.lists.encoding import ItemIds
from workers.lists.engine_config import engine_config
from workers.lists.row_encoding import with_rows
from workers.lists.row_specs import shown_ids, shown_size
from workers.settings import load_settings

IDS = ["i0", "ü 1", '"2"', "i3", "i4", "i5", "i6", "i7", "i8"]
CATEGORIES = ["Jazz", 'ro"ck', "", "Ünion"]
SPECS = (
    RowSpec("because", 2, 1, None, 'because "x"', "row.because"),
    RowSpec("new_in", 3, 1, None, "new", "Neu in {category}"),
    RowSpec("for_you", 1, 1, None, "for_you", "for_you"),
)
BARE = encode(RECOMMENDATIONS)


def plainly(rows: Rows, page: int) -> list[dict[str, Any]]:
    """Return the rows of a page as dictionaries."""
    found, first = list[dict[str, Any]](), 0
    for at, spec in enumerate(rows.specs):
        places = range(first, first + spec.size)
        first += spec.size
        items = [
            {"item_id": IDS[rows.items[page, place]], "score": round(float(rows.scores[page, place]), 4) + 0.0}
            for place in places
            if rows.items[page, place] >= 0
        ]
        stated: dict[str, Any] = {"name": spec.name, "kind": spec.kind, "title": spec.title}
        if rows.about[page, at] >= 0:
            stated["item_id"] = IDS[rows.about[page, at]]
        if rows.categories[page, at] >= 0:
            stated["category"] = CATEGORIES[rows.categories[page, at]]
        if items:
            found.append(stated | {"items": items})
    return found


def numbers(*shape: int, least: int = -1, most: int = 8) -> st.SearchStrategy[Any]:
    return arrays.arrays(np.int64, shape, elements=st.integers(least, most))


@given(
    counts=numbers(2, 3, least=0, most=3),
    items=numbers(2, 6, least=0),
    scores=arrays.arrays(np.float32, (2, 6), elements=st.sampled_from([0.0, 0.5, -0.25, 3.0, 12345.5, 2.0e9, -0.0])),
    about=numbers(2, 3),
    categories=numbers(2, 3, most=3),
)
def test_rows_are_written_as_dictionaries_would_be(counts: Any, items: Any, scores: Any, about: Any, categories: Any) -> None:
    firsts = np.cumsum([0, *(spec.size for spec in SPECS)])
    for page in range(2):
        for at, spec in enumerate(SPECS):
            items[page, firsts[at] + min(counts[page, at], spec.size) : firsts[at + 1]] = -1
    rows = Rows(SPECS, items, np.where(items >= 0, scores, -np.inf).astype(np.float32), about, categories)
    for page, record in enumerate(with_rows([BARE, BARE], rows, ItemIds(IDS).texts(), CATEGORIES)):
        expected = plainly(rows, page)
        if not expected:
            assert record == BARE, "a record without rows is what it was"
            continue
        found = orjson.loads(record)
        assert found == orjson.loads(BARE) | {"schema_version": 2, "rows": expected}
        assert orjson.dumps(found) == record, "numbers are written the shortest way, and nothing twice"
    assert len(row_kernel.write_rows.signatures) <= 1, "it is compiled once"  # type: ignore[attr-defined]


def test_a_record_with_rows_is_read_back_and_one_without_has_no_trace_of_them() -> None:
    read = decode_recommendations(encode(PAGE), PAGE.user_id.encode())
    assert read == PAGE and read is not None and read.rows[0].item_id == "film-1198" and read.rows[1].category == "Adventure"
    assert "rows" not in json.loads(BARE) and json.loads(BARE)["schema_version"] == 1
    assert {"item_id", "category"} & json.loads(encode(PAGE))["rows"][1].keys() == {"category"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"schema_version": 1}, "rows"),
        ({"schema_version": 3}, "schema_version"),
        ({"rows": [{"name": "a", "kind": "a", "title": "", "items": []}]}, "rows.0.items"),
        ({"rows": [{"name": n, "kind": "a", "title": "", "items": [{"item_id": "x", "score": 1.0}]} for n in "ab"]}, "rows"),
        ({"rows": [{"name": "a", "kind": "a", "title": "", "items": [{"item_id": x, "score": 1.0}]} for x in "xy"]}, "rows"),
        ({"rows": [{"name": str(n), "kind": "a", "title": "", "items": [{"item_id": f"x{n}", "score": 1.0}]} for n in range(17)]}, "rows"),
    ],
)
def test_a_page_that_breaks_the_schema_is_refused_by_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(Poison) as caught:
        decode_recommendations(json.dumps(PAGE.model_dump(mode="json") | change).encode(), PAGE.user_id.encode())
    assert caught.value.field == field


def test_rows_come_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine_config(load_settings()).rows == ()
    given = [{"kind": "because", "title": "row.because"}, {"kind": "category", "category": "Jazz", "size": 4}]
    monkeypatch.setenv("RECSYS_LISTS__ROWS", json.dumps(given))
    settings = load_settings()
    config = engine_config(settings)
    because = RowSpec("because", 10, 3, None, "because", "row.because")
    assert config.rows == (because, RowSpec("category", 4, 3, "Jazz", "category", "category"))
    assert config.list_options.rows == config.rows and shown_size(settings.lists) == 34


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([{"kind": "becuse"}], "lists.rows.0.kind"),
        ([{"kind": "because", "size": 51}], "lists.rows.0.size: .*less than or equal to 50"),
        ([{"kind": "because", "size": 2}], r"lists.rows.0: least \(3\) must not be above size \(2\)"),
        ([{"kind": "category"}], "lists.rows.0: category: a row of this kind needs one"),
        ([{"kind": "again", "category": "x"}], "lists.rows.0: category: a row again is about none"),
        ([{"kind": "because"}, {"kind": "because"}], "lists.rows: 2 rows have the name 'because'"),
        ([{"kind": "because", "name": f"{n}"} for n in range(17)], "lists.rows: .*at most 16"),
    ],
)
def test_a_wrong_row_is_named(rows: list[dict[str, Any]], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load_settings(lists={"rows": rows})


def test_all_items_of_a_record_are_found() -> None:
    assert shown_ids(json.loads(encode(PAGE))) == ["film-1291", "film-260", "film-2115", "film-9000"]
    assert shown_ids(json.loads(BARE)) == ["film-1291", "film-260"]
    assert isinstance(PAGE, Recommendations)
