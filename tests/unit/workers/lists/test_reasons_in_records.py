"""Reasons in records, and the sentences that are made of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.engine import Lists
from recsys.lists import reason_kinds
from recsys.lists.reason_kinds import Reasons
from schemas import Recommendations, encode
from schemas.reason_kinds import REASON_KINDS
from tests.unit.workers.lists.test_list_records import RULES, columns, records, some_lists
from workers.client import reason_sentences
from workers.errors import SettingsError
from workers.reason_templates import AND, BUILT_IN, PLACEHOLDERS, checked_template, filled
from workers.settings import load_settings

NAMES = ['"quoted"', "Jazz", "日本"]


def with_reasons(lists: Lists, kinds: Any, categories: Any) -> Lists:
    return replace(lists, reasons=Reasons(np.array(kinds, np.uint8), np.array(categories, np.int32), NAMES))


def test_the_wire_and_the_core_name_the_same_kinds() -> None:
    assert reason_kinds.KINDS == REASON_KINDS


def test_a_place_says_its_reason_and_one_without_says_nothing() -> None:
    lists = with_reasons(some_lists(), [[1, 6, 0], [5, 0, 0]], [[-1, 1, -1], [2, -1, -1]])
    first, second = records(lists, {})
    read = Recommendations.model_validate_json(first)
    assert [(item.reason, item.reason_category) for item in read.items] == [("because", None), ("new_in", "Jazz"), (None, None)]
    assert b'"reason":"profile","reason_category":"\xe6\x97\xa5\xe6\x9c\xac"' in second
    assert "reason" not in orjson.loads(first)["items"][2]
    assert orjson.loads(encode(read)) == orjson.loads(first)
    assert all(b'"reason' not in record for record in records(some_lists(), {})), "records without reasons are what they were"


@settings(max_examples=40)
@given(
    kinds=columns(st.integers(0, len(REASON_KINDS)), np.uint8, 2, 3),
    categories=columns(st.integers(-1, 2), np.int32, 2, 3),
    rules=st.none() | columns(st.sampled_from([0, 1, 5, 1 << 11]), np.int64, 2, 3),
    score=st.sampled_from([2.0, 3e9]),
)
def test_reasons_are_written_as_fields_would_be(kinds: np.ndarray, categories: np.ndarray, rules: np.ndarray | None, score: float) -> None:
    """Digit by digit, and (for huge scores) as dictionaries."""
    categories = np.where(kinds > 0, categories, -1)
    base = some_lists()
    scores = np.where(np.isfinite(base.scores), np.float32(score), base.scores)
    for record in records(replace(with_reasons(base, kinds, categories), rules=rules, scores=scores), {}):
        row = 0 if orjson.loads(record)["user_id"] == "u1" else 1
        for place, item in enumerate(orjson.loads(record)["items"]):
            assert item.get("reason") == (REASON_KINDS[kinds[row, place] - 1] if kinds[row, place] else None)
            number = int(categories[row, place])
            assert item.get("reason_category") == (NAMES[number] if number >= 0 else None)
            assert item.get("rules", []) == [name for bit, name in enumerate(RULES) if rules is not None and rules[row, place] >> bit & 1]
        assert orjson.dumps(orjson.loads(record)) == record


def record_of(*items: dict[str, Any]) -> Recommendations:
    places = [{"rank": rank, "item_id": f"i{rank}", "score": 1.0, **item} for rank, item in enumerate(items, 1)]
    head = {"list_id": "l", "user_id": "u", "generated_ts_ms": 1_764_000_000_000, "variant": "default"}
    return Recommendations.model_validate(head | {"trigger": {"partition": 0, "source_offset": 1}, "items": places})


RECORD = record_of(
    {"reason": "because", "because": ["a", "b", "c"]},
    {"reason": "because", "because": ["b"]},
    {"reason": "bought_together", "because": ["a"]},
    {"reason": "new_in", "reason_category": "Jazz"},
    {"reason": "new_in"},
    {"reason": "profile", "reason_category": "{item}"},
    {"reason": "popular_now"},
    {},
)
TITLES = {"a": "Blue Train", "b": "{category}"}


def test_sentences_name_titles_and_categories() -> None:
    assert reason_sentences(RECORD, TITLES) == [
        "Because you chose Blue Train and {category}",
        "Because you chose {category}",
        "Often bought together with Blue Train",
        "New in Jazz",
        "New",
        "Because you like {item}",
        "Popular now",
        "",
    ]
    assert reason_sentences(RECORD, {}, "de")[:2] == ["Weil du a und b gewählt hast", "Weil du b gewählt hast"]
    assert reason_sentences(RECORD, TITLES, "zh")[3] == "Jazz新品"
    assert reason_sentences(RECORD, TITLES, "de-AT") == reason_sentences(RECORD, TITLES, "de")


def test_own_templates_replace_those_built_in_and_add_languages() -> None:
    own: dict[str, Any] = {"en": {"popular_now": "Hot {{now}}"}, "de-AT": {"new_in": "Neich"}}
    own["fr"] = {"because": ["Comme {items}", "Pour vous"], AND: " et "}
    assert reason_sentences(RECORD, TITLES, "en", own)[6] == "Hot {now}" and reason_sentences(RECORD, TITLES, "en", own)[3] == "New in Jazz"
    assert reason_sentences(RECORD, TITLES, "fr", own)[:3] == ["Comme Blue Train et {category}", "Comme {category}", ""]
    assert reason_sentences(RECORD, TITLES, "de-AT", own)[3:5] == ["Neich", "Neich"]
    with pytest.raises(ValueError, match=r"no sentences in 'it': choose one of de, en, zh"):
        reason_sentences(RECORD, TITLES, "it")


def test_every_language_built_in_has_a_sentence_for_every_kind_without_anything_named() -> None:
    for kinds in BUILT_IN.values():
        assert set(kinds) == {*REASON_KINDS, AND}
        for kind in REASON_KINDS:
            assert all(checked_template(template) for template in kinds[kind]) and filled(kinds[kind][-1], {}) is not None


@settings(max_examples=40)
@given(values=st.dictionaries(st.sampled_from(PLACEHOLDERS), st.text("x{}ü\x00", max_size=5)), before=st.text("a{}", max_size=4))
def test_a_value_is_never_read_as_a_template(values: dict[str, str], before: str) -> None:
    escaped = before.replace("{", "{{").replace("}", "}}")
    for name, value in values.items():
        assert filled(escaped + "{" + name + "}", values) == before + value
    assert filled(escaped, values) == before and checked_template(escaped) == escaped


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ({"en": {"because": "{item.__class__}"}}, "no placeholder: there are"),
        ({"en": {"because": "{item[0]}"}}, "no placeholder"),
        ({"en": {"because": "{0}"}}, "no placeholder"),
        ({"en": {"because": "{item!r:>9}"}}, "no placeholder"),
        ({"en": {"because": "{"}}, "a single {: write {{"),
        ({"en": {"because": ""}}, "at least 1 character"),
        ({"en": {"since": "x"}}, "'since' is no kind of reason"),
        ({"e n": {"because": "x"}}, "'e n' is no language"),
    ],
)
def test_templates_that_cannot_be_filled_are_refused_at_start(templates: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match="reason_templates") as error:
        load_settings(lists={"reason_templates": templates})
    assert message in str(error.value)
