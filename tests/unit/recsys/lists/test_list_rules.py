"""Rules hold on lists of small and large catalogues: what is denied is never listed, what is boosted moves by its amount, pins hold."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.catalogue.items import ItemContent
from recsys.engine import Engine, EngineConfig, Lists
from recsys.errors import RuleError
from recsys.lists import candidates_kernel, features_kernel, reasons, rule_kernel
from recsys.lists.registry import NameTaken, built_in
from recsys.lists.rules_in_use import Nominator
from recsys.rules.rule import Rule, RuleSet
from tests.builders import batch_of, learn
from workers.stream.warm_up import compile_lists

NOW_S, DAY_S = 1_700_000_000, 86_400
N_ITEMS, N_USERS = 150, 24
LARGE = 0
"""Largest small catalogue of an engine that has a large one."""
SIZES = pytest.mark.parametrize("exact_items", [16_000, LARGE], ids=["small", "large"])


def content(number: int) -> ItemContent:
    attributes = {"brand": f"b{number % 10}"} if number % 7 else {}
    return ItemContent(
        [f"c{number % 5}"],
        attributes,
        published_s=NOW_S - number * DAY_S,
        available=number != 3,
        title=f"Item {number}",
        numbers={"price": float(number % 30)},
    )


def engine_of(*rules: Rule, exact_items: int = 16_000, size: int = 20, n_items: int = N_ITEMS, exploration_slots: int = 0) -> Engine:
    """Return an engine whose users mostly choose items of one category; the last two have no history."""
    chosen = RuleSet(rules) if rules else None
    engine = Engine(EngineConfig(exact_items=exact_items, list_size=size, rules=chosen, exploration_slots=exploration_slots))
    engine.ensure_items(n_items)
    engine.name_items([f"i{number}" for number in range(n_items)])
    for number in range(n_items):
        engine.describe_item(number, content(number))
    engine.neighbours.hold_all()
    engine.users.load({f"u{user}": None for user in range(N_USERS)})
    random = np.random.default_rng(5)
    for user in range(N_USERS - 2):
        own = random.choice(n_items // 5, min(8, n_items // 5), replace=False) * 5 + user % 5
        times_s = np.sort(random.integers(0, 9_999, len(own))) + NOW_S - DAY_S
        learn(engine, batch_of([engine.users.slot(f"u{user}") or 0], [len(own)], own.tolist(), times_s.tolist(), [32] * len(own)))
    return engine


def listed(engine: Engine, *, with_rules: bool = True, users: range = range(N_USERS)) -> Lists:
    ids = [f"u{user}" for user in users]
    slots = np.array([engine.users.slot(name) for name in ids], np.int64)
    seeds = np.array(list(users), np.int64)
    return engine.recommend(slots, {}, engine.shared(NOW_S), seeds, user_ids=ids, with_rules=with_rules)


def same(one: Lists, other: Lists) -> bool:
    pairs = [(one.items, other.items), (one.scores, other.scores), (one.propensities, other.propensities), (one.because, other.because)]
    return all(np.array_equal(a, b) for a, b in pairs)


def matching(rule: Rule, numbers: np.ndarray) -> np.ndarray:
    """Return which items a rule on brands, categories or prices matches, by what `content` says."""
    engine = engine_of(Rule(rule.name, rule.when, "bury"))
    ((_, effects),) = engine.rule_groups(np.array([engine.users.slot("u0")]), engine.shared(NOW_S))
    assert effects.matches[0] is not None
    return effects.matches[0][numbers]


@cache
def plain(exact_items: int, size: int = 20) -> Lists:
    return listed(engine_of(exact_items=exact_items, size=size))


@SIZES
@pytest.mark.parametrize("exploration_slots", [0, 5])
@pytest.mark.parametrize("action", ["deny", "allow"])
def test_what_is_denied_or_not_allowed_is_never_listed_and_lists_stay_full(exact_items: int, exploration_slots: int, action: str) -> None:
    when = '"c2" in item.categories || item.brand == "b4"' if action == "deny" else "item.price < 10.0"
    rule = Rule("rule", when, action)  # type: ignore[arg-type]
    engine = engine_of(rule, exact_items=exact_items, exploration_slots=exploration_slots)
    lists = listed(engine)
    matches = matching(rule, lists.items)
    assert (lists.items >= 0).all(), "there is enough left to fill the lists"
    assert not matches.any() if action == "deny" else matches.all()
    assert lists.rules is not None and not lists.rules.any(), "a filter moves nothing"
    assert same(listed(engine, with_rules=False), listed(engine_of(exact_items=exact_items, exploration_slots=exploration_slots)))


@SIZES
def test_rules_that_match_nothing_change_no_list(exact_items: int) -> None:
    rules = [
        Rule("deny", 'item.brand == "no such"', "deny"),
        Rule("boost", 'item.brand == "no such"', "boost"),
        Rule("bury", "item.price > 1000.0", "bury"),
        Rule("pin", 'item.id == "no such"', "pin", places=(1,)),
        Rule("of a user", 'user.id == "nobody" && has(item.brand)', "pin", places=(2,)),
    ]
    lists = listed(engine_of(*rules, exact_items=exact_items))
    assert same(lists, plain(exact_items)) and lists.rules is not None and not lists.rules.any()


@SIZES
def test_a_narrow_allow_rule_leaves_lists_of_just_these_items(exact_items: int) -> None:
    lists = listed(engine_of(Rule("one", 'item.id in ["i7", "i149", "i3"]', "allow"), exact_items=exact_items))
    shown = [sorted(n for n in row if n >= 0) for row in lists.items.tolist()]
    seen_by_nobody = [row for row in shown if row == [7, 149]]
    assert seen_by_nobody and all(set(row) <= {7, 149} for row in shown), "i3 is not available"


@SIZES
def test_every_allow_rule_must_match(exact_items: int) -> None:
    rules = Rule("cheap", "item.price < 10.0", "allow"), Rule("c1", '"c1" in item.categories', "allow")
    items = listed(engine_of(*rules, exact_items=exact_items)).items
    assert all(number < 0 or (number % 30 < 10 and number % 5 == 1) for number in items.ravel().tolist())


@SIZES
def test_conditions_on_users_hold_for_those_users_alone(exact_items: int) -> None:
    rules = [
        Rule("children", 'user.id in ["u1", "u2"] && !(item.price < 10.0)', "deny"),
        Rule("newcomers", 'user.history_size == 0 && "c4" in item.categories', "pin", places=(1, 2)),
        Rule("fans", '"c3" in user.categories && "c3" in item.categories', "bury", amount=100.0),
    ]
    engine = engine_of(*rules, exact_items=exact_items)
    lists = listed(engine)
    assert (lists.items >= 0).all()
    assert (lists.items[1:3] % 30 < 10).all(), "lists of children are full of what they may see"
    assert (lists.items[[0, *range(5, 22)]] % 30 >= 10).any()
    assert (lists.items[-2:, :2] % 5 == 4).all() and lists.rules is not None and (lists.rules[-2:, :2] == 2).all()
    fans = [user for user in range(N_USERS - 2) if user % 5 == 3]
    assert not (lists.items[fans, :5] % 5 == 3).any()
    for user in range(0, N_USERS, 5):
        alone = listed(engine, users=range(user, user + 1))
        assert np.array_equal(alone.items[0], lists.items[user]), "a list does not depend on whose lists are made with it"


@SIZES
def test_a_boost_adds_its_amount_and_a_bury_takes_it(exact_items: int) -> None:
    boost, bury = Rule("up", 'item.brand == "b1"', "boost", amount=2.5), Rule("down", "item.price < 8.0", "bury", amount=1.25)
    engine = engine_of(boost, bury, exact_items=exact_items, size=200)
    before, after = plain(exact_items, 200), listed(engine)
    for row in range(N_USERS):
        scores = dict(zip(before.items[row].tolist(), before.scores[row].tolist(), strict=True))
        numbers = [n for n in after.items[row].tolist() if n >= 0]
        assert numbers and set(numbers) == {n for n in scores if n >= 0}
        up = matching(boost, np.array(numbers))
        down = matching(bury, np.array(numbers))
        added = np.where(up, np.float32(2.5), 0) - np.where(down, np.float32(1.25), 0)
        expected = np.array([scores[n] for n in numbers], np.float32) + added.astype(np.float32)
        found = after.scores[row][: len(numbers)]
        assert np.array_equal(found, expected), "scores without rules, and the amounts"
        assert np.array_equal(np.lexsort((numbers, -found)), np.arange(len(numbers))), "best first, equal ones by number"
        assert np.allclose(after.contributions["rules"][row][: len(numbers)], added)
        assert after.rules is not None and (after.rules[row][: len(numbers)] == up * 1 + down * 2).all()


def test_what_rules_raise_is_a_candidate_though_no_source_names_it() -> None:
    rule = Rule("rare", 'item.id == "i148"', "boost", amount=1_000.0)
    for exact_items in (16_000, LARGE):
        lists = listed(engine_of(rule, exact_items=exact_items, size=3))
        assert all(row[0] == 148 or seen for row, seen in zip(lists.items.tolist(), _seen(148), strict=True))


def _seen(item: int) -> list[bool]:
    users = engine_of().users
    slots = [users.slot(f"u{user}") or 0 for user in range(N_USERS)]
    return [item in users.items[slot, users.history_length - users.lengths[slot] :].tolist() for slot in slots]


@SIZES
@pytest.mark.parametrize("exploration_slots", [0, 4])
def test_pins_take_their_places_best_first_and_the_others_keep_their_order(exact_items: int, exploration_slots: int) -> None:
    rule = Rule("shelf", 'item.brand == "b6"', "pin", places=(5, 2))
    engine = engine_of(rule, exact_items=exact_items, exploration_slots=exploration_slots)
    everything = engine_of(Rule("any", 'item.brand == "b6"', "pin", places=(1,)), exact_items=exact_items, size=200)
    lists, ranked = listed(engine), listed(everything)
    for row in range(N_USERS):
        of_brand = [n for n in ranked.items[row].tolist() if n >= 0 and n % 10 == 6 and n % 7]
        assert lists.items[row, [1, 4]].tolist() == of_brand[:2]
        assert (lists.propensities[row, [1, 4]] == 1).all()
        assert lists.rules is not None and np.flatnonzero(lists.rules[row]).tolist() == [1, 4]
        assert lists.items[row].tolist() == list(dict.fromkeys(lists.items[row].tolist())), "no item twice"
    if not exploration_slots:  # matching items are candidates even if no source names them: they may be among the others too
        for row in range(N_USERS):
            rest = [n for n in lists.items[row].tolist() if n % 10 != 6]
            assert rest == [n for n in plain(exact_items).items[row].tolist() if n % 10 != 6][: len(rest)]


@SIZES
def test_a_filter_forbids_what_is_pinned(exact_items: int) -> None:
    pin = Rule("shelf", 'item.brand == "b1"', "pin", places=(1, 2, 3))
    for rule in (Rule("off", 'item.brand == "b1"', "deny"), Rule("only", '!has(item.brand) || item.brand != "b1"', "allow")):
        lists = listed(engine_of(pin, rule, exact_items=exact_items))
        assert not matching(pin, lists.items).any() and lists.rules is not None and not lists.rules.any()
    lists = listed(engine_of(Rule("gone", 'item.id == "i3"', "pin", places=(1,)), exact_items=exact_items))
    assert not (lists.items == 3).any(), "an item that is not available stays off lists"
    seen = _seen(10)
    lists = listed(engine_of(Rule("seen", 'item.id == "i10"', "pin", places=(1,)), exact_items=exact_items))
    assert [row[0] == 10 for row in lists.items.tolist()] == [not one for one in seen], "and one that the user has touched"


def test_the_first_rule_takes_a_place_that_two_want_and_a_place_behind_the_list_is_its_end() -> None:
    first, second = Rule("first", 'item.id == "i20"', "pin", places=(1,)), Rule("second", 'item.id in ["i20", "i21"]', "pin", places=(1, 3))
    lists = listed(engine_of(first, second), users=range(22, 24))
    assert lists.items[:, 0].tolist() == [20, 20] and lists.items[:, 2].tolist() == [21, 21]
    assert lists.rules is not None and lists.rules[:, [0, 2]].tolist() == [[1, 2], [1, 2]]
    few = listed(engine_of(Rule("last", 'item.id == "i0"', "pin", places=(18,)), n_items=6), users=range(22, 24))
    last = int((few.items[0] >= 0).sum()) - 1
    assert few.items[0, last] == 0 and few.rules is not None and few.rules[0].tolist() == [0] * last + [1] + [0] * (19 - last)


def pinned_plainly(numbers: list[int], claims: list[int], bits: list[int], places: list[list[int]]) -> tuple[list[int], list[int]]:
    """Return the columns of one user's candidates in the order in which `rule_kernel.pin` puts them, and the rule that pinned each."""
    valid = [column for column, number in enumerate(numbers) if number >= 0]
    at_place, by = dict[int, int](), [0] * len(numbers)
    for bit, wanted in zip(bits, places, strict=True):
        for place in wanted:
            if place < 0:
                break
            free = [p for p in range(len(valid)) if p not in at_place]
            if place >= len(valid):
                place = free[-1] if free else -1
            left = [column for column in valid if claims[column] & bit and column not in at_place.values()]
            if place in free and left:
                at_place[place], by[place] = left[0], bit
    rest = iter([column for column in valid if column not in at_place.values()])
    order = [at_place[place] if place in at_place else next(rest) for place in range(len(valid))]
    return order + [column for column, number in enumerate(numbers) if number < 0], by


