"""The device that a list is read on: what a log says of it, and what a ranker learns from that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys.catalogue.items import ItemContent
from recsys.engine import EngineConfig
from recsys.errors import ModelError
from recsys.lists.context import Situation
from recsys.lists.learned.devices import MAX_DEVICES
from recsys.lists.learned.feature_names import DEVICE, SHOWN, WITH_DEVICES
from recsys.lists.learned.ranker import LearnedRanker
from recsys.ranker.budget import RankerOptions
from recsys.ranker.cases import gather
from recsys.ranker.train import train_ranker
from recsys.recipe.devices import LEAST_EVENTS, Devices
from recsys.recipe.judge import judge
from recsys.recipe.replay import Log, Replay, evenly
from tests.builders import recipe_of
from tests.rankers import TV_OR_PHONE, tv_ranker
from tests.unit.recsys.lists.test_learned_lists import SIZES, stump
from tests.unit.recsys.lists.test_situations import N_USERS, lists_of, world
from tests.unit.recsys.recipe.test_replay import START_S, log_of


@SIZES
def test_a_list_on_request_is_that_of_its_device_and_a_published_one_that_of_none(exact_items: int) -> None:
    engine, slots = world(exact_items)
    plain = lists_of(engine, slots)
    engine.use_ranker(tv_ranker(6.8))  # published 110.4 hours ago or earlier
    now_s = engine.popularity.newest_s
    on_tv: Situation = {"device": "tv"}
    mixed = lists_of(engine, slots, [on_tv if row % 2 else {"device": "phone"} for row in range(N_USERS)])
    old = (now_s - engine.catalogue.published_s[mixed[1::2]]) / 3_600 >= 110.4
    assert old.any() and (np.diff(old.astype(int), axis=1) <= 0).all(), "old items come first on a television"
    np.testing.assert_array_equal(mixed[::2], plain[::2])
    assert (mixed[1::2] != plain[1::2]).any(axis=1).all()
    others: list[list[Situation] | None] = [None, [{}] * N_USERS, [{"device": "fridge"}] * N_USERS, [{"device": True}] * N_USERS]
    for unknown in others:
        np.testing.assert_array_equal(lists_of(engine, slots, unknown), plain)
    engine.use_ranker(tv_ranker(6.8, ("phone", "tv")))
    np.testing.assert_array_equal(lists_of(engine, slots, [{"device": "phone"}] * N_USERS)[1], mixed[1])


def test_devices_of_few_events_are_not_told_apart_and_one_alone_is_none() -> None:
    rare, n = LEAST_EVENTS - 1, 3 * LEAST_EVENTS
    found = Devices.of([*["phone"] * n, None, "", *["tv"] * LEAST_EVENTS, *["fridge"] * rare, "x" * 300])
    assert found is not None and found.names == ("phone", "tv")
    assert found.codes.tolist() == [*[1] * n, 0, 0, *[2] * LEAST_EVENTS, *[0] * (rare + 1)]
    assert Devices.of(["phone"] * n) is None and Devices.of([None] * n) is None and Devices.of([]) is None
    assert Devices.of([*["phone"] * 100 * n, *["tv"] * LEAST_EVENTS]) is None, "one event in a hundred, at least"
    many = Devices.of([f"d{n % (MAX_DEVICES + 3)}" for n in range(200 * MAX_DEVICES)])
    assert many is not None and many.names == tuple(f"d{n}" for n in range(MAX_DEVICES))
    assert found.at(slice(n, None)).codes[2] == 2
    known = [found.situation(event) for event in range(n)]
    assert {"device": "phone"} in known and {} in known and known.count({}) == pytest.approx(n / 2, rel=0.2)
    assert found.situation(n) == {} == found.situation(len(found.codes) - 1)


def test_a_ranker_keeps_its_devices_and_refuses_what_cannot_be_some() -> None:
    ranker = tv_ranker(0.0)
    again = LearnedRanker.from_tensors(ranker.config, ranker.tensors())
    assert again.config == ranker.config and again.devices == TV_OR_PHONE and not again.reads_shown
    assert ranker.feature_names[-3:] == (*SHOWN, *DEVICE) and "devices" not in stump("age", 0, 0, 0).config
    for wrong in ("tv", ["tv", 1], ["tv", ""], ["tv", "tv"], [str(n) for n in range(MAX_DEVICES + 1)], [], ["x" * 257]):
        with pytest.raises(ModelError, match="ranker option devices"):
            LearnedRanker.from_tensors({**ranker.config, "devices": wrong}, ranker.tensors())
    with pytest.raises(ModelError, match="others have none"):
        replace(stump("age", 0, 0, 0), devices=("tv",))


def by_device(n_events: int, seed: int = 0, n_items: int = 24, n_users: int = 300) -> Log:
    """Return a log of users who choose what is old on a television, and what is new on a phone, which three of ten events are on."""
    random = np.random.default_rng(seed)
    is_old = np.arange(n_items) >= n_items // 2
    users, codes = random.integers(0, n_users, n_events), 1 + (random.random(n_events) < 0.3)
    items, touched = np.empty(n_events, np.int64), np.zeros((n_users, n_items), np.bool_)
    for event, (user, code) in enumerate(zip(users.tolist(), codes.tolist(), strict=True)):
        chances = (is_old if code == 1 else ~is_old) * ~touched[user] * 1.0
        items[event] = random.choice(n_items, p=chances / chances.sum())
        touched[user, items[event]] = True
    contents = {number: ItemContent([], published_s=START_S - (200 if is_old[number] else 2) * 86_400) for number in range(n_items)}
    times_s, weights = START_S + 300 * np.arange(n_events), np.full(n_events, 32, np.int8)
    return Log(users, items, times_s, weights, contents, devices=Devices(TV_OR_PHONE, codes.astype(np.int8)))


def test_a_ranker_learns_what_a_device_changes_and_one_without_devices_does_not() -> None:
    log, config = by_device(1_200), EngineConfig()
    targets, start = log.targets(), recipe_of(**{"popularity.all": 1.0})
    cut = int(0.75 * len(targets))
    options = RankerOptions(trees=60, leaves=8, learning_rate=0.1, least_rows=100, ridge=10.0, patience=15, cases=600)
    newest, found = evenly(targets[cut:], 150), {}
    for name, one in (("with", log), ("without", replace(log, devices=None))):
        ranker = train_ranker(config, one.first(int(targets[cut])), start, options, among=targets[:cut])
        assert ranker.devices == (TV_OR_PHONE if name == "with" else ())
        found[name] = judge(config, one, newest, {"on": start}, 2, rankers={"on": ranker}).ndcg("on")
    told = np.array([log.situations(event) for event in newest.tolist()])[:, 0]
    on_phone = told == {"device": "phone"}
    assert on_phone.sum() > 10 and found["with"][on_phone].mean() > 4 * found["without"][on_phone].mean()
    untold = told == {}
    assert found["with"][untold].mean() == pytest.approx(found["without"][untold].mean(), rel=0.2), "published lists lose nothing"


def test_cases_know_the_device_of_every_second_event_and_the_other_features_stay_as_they_are() -> None:
    log = log_of(400)
    with_devices = replace(log, devices=Devices(TV_OR_PHONE, (1 + np.arange(400) % 2).astype(np.int8)))
    events = log.targets()[-60:]
    plain, cases = (gather(EngineConfig(), one, events) for one in (log, with_devices))
    n_plain = plain.features.shape[2]
    np.testing.assert_array_equal(plain.features, cases.features[:, :, :n_plain])
    assert cases.features.shape[2] == n_plain + len(SHOWN) + 1 and cases.version == WITH_DEVICES and cases.devices == TV_OR_PHONE
    told, valid = cases.features[:, :, -1], cases.valid
    of_case = np.array([one[ok].max() for one, ok in zip(told, valid, strict=True)])
    assert all((one[ok] == one[ok].max()).all() for one, ok in zip(told, valid, strict=True)), "the same for all candidates"
    expected = [0 if not with_devices.devices.situation(event) else 1 + event % 2 for event in events.tolist()]  # type: ignore[union-attr]
    assert of_case.tolist() == expected and {0, 1, 2} == set(expected)
    assert Replay(EngineConfig(), log).log.situations(3) is None
