"""Conditions on arrays say what plain Python says of each item and each user."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.catalogue.held_values import HeldValues, Wanted
from recsys.catalogue.items import ItemContent
from recsys.engine import Engine, EngineConfig
from recsys.errors import RuleError
from recsys.rules.check import condition
from recsys.rules.rule import Rule, RuleSet, parts_of
from recsys.rules.tree import owners_of
from recsys.state.held_texts import MISSING, HeldTexts
from recsys.state.profiles import Profile
from tests.builders import batch_of, learn
from tests.plain_rules import DAY_S, PlainItem, PlainUser, holds

NOW_S = 1_700_000_000
WORDS = ["", "a", "A", "ab", "b", "ba", "Ünü", "toys", "TOYS", '"\\', "\U0001f600"]
NUMBERS = [0.0, 1.0, 2.0, -1.5, 20.0, 0.1]


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


TEXTS = ["item.brand", "item.maker", "string(item.size)", "item.title", "item.id", 'item["odd name"]', "item.maker.lowerAscii()"]
texts = st.sampled_from([*map(quoted, WORDS), *TEXTS])
numbers = st.recursive(
    st.sampled_from(
        [*map(str, NUMBERS), "item.price", "item.cost", "double(item.size)", "item.age_days", "size(item.categories)", "item.title.size()"]
    ),
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "/"]), inner), st.builds("-({})".format, inner)
    ),
    max_leaves=4,
)
times = st.sampled_from(["item.published", "item.expires", 'timestamp("2023-11-14T00:00:00Z")', 'timestamp("2023-11-01T12:00:00+02:00")'])
orders = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])


def listed(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, min_size=1, max_size=3).map(lambda found: "[" + ", ".join(found) + "]")


of_items = st.one_of(
    st.builds("{} {} {}".format, texts, orders, texts),
    st.builds("{} {} {}".format, numbers, orders, numbers),
    st.builds("{} {} {}".format, times, orders, times),
    st.builds("{} in item.categories".format, texts),
    st.builds("{} in {}".format, texts, listed(st.sampled_from(WORDS).map(quoted))),
    st.builds("{} in {}".format, numbers, listed(st.sampled_from(NUMBERS).map(str))),
    st.builds("{}.{}({})".format, texts, st.sampled_from(["startsWith", "endsWith", "contains"]), texts),
    st.builds(
        "has({})".format,
        st.sampled_from(["item.brand", "item.size", "item.title", "item.categories", "item.published", "item.age_days", "item.id"]),
    ),
)
user_texts = st.sampled_from(
    ["user.country", "string(user.plan)", 'user["odd name"]', 'user["id"].lowerAscii()', "user.country.lowerAscii()", *map(quoted, WORDS)]
)
user_numbers = st.sampled_from(["user.age", "double(user.plan)", "-(user.age - 1)", "size(user.country)", *map(str, NUMBERS)])
of_users = st.one_of(
    st.builds("{} in user.categories".format, st.sampled_from(WORDS).map(quoted)),
    st.builds("user.history_size {} {}".format, orders, st.sampled_from(["0", "1", "2.0", "3"])),
    st.builds("user.idle_days {} {}".format, orders, st.sampled_from(["0.5", "1.0", "40.0"])),
    st.builds("user.id {} {}".format, orders, st.sampled_from(['"u1"', '"u2"', '"x"'])),
    st.just("has(user.categories)"),
    st.just("has(user.idle_days)"),
    st.builds("{} {} {}".format, user_texts, orders, user_texts),
    st.builds("{} {} {}".format, user_numbers, orders, user_numbers),
    st.builds("{} in {}".format, user_texts, listed(st.sampled_from(WORDS).map(quoted))),
    st.builds("{} in {}".format, user_numbers, listed(st.sampled_from(NUMBERS).map(str))),
    st.builds("{}.{}({})".format, user_texts, st.sampled_from(["startsWith", "endsWith", "contains"]), user_texts),
    st.builds("has({})".format, st.sampled_from(["user.country", "user.age", 'user["id"]', 'user["odd name"]', "user.plan"])),
)
conditions = st.recursive(
    st.one_of(of_items, of_items, of_users),
    lambda inner: st.one_of(
        st.builds("({}) {} ({})".format, inner, st.sampled_from(["&&", "||"]), inner), st.builds("!({})".format, inner)
    ),
    max_leaves=6,
).filter(lambda when: "item." in when or "item[" in when)
some_texts = st.dictionaries(st.sampled_from(["brand", "maker", "size", "odd name"]), st.sampled_from(WORDS), max_size=4)
some_numbers = st.dictionaries(st.sampled_from(["price", "cost", "size"]), st.sampled_from(NUMBERS), max_size=3)
some_times = st.one_of(st.none(), st.sampled_from([NOW_S, NOW_S - DAY_S, NOW_S + DAY_S, NOW_S - 2 * DAY_S + 1, 0, -5]))
profiles = st.builds(
    Profile,
    st.dictionaries(st.sampled_from(["country", "plan", "odd name", "id"]), st.sampled_from(WORDS), max_size=4),
    st.dictionaries(st.sampled_from(["age", "plan", "id"]), st.sampled_from(NUMBERS), max_size=3),
    st.just(()),
)
items = st.builds(
    PlainItem,
    title=st.sampled_from(WORDS),
    categories=st.lists(st.sampled_from(WORDS[1:]), max_size=3).map(tuple),
    texts=some_texts,
    numbers=some_numbers,
    published_s=some_times,
    expires_s=some_times,
)


def content(item: PlainItem) -> ItemContent:
    return ItemContent(item.categories, item.texts, item.published_s, item.expires_s, True, {}, item.title, item.numbers)


def valid(when: str) -> Any:
    """Return the tree of a condition, None of one whose types are open or which compares nothing of an item."""
    try:
        return condition(when)
    except RuleError as refused:
        if "it is not clear" in str(refused) or "says nothing about the item" in str(refused):
            return None
        raise


def engine_of(rules: list[Rule], catalogue: list[PlainItem | None]) -> tuple[Engine, list[PlainItem]]:
    """Return an engine with these items, of which None is one that nobody described, and the items with their ids."""
    engine = Engine(EngineConfig(rules=RuleSet(tuple(rules))))
    engine.ensure_items(len(catalogue))
    ids = [f"i{number}" for number in range(len(catalogue))]
    engine.name_items(ids)
    known = []
    for number, item in enumerate(catalogue):
        if item is not None:
            engine.describe_item(number, content(item))
        plain = item or PlainItem()
        known.append(PlainItem(ids[number], plain.title, plain.categories, plain.texts, plain.numbers, plain.published_s, plain.expires_s))
    return engine, known


def users_of(engine: Engine, known: list[PlainItem]) -> tuple[np.ndarray, list[PlainUser], dict[int, list[str]]]:
    """Return users: one who likes the first items, one who dislikes one, and two without a history, of whom one prefers categories."""
    names = ["u0", "u1", "u2", "u3"]
    engine.users.load(dict.fromkeys(["somebody else", *names]))
    slots = np.array([engine.users.slot(name) for name in names], np.int64)
    n_liked, ages_s = min(2, len(known)), [3 * DAY_S, 100]
    times_s = [NOW_S - age for age in ages_s[:n_liked]]
    learn(engine, batch_of([slots[0]], [n_liked], list(range(n_liked)), times_s, [32] * n_liked))
    learn(engine, batch_of([slots[1]], [1], [0], [NOW_S - 50 * DAY_S], [-32]))
    liked = sorted({category for item in known[:n_liked] for category in item.categories})
    return (
        slots,
        [
            PlainUser("u0", liked, n_liked, float(np.float32(ages_s[n_liked - 1]))),
            PlainUser("u1", ["toys"], 1, 50.0 * DAY_S),
            PlainUser("u2", ["a", "toys"], 0, None),
            PlainUser("u3", [], 0, None),
        ],
        {1: ["toys"], 2: ["a", "toys"]},
    )


def with_profiles(engine: Engine, users: list[PlainUser], slots: np.ndarray, held: list[Profile | None]) -> list[PlainUser]:
    """Return the users with the attributes of these profiles, which the engine holds from now on if its rules read any."""
    table = engine.users.profiles
    if table is not None:
        for slot, profile in zip(slots.tolist(), held, strict=True):
            table.put(slot, profile, 1)
    none = Profile({}, {}, ())
    given = [profile or none for profile in held]
    return [replace(user, texts=one.categorical, numbers=one.numeric) for user, one in zip(users, given, strict=True)]


@settings(max_examples=300, deadline=None)
@given(
    whens=st.lists(conditions, min_size=1, max_size=3),
    catalogue=st.lists(st.one_of(st.none(), items), min_size=1, max_size=12),
    held=st.lists(st.one_of(st.none(), profiles), min_size=4, max_size=4),
)
def test_arrays_say_of_each_item_and_user_what_plain_python_says(
    whens: list[str], catalogue: list[PlainItem | None], held: list[Profile | None]
) -> None:
    trees = {when: tree for when in whens if (tree := valid(when)) is not None}
    if not trees:
        return
    rules = [Rule(f"rule {number}", when, "bury") for number, when in enumerate(trees)]
    engine, known = engine_of(rules, catalogue)
    slots, users, preferred = users_of(engine, known)
    users = with_profiles(engine, users, slots, held)
    shared = engine.shared(NOW_S)
    groups = engine.rule_groups(slots, shared, preferred, [str(user.id) for user in users])
    assert sorted(row for rows, _ in groups for row in rows.tolist()) == list(range(len(users))), "each user is in one group"
    for rows, effects in groups:
        for found, tree in zip(effects.matches, trees.values(), strict=True):
            for row in rows.tolist():
                expected = [holds(tree, item, users[row], shared.now_s) is True for item in known]
                assert found is not None and found.tolist() == expected, (tree, users[row])


@settings(max_examples=100, deadline=None)
@given(when=conditions, changes=st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), items)), max_size=12))
def test_what_is_kept_between_batches_follows_the_catalogue(when: str, changes: list[tuple[int, PlainItem | None]]) -> None:
    if (tree := valid(when)) is None:
        return
    engine, known = engine_of([Rule("rule", when, "bury")], [None])
    slots, users, _ = users_of(engine, known)
    ids = ["i0", "i1", "i2", "i3", "i4"]
    engine.name_items(ids)
    for number, item in changes:
        engine.describe_item(number, None if item is None else content(item))
        known += [PlainItem(id) for id in ids[len(known) : engine.n_items]]
        plain = item or PlainItem()
        known[number] = PlainItem(
            ids[number], plain.title, plain.categories, plain.texts, plain.numbers, plain.published_s, plain.expires_s
        )
        ((_, effects),) = engine.rule_groups(slots[3:], engine.shared(NOW_S), None, ["u3"])
        assert effects.matches[0] is not None
        assert effects.matches[0].tolist() == [holds(tree, item, users[3], NOW_S) is True for item in known]


@given(conditions)
def test_conditions_split_into_parts_of_one_owner(when: str) -> None:
    if (tree := valid(when)) is not None:
        assert all(len(owners_of(part)) <= 1 for part in parts_of(tree))


@given(st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 4_000).map(str))), max_size=60), st.booleans())
def test_distinct_values_never_share_a_number(puts: list[tuple[int, str | None]], churn: bool) -> None:
    held, plain = HeldTexts(10), dict[int, str | None]()
    if churn:  # so many values that those that no item has are dropped
        for number in range(2_600):
            held.put(0, f"old {number}")
        plain[0] = "old 2599"
        assert len(held.values) < 1_500, "values that no item has any more are dropped"
    for number, value in puts:
        held.put(number, value)
        plain[number] = value
    for number in range(10):
        code = int(held.codes[number])
        assert (None if code == MISSING else held.values[code]) == plain.get(number)
    assert len(set(held.values)) == len(held.values)


def test_only_what_rules_name_is_held() -> None:
    rules = RuleSet((Rule("a", 'item.brand == "x" && item.price > 1.0 && "t" in item.categories', "deny"),))
    assert rules.wanted == Wanted(categories=True, titles=False, texts=("brand",), numbers=("price",))
    assert RuleSet((Rule("b", 'item.id == "x"', "deny"),)).wanted == Wanted()
    held = HeldValues(rules.wanted, 4)
    assert held.titles is None and set(held.texts) == {"brand"} and set(held.numbers) == {"price"}
    assert Engine().catalogue.held is None, "no rule costs nothing"
    assert RuleSet((Rule("c", 'item.id == "x" || "a" in user.categories', "deny"),)).wanted.categories


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ('item.brand == "acme"', [True, False, False]),
        ('item.brand != "acme"', [False, True, False]),
        ('!(item.brand == "acme")', [False, True, False]),
        ('!has(item.brand) || item.brand != "acme"', [False, True, True]),
        ('item.brand == "acme" || item.price < 5.0', [True, False, True]),
        ("item.price / 0.0 > 100.0", [False, True, True]),
    ],
)
def test_a_missing_attribute_is_unknown_as_errors_are_in_cel(when: str, expected: list[bool]) -> None:
    priced = PlainItem(texts={"brand": "b"}, numbers={"price": 7.0})
    engine, _ = engine_of([Rule("rule", when, "deny")], [PlainItem(texts={"brand": "acme"}), priced, PlainItem(numbers={"price": 1.0})])
    engine.users.load({"u": None})
    ((_, effects),) = engine.rule_groups(np.array([engine.users.slot("u")]), engine.shared(NOW_S))
    assert effects.matches[0] is not None and effects.matches[0].tolist() == expected


def test_what_depends_on_time_is_computed_again_when_time_has_passed() -> None:
    engine, _ = engine_of([Rule("rule", "item.age_days >= 2.0", "deny")], [PlainItem(published_s=NOW_S - DAY_S)])
    engine.users.load({"u": None})
    slots = np.array([engine.users.slot("u")])
    for now_s, expected in ((NOW_S, False), (NOW_S + DAY_S, True), (NOW_S, False)):
        ((_, effects),) = engine.rule_groups(slots, engine.shared(now_s))
        assert effects.matches[0] is not None and effects.matches[0].tolist() == [expected]
