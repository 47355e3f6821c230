"""What a list may hold, what it says of itself, and that it can be made again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.catalogue.items import ItemContent
from recsys.engine import Engine, EngineConfig, Lists
from recsys.lists.reading import CooccurrenceReading
from recsys.state.user_table import unpack_row
from tests.builders import batch_of, learn, recipe_of
from tests.toy_model import ToyModel

NOW_S = 1_700_000_000


def engine_with(n_items: int, events: Mapping[str, list[tuple[int, int]]], **config: Any) -> Engine:
    """An engine that nobody else feeds; events are (item, weight) by user."""
    engine = Engine(EngineConfig(**{"list_size": 10, "history_length": 20, "seen_length": 50, **config}))
    engine.ensure_items(n_items)
    engine.neighbours.hold_all()
    engine.users.load(dict.fromkeys(events))
    for user, own in events.items():
        if own:
            items, weights = zip(*own, strict=True)
            batch = batch_of([engine.users.slot(user) or 0], [len(own)], items, [NOW_S + i for i in range(len(own))], weights)
            learn(engine, batch)
    return engine


def lists_of(engine: Engine, users: list[str], **options: Any) -> Lists:
    slots = np.array([engine.users.slot(user) for user in users], np.int64)
    return engine.recommend(slots, engine.encode(slots), options.pop("now_s", NOW_S + 100), **options)


def listed(lists: Lists, row: int = 0) -> list[int]:
    return lists.items[row][np.isfinite(lists.scores[row])].tolist()  # type: ignore[no-any-return]


EVENTS = st.lists(st.tuples(st.integers(0, 14), st.sampled_from([-32, 16, 32, 48])), max_size=40)


@given(st.lists(EVENTS, min_size=1, max_size=4), st.sets(st.integers(0, 14)), st.integers(0, 4), st.integers(0, 3))
@settings(max_examples=80)
def test_a_list_holds_only_what_is_allowed_and_explains_itself(
    events: list[list[tuple[int, int]]], gone: set[int], exploration_slots: int, seed: int
) -> None:
    users = [f"u{i}" for i in range(len(events))]
    engine = engine_with(15, dict(zip(users, events, strict=True)), list_size=8, exploration_slots=exploration_slots)
    for number in range(15):
        engine.describe_item(number, None if number in gone else ItemContent([f"c{number % 4}"], published_s=NOW_S - number * 86_400))
    seeds = np.arange(len(users)) + seed
    lists = lists_of(engine, users, seeds=seeds)
    for row, own in enumerate(events):
        shown, seen = listed(lists, row), {item for item, _ in own}
        assert not (set(shown) & (seen | gone))
        assert len(shown) == len(set(shown)) == min(8, len(set(range(15)) - seen - gone))
        for place in range(len(shown)):
            parts = sum(float(part[row, place]) for part in lists.contributions.values())
            assert parts == pytest.approx(float(lists.scores[row, place]), abs=1e-4)
            reasons = [item for item in lists.because[row, place].tolist() if item >= 0]
            assert len(reasons) == len(set(reasons)) and set(reasons) <= {item for item, weight in own if weight > 0}
            assert 0 < lists.propensities[row, place] <= 1
        if not exploration_slots:
            assert sorted(lists.scores[row].tolist(), reverse=True) == lists.scores[row].tolist()
    again = lists_of(engine, users, seeds=seeds)
    for name in ("items", "scores", "propensities", "because"):
        np.testing.assert_array_equal(getattr(lists, name), getattr(again, name))


def test_a_list_does_not_depend_on_who_else_is_listed_with_it() -> None:
    random = np.random.default_rng(5)
    users = [f"u{i}" for i in range(12)]
    events = {user: [(int(item), 32) for item in random.integers(0, 60, 6)] for user in users}
    engine = engine_with(60, events)
    together = lists_of(engine, users)
    for row, user in enumerate(users):
        alone = lists_of(engine, [user])
        np.testing.assert_array_equal(alone.items[0], together.items[row])
        np.testing.assert_allclose(alone.scores[0], together.scores[row], atol=1e-5)


def test_a_late_upload_is_listed_and_encoded_as_if_it_had_come_in_time() -> None:
    engine = engine_with(40, {"others": [(item, 32) for item in range(20)], "in time": [], "late": []}, recent_items=5)
    for number in range(40):
        engine.describe_item(number, ItemContent([f"c{number % 4}"]))
    engine.serve("toy", "v1", ToyModel([f"i{n}" for n in range(40)], "identity"), {f"i{n}": n for n in range(40)})
    happened = [(item, NOW_S + 40 * item) for item in range(12)]
    for user, arrived in (("in time", happened), ("late", [*happened[:3], *happened[9:], *happened[3:9]])):
        items, times_s = zip(*arrived, strict=True)
        batch = batch_of([engine.users.slot(user) or 0], [len(items)], items, times_s, [32] * len(items))
        engine.learn_histories(engine.derive(batch))
    lists = lists_of(engine, ["in time", "late"])
    for column in (lists.items, lists.scores, lists.because, *lists.contributions.values()):
        np.testing.assert_array_equal(column[0], column[1])
    model = engine.models["toy"].model
    assert isinstance(model, ToyModel) and model.asked is not None
    for asked in (model.asked.items, model.asked.weights, model.asked.ages_s):
        np.testing.assert_array_equal(asked[0], asked[1])
    assert model.asked.items[1].tolist() == [9, 10, 11] and model.asked.ages_s[1].tolist() == [80.0, 40.0, 0.0]
    assert model.asked.gaps_s is None and model.asked.types is not None and model.asked.types.shape == model.asked.items.shape
    engine.encode(np.array([engine.users.slot("late"), engine.users.slot("others")]), NOW_S + 1_000)
    assert model.asked.gaps_s is not None and model.asked.gaps_s.tolist()[0] == 1_000 - 40 * 11


def test_an_item_that_left_the_history_is_still_seen() -> None:
    engine = engine_with(40, {"u": [(item, 32) for item in range(30)]})
    assert set(listed(lists_of(engine, ["u"]))) == set(range(30, 40))


def test_unavailable_expired_unpublished_and_removed_items_are_never_listed() -> None:
    engine = engine_with(8, {"v": [(item, 32) for item in range(8)], "u": [(0, 32)]})
    engine.describe_item(1, ItemContent(available=False))
    engine.describe_item(2, ItemContent(expires_s=NOW_S + 100))
    engine.describe_item(3, ItemContent(published_s=NOW_S + 101))
    engine.describe_item(4, None)
    assert set(listed(lists_of(engine, ["u"]))) == {5, 6, 7}
    engine.describe_item(4, ItemContent())
    assert 3 in listed(lists_of(engine, ["u"], now_s=NOW_S + 101)) and 4 in listed(lists_of(engine, ["u"]))


def test_a_new_user_gets_what_trends_and_what_is_new() -> None:
    engine = engine_with(6, {"v": [(1, 32)], "w": [(1, 32), (2, 32)], "new": []})
    engine.describe_item(5, ItemContent(published_s=NOW_S))
    lists = lists_of(engine, ["new"])
    shown = listed(lists)
    assert shown.index(1) < shown.index(2) < shown.index(3)
    assert shown.index(5) < shown.index(3)
    assert (lists.because == -1).all()
    assert lists.contributions["trending"][0, shown.index(1)] > 0 < lists.contributions["new"][0, shown.index(5)]


def test_a_new_user_s_categories_come_first() -> None:
    engine = engine_with(6, {"v": [(1, 32)] * 3, "new": [], "old": [(2, 32)]})
    for number in range(6):
        engine.describe_item(number, ItemContent(["noir" if number in (3, 4) else "other"]))
    lists = lists_of(engine, ["new", "old"], preferred={0: ["noir"], 1: ["noir"]})
    assert set(listed(lists)[:2]) == {3, 4}
    assert set(listed(lists, 1)[:2]) != {3, 4}, "somebody with a history gets lists by it"


def test_what_came_after_an_item_for_others_is_listed_because_of_it() -> None:
    engine = engine_with(9, {**{f"v{i}": [(0, 32), (7, 32)] for i in range(5)}, "w": [(3, 32)], "u": [(0, 32)]})
    lists = lists_of(engine, ["u"])
    assert listed(lists)[0] == 7
    assert lists.because[0, 0].tolist() == [0, -1]
    assert lists.contributions["cooccurrence"][0, 0] > 0


def test_a_disliked_item_makes_no_pairs_and_is_not_shown() -> None:
    engine = engine_with(5, {"u": [(0, 32), (1, -32), (2, 32)]})
    assert engine.neighbours.pairs(np.array([0]), np.array([2]))[0] > 0
    assert not engine.neighbours.rows(np.arange(5), 5)[1].any() and not engine.neighbours.rows(np.arange(5), 5)[:, 1].any()
    assert 1 not in listed(lists_of(engine, ["u"]))


def test_counts_halve_with_each_epoch_that_has_newer_pairs_and_with_no_other() -> None:
    engine = engine_with(4, {"u": [(0, 32), (1, 32)]}, epoch_s=1_000_000)
    before = float(engine.neighbours.pairs(np.array([0]), np.array([1]))[0])
    engine.advance_time(NOW_S + 3_000_000)
    assert engine.neighbours.pairs(np.array([0]), np.array([1]))[0] == before
    engine.users.load({"v": None})
    batch = batch_of([engine.users.slot("v") or 0], [2], [0, 2], [NOW_S + 3_000_000] * 2, [32, 32])
    engine.learn_items(engine.derive(batch).delta(engine.config))
    assert engine.neighbours.pairs(np.array([0, 0]), np.array([1, 2])).tolist() == [before / 8, before]


@pytest.mark.parametrize("similarity", ["directed", "cosine", "llr"])
@pytest.mark.parametrize("exact_items", [10_000, 0])
def test_history_of_decades_ago_goes_on_recommending_until_newer_pairs_outweigh_it(similarity: Any, exact_items: int) -> None:
    """C07, for the engine alone: also with epochs so short that a factor from then to now would vanish."""
    reading = CooccurrenceReading(similarity=similarity)
    others = {f"v{i}": [(0, 32), (7, 32)] for i in range(5)}
    engine = engine_with(30, {**others, "u": [(0, 32)]}, epoch_s=1_000, reading=reading, exact_items=exact_items)
    engine.use_recipe(recipe_of(**{"cooccurrence.relative": 9.0, "popularity.all": 0.1}))
    before = lists_of(engine, ["u"])
    engine.users.load(dict.fromkeys([f"w{i}" for i in range(9)]))
    now_s = NOW_S + 30 * 365 * 86_400
    for i in range(9):
        batch = batch_of([engine.users.slot(f"w{i}") or 0], [2], [20, 21], [now_s] * 2, [32, 32])
        engine.learn_items(engine.derive(batch).delta(engine.config))
    after = lists_of(engine, ["u"])
    assert listed(before)[0] == listed(after)[0] == 7
    assert after.contributions["cooccurrence"][0, 0] > 0.5 * before.contributions["cooccurrence"][0, 0]
    batch = batch_of([engine.users.slot("w0") or 0], [2], [0, 8], [now_s] * 2, [32, 32])
    engine.learn_items(engine.derive(batch).delta(engine.config))
    assert listed(lists_of(engine, ["u"]))[0] == 8


@pytest.mark.parametrize("link", ["identity", "softmax"])
def test_a_model_adds_its_source_and_knows_items_by_their_ids(link: Literal["identity", "softmax"]) -> None:
    engine = engine_with(6, {"u": [(0, 32), (4, -32), (2, 32)], "new": []}, source_weights={"toy": 1.0})
    model = ToyModel(["five", "two", "three", "unheard of"], link)  # parities: 0, 1, 0, 1
    engine.serve("toy", "v1", model, {"two": 2, "three": 3, "five": 5})
    lists = lists_of(engine, ["u", "new"])
    assert model.asked is not None
    assert model.asked.items.tolist() == [[-1, -1, 1], [-1, -1, -1]], "items that the model does not know are padding"
    assert model.asked.ages_s.tolist()[0] == [2.0, 1.0, 0.0] and model.asked.weights.tolist()[0] == [1.0, -1.0, 1.0]
    scores = dict(zip(lists.items[0].tolist(), lists.contributions["toy"][0].tolist(), strict=True))
    liked, known, unknown = scores[5], scores[3], scores[1]
    assert unknown == 0 and known == liked if link == "identity" else unknown < known
    assert not lists.contributions["toy"][1].any(), "nothing is known of a new user"


def test_embeddings_carry_the_version_that_made_them() -> None:
    engine = engine_with(4, {"u": [(0, 32)]}, source_weights={"toy": 1.0})
    tags = []
    for version in ("v1", "v2"):
        engine.serve("toy", version, ToyModel(["zero"], "identity"), {"zero": 0})
        slots = np.array([engine.users.slot("u")], np.int64)
        row = unpack_row(engine.users.pack(slots.tolist(), engine.embeddings(engine.encode(slots), 1))[0])
        assert row.embeddings[0].tag == engine.models["toy"].tag
        np.testing.assert_allclose(row.embeddings[0].vector(), [1.0, 0.0], atol=0.01)
        tags.append(row.embeddings[0].tag)
    assert tags[0] != tags[1]


def test_a_model_goes_on_serving_when_items_are_added() -> None:
    engine = engine_with(3, {"u": [(0, 32)]}, source_weights={"toy": 1.0})
    engine.serve("toy", "v1", ToyModel(["zero", "one"], "identity"), {"zero": 0, "one": 1})
    engine.ensure_items(5_000)
    lists = lists_of(engine, ["u"])
    assert len(listed(lists)) == 10 and engine.models["toy"].vectors.shape == (5_000, 2)


@pytest.mark.parametrize("exact_items", [10_000, 0])
def test_what_may_be_listed_goes_by_the_reader_s_time_and_trends_go_by_event_time(exact_items: int) -> None:
    """C08: the newest event is three days old, one item expired since, one was published since, one is not published yet."""
    day_s = 86_400
    engine = engine_with(6, {"u": [(0, 32)], "v": [(0, 32), (5, 32)]}, exact_items=exact_items)
    for number, content in enumerate(
        (
            ItemContent(),
            ItemContent(expires_s=NOW_S + 2 * day_s),
            ItemContent(published_s=NOW_S + 3 * day_s - 3_600),
            ItemContent(published_s=NOW_S + 4 * day_s),
            ItemContent(published_s=NOW_S - 10 * day_s),
        )
    ):
        engine.describe_item(number, content)
    engine.advance_time(NOW_S)
    slots = np.array([engine.users.slot("u")], np.int64)
    before, after = (engine.recommend(slots, {}, engine.shared(NOW_S, valid_s)) for valid_s in (NOW_S, NOW_S + 3 * day_s))
    if exact_items:  # candidates name only what some source knows
        assert set(listed(before)) == {1, 4, 5}
        assert set(listed(after)) == {2, 4, 5}
    else:
        assert {4, 5} <= set(listed(before)) <= {1, 4, 5} and {2, 4, 5} <= set(listed(after)) <= {2, 4, 5}
    trending = [
        dict(zip(lists.items[0].tolist(), lists.contributions["trending"][0].tolist(), strict=True))[5] for lists in (before, after)
    ]
    assert trending[0] == trending[1] > 0
    fresh = dict(zip(after.items[0].tolist(), after.contributions["new"][0].tolist(), strict=True))
    assert fresh[2] > fresh[4] > 0, "what was published after the newest event is newer than what was published before it"