@settings(deadline=None)
@given(
    numbers=st.lists(st.integers(-1, 3), min_size=1, max_size=8),
    claims=st.lists(st.integers(0, 7), min_size=8, max_size=8),
    places=st.lists(st.lists(st.integers(0, 9), unique=True, max_size=3).map(sorted), max_size=3),
)
def test_pins_are_placed_as_plain_python_places_them(numbers: list[int], claims: list[int], places: list[list[int]]) -> None:
    padded = np.array([row + [-1] * (3 - len(row)) for row in places], np.int64).reshape(-1, 3)
    bits = np.array([1, 2, 4][: len(places)], np.int64)
    columns, pinned_by = np.empty((2, 1, len(numbers)), np.int64)
    own = np.array([claims[: len(numbers)]], np.int64)
    rule_kernel.pin(np.array([numbers], np.int64), own, bits, padded, columns, pinned_by)
    assert (columns[0].tolist(), pinned_by[0].tolist()) == pinned_plainly(numbers, claims, bits.tolist(), padded.tolist())


def test_rules_of_another_kind_of_list_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.rules.rule.PLACEMENTS", ("list", "row"))
    off = Rule("elsewhere", 'has(item.brand)', "deny", placements=("row",))
    assert same(listed(engine_of(off)), plain(16_000))
    here = Rule("here", "has(item.brand)", "deny", placements=("row", "list"))
    items = listed(engine_of(here)).items
    assert all(number % 7 == 0 for number in items[items >= 0].tolist())


