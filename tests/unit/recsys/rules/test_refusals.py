"""A condition or a rule that cannot be read says where, why, and what to write."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import RuleError
from recsys.rules.check import condition
from recsys.rules.rule import MAX_RULES, Rule, RuleSet
from recsys.rules.syntax import MAX_CHARS, MAX_DEPTH, parse
from recsys.rules.tree import Apply, Column, Constant, Kind

A_TIME = 'column 18: a time has a date, a time of day and a zone: write timestamp("2026-01-31T00:00:00Z")'
BOTH = "it compares the item with the user: write two comparisons, one of each, joined by && or ||"
REFUSED = {
    "": 'it is empty: write a condition such as item.brand == "acme"',
    " \n": 'it is empty: write a condition such as item.brand == "acme"',
    'item.a == "' + "x" * MAX_CHARS + '"': "it has 8,204 characters, 8,192 are allowed: write several rules",
    "!" * 200 + "has(item.a)": "column 171: it nests deeper than 32 levels: write several rules",
    "(" * 4_000 + "has(item.a)": "column 4012: the condition ends too early: complete it, or close a bracket",
    "item.a = 3": "column 8: '=' does not fit here: write == to compare",
    "item.a & item.b": "column 8: '&' does not fit here: write &&",
    "item.a | item.b": "column 8: '|' does not fit here: write ||",
    "item.a and item.b": "column 8: 'and' does not fit here: write &&",
    "item.a or item.b": "column 8: 'or' does not fit here: write ||",
    'item.a is "b"': "column 8: 'is' does not fit here: write ==",
    'item.a like "b"': "column 8: 'like' does not fit here: write contains(…)",
    'not item.a == "b"': "column 5: 'item' does not fit here: write ! instead of not",
    'item.a == "b': "column 11: '\"' does not fit here: close the text with the same quote",
    "item.a == 'b": "column 11: \"'\" does not fit here: close the text with the same quote",
    'item.a # "b"': "column 8: '#' does not fit here: write a condition such as item.price < 20.0 && \"toys\" in item.categories",
    "item.a ==": "column 10: the condition ends too early: complete it, or close a bracket",
    "(item.a == 1.0": "column 15: the condition ends too early: complete it, or close a bracket",
    'item.a == "\\q"': "column 11: the text has an escape that CEL does not know: write a backslash as \\\\",
    'item.a == "\\ud800"': "column 11: the text has an escape that CEL does not know: write a backslash as \\\\",
    "item.a == 1e999": "column 11: the number is too large",
    'itm.a == "b"': "column 1: unknown name itm; did you mean item? Known: item, user",
    'x == "b"': "column 1: unknown name x; Known: item, user",
    'item.categorys == "a"': "column 1: unknown name item.categorys; did you mean item.categories? "
    'An attribute of that name is item["categorys"]',
    "user.histori_size > 3 && has(item.a)": "column 1: unknown name user.histori_size; did you mean user.history_size? "
    'An attribute of that name is user["histori_size"]',
    '"a" in user.preferred_categories': "column 8: unknown name user.preferred_categories; did you mean user.categories? "
    'An attribute of that name is user["preferred_categories"]',
    'user["id"] == "x"': "it says nothing about the item: compare item.id, item.categories or an attribute such as item.brand",
    'item[1] == "x"': 'column 1: brackets hold the name of an attribute: write item["name of attribute"] or user["name of attribute"]',
    'user[1] == "x"': 'column 1: brackets hold the name of an attribute: write item["name of attribute"] or user["name of attribute"]',
    "user.country && has(item.a)": "column 1: user.country is compared with nothing: write user.country == …, or has(user.country)",
    "user.a == user.b && has(item.a)": "column 8: it is not clear whether user.a is a text or a number: write string(user.a) or double(…)",
    'user["a b"] == user.b': "column 13: it is not clear whether user['a b'] is a text or a number: write string(user['a b']) or double(…)",
    '"a" in user.interests': "column 8: user.interests is no list: write item.categories, user.categories or a list in brackets after in",
    "item.brand == string(user.brand)": f"column 12: {BOTH}",
    "item.price < user.budget * 2": f"column 12: {BOTH}",
    'item.a.b == "x"': "column 1: only item and user have properties: write item.name or user.name",
    'item == "x"': "column 1: write item.id or another property of it",
    "item.a": "column 1: item.a is compared with nothing: write item.a == …, or has(item.a)",
    "!item.a": "column 2: item.a is compared with nothing: write item.a == …, or has(item.a)",
    'item["a b"] || item.c == 1.0': "column 1: item['a b'] is compared with nothing: write item['a b'] == …, or has(item['a b'])",
    'item.a == "b" && "c"': "column 18: 'c' is a text, where true or false is needed: compare it",
    "item.age_days": "column 1: item.age_days is a number, where true or false is needed: compare it",
    "true": "column 1: true is not needed: write has(…), the comparison itself, or !(…)",
    "item.a == null": "column 11: null is not needed: write has(…), the comparison itself, or !(…)",
    "item.a == item.b": "column 8: it is not clear whether item.a is a text or a number: write string(item.a) or double(…)",
    'item.age_days == "x"': "column 18: 'x' is a text, where a number is needed",
    "item.published > 3": 'column 16: a time is compared with a time: write timestamp("2026-01-31T00:00:00Z")',
    'item.published > timestamp("2026-01-31")': A_TIME,
    'item.published > timestamp("x")': A_TIME,
    "item.published > timestamp(3)": A_TIME,
    'item["a"] > item.published': "column 1: item['a'] is an attribute, a text or a number, where a time is needed",
    'item.categories == ["a"]': 'column 17: a list is searched, not compared: write "x" in item.categories',
    'item.categories.contains("a")': 'column 17: a list is searched with in: write "x" in item.categories',
    '"a" in item.brand': "column 8: item.brand is no list: write item.categories, user.categories or a list in brackets after in",
    "item.published in [1]": "column 1: item.published is a time, where a number is needed",
    "item.a in []": "column 1: a list is empty: write at least one value",
    'item.a in ["b", 1]': "column 12: a list holds texts or numbers, not both",
    "item.a in [item.b]": "column 12: a list holds texts or numbers that are written out",
    "item.a in [true]": "column 12: a list holds texts or numbers that are written out",
    '(item.a == "b") == (item.c == "d")': "column 17: true and false are joined, not compared: write a && b, or !a",
    "item.a % 2 == 1": "column 8: % is not known here",
    'item.a + "b" == "c"': "column 10: 'b' is a text, where a number is needed",
    "has(item.a) ? has(item.b) : has(item.c)": "column 1: ?: is not known here: write (a && b) || (!a && c)",
    'item.title.matches("a.*")': "column 12: matches() is not known here: write startsWith, endsWith or contains: "
    "a pattern could take longer than a list may",
    'item.title.stratsWith("a")': "column 12: unknown function stratsWith; did you mean startsWith? "
    "Known: startsWith, endsWith, contains, lowerAscii, size",
    "foo(item.a)": "column 1: unknown function foo; Known: has, size, string, double, timestamp",
    'startsWith(item.a, "b")': "column 1: startsWith is written value.startsWith(…)",
    "item.a.has()": "column 8: has is written has(value)",
    "__import__('os').system('x')": "column 18: unknown function system; Known: startsWith, endsWith, contains, lowerAscii, size",
    "item.a.startsWith()": 'column 8: startsWith takes one text: write item.title.startsWith("x")',
    "size(item.a, item.b) > 1": "column 1: size takes one value: write size(value)",
    "size(item.published) > 1": "column 6: item.published is a time, and only texts and lists have a size",
    "size([1, 2]) > 1": "column 7: the list is a list of numbers, and only texts and lists have a size",
    'size(["a"]) > 1': "column 7: size of a list that is written out: write the number",
    "has(3)": "column 1: has() takes a property: write has(item.name)",
    "has(item.a == 1)": "column 1: has() takes a property: write has(item.name)",
    "item.brand in user.categories": f"column 12: {BOTH}",
    "item.age_days < user.idle_days": f"column 15: {BOTH}",
    "user.id in user.categories && has(item.a)": "column 1: in user.categories only a text is searched that is written out: "
    'write "toys" in user.categories',
    "size(user.categories) > 1 && has(item.a)": "column 1: user.categories has no size: write has(user.categories) or user.history_size",
    "user.history_size > 3": "it says nothing about the item: compare item.id, item.categories or an attribute such as item.brand",
    '"a" == "a"': "it says nothing about the item: compare item.id, item.categories or an attribute such as item.brand",
}


@pytest.mark.parametrize("when", REFUSED, ids=lambda when: when[:40])
def test_each_refusal_says_where_why_and_what_to_write(when: str) -> None:
    with pytest.raises(RuleError) as refused:
        condition(when)
    assert str(refused.value) == REFUSED[when]


@given(st.text(max_size=60) | st.text(alphabet='item.user"\'&|!=<>()[]+-*/%?: \\\t0123456789eabcx', max_size=60))
def test_any_text_is_read_or_refused_in_one_line(when: str) -> None:
    said = ""
    try:
        condition(when)
    except RuleError as refused:
        said = str(refused)
    assert said.isprintable(), "data is text wherever it is shown"


@given(st.text(max_size=30))
def test_a_text_is_itself_however_it_is_written(text: str) -> None:
    escaped = "".join(f"\\U{ord(letter):08x}" for letter in text)
    if not any(0xD800 <= ord(letter) <= 0xDFFF for letter in text):
        assert parse(f'"{escaped}"').value == text
    if not set(text) & set("\r\n'"):
        assert parse(f"r'{text}'").value == text


def test_escapes_and_numbers_are_those_of_cel() -> None:
    assert parse(r'"\a\b\f\n\r\t\v\\\?\"\'\`\x41\u00e9\101"').value == "\a\b\f\n\r\t\v\\?\"'`A\u00e9A"
    assert [parse(number).value for number in ("0x1F", "12", "1.5", ".5", "1e3", "2.5E-1")] == [31.0, 12.0, 1.5, 0.5, 1000.0, 0.25]
    negative = condition("item.price in [-1, 2] || item.price == -3.0")
    assert negative == condition("(item.price in [-1.0, 2.0]) || (item.price == -3.0)")


def test_operators_bind_as_in_cel() -> None:
    for loose, explicit in (
        ("has(item.a) || has(item.b) && has(item.c)", "has(item.a) || (has(item.b) && has(item.c))"),
        ("!has(item.a) && has(item.b)", "(!has(item.a)) && has(item.b)"),
        ("item.a + 2 * item.b < -item.c - 1 / 2", "(item.a + (2 * item.b)) < ((-item.c) - (1 / 2))"),
        ("item.a - 1 - 1 == 0", "((item.a - 1) - 1) == 0"),
    ):
        assert condition(loose) == condition(explicit)


def test_nesting_up_to_the_bound_is_read_far_from_the_interpreters_own() -> None:
    condition("!" * (MAX_DEPTH - 4) + "has(item.a)")
    condition(" || ".join(f'item.a == "{number}"' for number in range(400)))
    assert sys.getrecursionlimit() > 10 * MAX_DEPTH


def test_an_attribute_is_a_text_or_a_number_as_it_is_compared() -> None:
    tree = condition('item.size == "L" || item.size > 40.0')
    assert tree.operands[0] == Apply("==", (Column("item", "size", Kind.TEXT, True), Constant("L", Kind.TEXT)), Kind.TRUTH)  # type: ignore[union-attr]
    assert tree.operands[1].operands[0] == Column("item", "size", Kind.NUMBER, True)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"when": "item.a"}, "rule 'x': when: column 1: item.a is compared with nothing"),
        ({"amount": 0.0, "action": "boost"}, "rule 'x': amount: it must be above 0 and at most 1000"),
        ({"amount": -1.0, "action": "bury"}, "rule 'x': amount: it must be above 0 and at most 1000"),
        ({"amount": 1_001.0, "action": "boost"}, "rule 'x': amount: it must be above 0 and at most 1000"),
        ({"amount": float("nan"), "action": "boost"}, "rule 'x': amount: it must be above 0 and at most 1000"),
        ({"amount": 2.0}, "rule 'x': amount: deny has none: remove it"),
        ({"places": (1,)}, "rule 'x': places: deny has none: remove them, or write action pin"),
        ({"action": "pin"}, "rule 'x': places: pin needs the places that matching items take: write places = [1]"),
        ({"action": "pin", "places": (0,)}, "rule 'x': places: at most 20 different places, the first is 1"),
        ({"action": "pin", "places": (2, 2)}, "rule 'x': places: at most 20 different places, the first is 1"),
        ({"action": "pin", "places": tuple(range(1, 22))}, "rule 'x': places: at most 20 different places, the first is 1"),
        ({"placements": ("lists",)}, "rule 'x': placements: unknown placement 'lists'; did you mean list? Known: list"),
    ],
)
def test_a_rule_with_a_wrong_field_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RuleError) as refused:
        Rule(**({"name": "x", "when": "has(item.a)", "action": "deny"} | fields))
    assert str(refused.value).startswith(message)


def test_rules_have_names_of_their_own_and_are_not_too_many() -> None:
    one = Rule("x", "has(item.a)", "deny")
    with pytest.raises(RuleError, match="two rules are named 'x'"):
        RuleSet((one, one))
    with pytest.raises(RuleError, match="there are 51 rules, 50 are allowed"):
        RuleSet(tuple(Rule(f"r{n}", "has(item.a)", "deny") for n in range(MAX_RULES + 1)))