def test_rules_follow_items_that_come_and_change() -> None:
    engine = engine_of(Rule("off", 'item.brand == "b1" || item.title.contains("secret")', "deny"))
    before = listed(engine)
    target = int(before.items[0, 0])
    engine.describe_item(target, ItemContent(["c0"], {"brand": "b1"}))
    assert target not in listed(engine).items[0]
    engine.describe_item(target, content(target))
    assert same(listed(engine), before)
    engine.describe_item(target, ItemContent(["c0"], title="a secret"))
    assert target not in listed(engine).items[0]
    engine.describe_item(N_ITEMS, ItemContent(["c0"], {"brand": "b1"}))
    assert N_ITEMS not in listed(engine).items


@SIZES
def test_a_single_item_and_no_users_have_lists_too_and_an_empty_catalogue_has_effects(exact_items: int) -> None:
    rules = [
        Rule("off", 'item.brand == "b1" || string(item.brand) == item.title', "deny"),
        Rule("up", '"c1" in user.categories && "c1" in item.categories', "boost"),
        Rule("shelf", "item.price >= 0.0", "pin", places=(1,)),
    ]
    engine = Engine(EngineConfig(exact_items=exact_items, rules=RuleSet(tuple(rules))))
    engine.users.load({"u": None})
    slots = np.array([engine.users.slot("u")], np.int64)
    ((_, effects),) = engine.rule_groups(slots, engine.shared(NOW_S))
    assert [match.tolist() for match in effects.matches if match is not None] == [[], [], []] and effects.marks is None
    engine.ensure_items(1)
    engine.neighbours.hold_all()
    shared = engine.shared(NOW_S)
    assert [n for n in engine.recommend(slots, {}, shared, user_ids=["u"]).items[0].tolist() if n >= 0] == [0]
    assert engine.recommend(slots[:0], {}, shared, user_ids=[]).items.shape[0] == 0


@SIZES
def test_lists_made_in_several_threads_follow_the_same_rules(exact_items: int) -> None:
    rules = [
        Rule("children", 'user.id in ["u1", "u2"] && !(item.price < 10.0)', "deny"),
        Rule("up", '"c3" in user.categories && item.title.lowerAscii().contains("1")', "boost"),
        Rule("shelf", "item.age_days > 50.0", "pin", places=(2,)),
    ]
    engine, ids = engine_of(*rules, exact_items=exact_items), [f"u{user}" for user in range(N_USERS)]
    expected = listed(engine_of(*rules, exact_items=exact_items))
    slots = np.array([engine.users.slot(name) for name in ids], np.int64)

    def some(at: int) -> Lists:
        return engine.recommend(slots[at : at + 3], {}, contexts[at // 3 % 2], user_ids=ids[at : at + 3])

    contexts = engine.shared(NOW_S), engine.shared(NOW_S + DAY_S)  # of another time, from which nothing may be mixed in
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(some, range(0, N_USERS, 3)))
        contexts = (engine.shared(NOW_S),) * 2
        lists = Lists.joined(list(threads.map(some, range(0, N_USERS, 3))))
    assert np.array_equal(lists.items, expected.items)
    assert lists.rules is not None and expected.rules is not None and np.array_equal(lists.rules, expected.rules)


def test_rules_read_ids_that_become_known_later() -> None:
    engine = engine_of(Rule("off", 'item.id.startsWith("i")', "deny"))
    engine.name_items(ids := [f"i{number}" for number in range(9)])
    assert (listed(engine).items >= 9).all()
    ids += [f"i{number}" for number in range(9, N_ITEMS)]
    assert (listed(engine).items == -1).all()


def test_lists_do_not_depend_on_how_many_groups_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [Rule(f"of u{user}", f'user.id == "u{user}" && "c{user % 5}" in item.categories', "bury") for user in range(8)]
    kept = listed(engine_of(*rules))
    monkeypatch.setattr("recsys.lists.rules_in_use._KEPT_ITEMS", 1)
    assert same(listed(engine_of(*rules)), kept)


def test_a_catalogue_that_becomes_large_keeps_its_rules() -> None:
    engine = engine_of(Rule("off", 'item.brand == "b1"', "deny"), exact_items=N_ITEMS)
    assert not engine.is_large
    engine.describe_item(N_ITEMS, ItemContent(["c0"], {"brand": "b1"}))
    engine.neighbours.hold_all()
    assert engine.is_large
    items = listed(engine).items
    assert N_ITEMS not in items and not any(n % 10 == 1 and n % 7 for n in items[items < N_ITEMS].tolist())


@SIZES
def test_lists_under_rules_need_no_loop_that_is_not_compiled_before(exact_items: int) -> None:
    compile_lists()
    found = candidates_kernel.best, candidates_kernel.take_shared, features_kernel.rank
    kernels = [rule_kernel.pin, rule_kernel._fill, reasons._strongest, *found]
    before = [list(kernel.signatures) for kernel in kernels]  # type: ignore[attr-defined]
    rules = [
        Rule("off", 'item.brand == "b1"', "deny"),
        Rule("up", 'user.id != "u1" && "c1" in item.categories', "boost"),
        Rule("shelf", "item.price > 20.0", "pin", places=(1, 3)),
    ]
    for exploration_slots in (0, 2):
        listed(engine_of(*rules, exact_items=exact_items, exploration_slots=exploration_slots))
    assert [list(kernel.signatures) for kernel in kernels] == before  # type: ignore[attr-defined]


def test_no_source_may_have_the_name_of_the_rules_part() -> None:
    registry = built_in()
    registry.sources.add("rules", Nominator)
    with pytest.raises(NameTaken, match="a source is named 'rules'"):
        Engine(EngineConfig(registry=registry, rules=RuleSet((Rule("x", "has(item.a)", "deny"),))))


def test_lists_of_an_engine_without_what_rules_name_are_refused() -> None:
    from recsys.lists.rule_columns import ItemColumns

    with pytest.raises(RuleError, match="holds nothing for rules"):
        ItemColumns(engine_of().shared(NOW_S))
