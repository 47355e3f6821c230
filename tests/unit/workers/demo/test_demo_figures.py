"""What the demo reports follows from what was sent and what was read, by hand-made streams whose answers are plain to see."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from workers.demo.figures import (
    PublishedEvent,
    ReadList,
    freshness_s,
    live_hit_rates,
    live_swaps,
    misplaced,
    rounds,
    send_times_s,
    skipped_kinds,
    throughput,
)

LOG = """\
2026-11-30 10:02:58,460 INFO workers.trainer.job: training: recipe: skipped, no model because a recipe needs 100 cases or more
2026-11-30 10:03:29,340 INFO workers.trainer.app: ials-000001: refused, the 234 targets of the newest slice are of 8 users
2026-11-30 10:03:29,342 INFO workers.trainer.app: recipe: skipped, no model because a recipe needs 100 cases or more
"""


def test_a_kind_that_is_skipped_ends_its_round_too() -> None:
    assert skipped_kinds(LOG) == ["recipe"] and skipped_kinds("") == []
    assert rounds(["ials", *skipped_kinds(LOG)], ["ials", "recipe"]) == 1


def sent(
    user: str, item: str, value: float = 5.0, *, at: int = 0, produced_s: float = 0.0, top: tuple[str, ...] | None = None
) -> PublishedEvent:
    return PublishedEvent(user, item, value, 0, at, produced_s, top)


def read(user: str, at: int, consumed_s: float, *, partition: int = 0, event_id: str | None = None, **models: str) -> ReadList:
    return ReadList(user, partition, at, event_id, consumed_s, (), models)


def test_a_hit_is_an_item_of_the_list_held_when_the_event_was_sent() -> None:
    events = [sent("u", "a"), sent("u", "b", top=("x", "b")), sent("u", "c", top=("x", "y")), sent("v", "d")]
    found = live_hit_rates(events, 1)
    assert (found.n_scored, found.n_hits, found.n_without_list) == (3, 1, 1)
    assert found.of_lists == pytest.approx(1 / 3)


def test_only_the_first_ten_places_count() -> None:
    places = tuple(f"i{n}" for n in range(20))
    assert live_hit_rates([sent("u", "i9", top=places)], 0).n_hits == 1
    assert live_hit_rates([sent("u", "i10", top=places)], 0).n_hits == 0


def test_events_below_four_stars_are_neither_scored_nor_popular() -> None:
    events = [sent("v", "a", 3.9), sent("u", "b", 3.0, top=("b",)), sent("w", "a", top=())]
    found = live_hit_rates(events, 0)
    assert (found.n_scored, found.n_hits, found.n_hits_popularity) == (1, 0, 0)


def test_popularity_counts_what_was_sent_before_and_leaves_out_what_the_user_rated() -> None:
    popular = [sent(f"v{n}", f"i{n % 12}") for n in range(24)]  # twelve items, twice each: the first ten are the head
    assert live_hit_rates([*popular, sent("u", "i9", top=())], 24).n_hits_popularity == 1
    assert live_hit_rates([*popular, sent("u", "i10", top=())], 24).n_hits_popularity == 0
    rated_one = [sent("u", "i0", 1.0), *popular]
    assert live_hit_rates([*rated_one, sent("u", "i10", top=())], 25).n_hits_popularity == 1


def test_a_user_without_a_list_is_a_miss_for_both() -> None:
    found = live_hit_rates([sent("v", "a"), sent("u", "a")], 1)
    assert (found.n_scored, found.n_hits, found.n_hits_popularity, found.n_without_list) == (1, 0, 0, 1)


def test_freshness_ends_at_the_first_list_that_knows_the_event() -> None:
    events = [sent("u", "a", at=3, produced_s=1.0), sent("u", "b", at=5, produced_s=1.1), sent("v", "c", at=4, produced_s=1.2)]
    lists = [read("u", 2, 1.05), read("u", 5, 1.5), read("v", 4, 1.3), read("u", 5, 9.0)]
    assert freshness_s(events, lists) == pytest.approx([0.5, 0.4, 0.1])


def test_an_event_that_no_list_knows_waits_for_ever() -> None:
    assert freshness_s([sent("u", "a", at=3), sent("w", "a", at=0)], [read("u", 2, 1.0)]).tolist() == [np.inf, np.inf]


def test_throughput_counts_no_work_that_nobody_saw_begin() -> None:
    lists = [read("u", 99, 10.0), read("v", 49, 10.05, partition=1), read("u", 299, 12.05), read("v", 149, 12.05, partition=1)]
    found = throughput(lists)
    assert (found.n_events, found.n_lists) == (300, 2)
    assert found.events_per_s == pytest.approx(150.0) and found.lists_per_s == pytest.approx(1.0)


def test_throughput_leaves_out_what_earlier_lists_knew() -> None:
    before = [read("v", 499, 1.0, partition=1)]
    assert throughput([read("u", 0, 10.0), read("v", 509, 11.0, partition=1)], before).n_events == 10


def test_one_batch_has_no_rate() -> None:
    assert throughput([]).events_per_s == 0.0
    assert throughput([read("u", 5, 1.0), read("v", 3, 1.0, partition=1)]).lists_per_s == 0.0


def test_a_swap_is_a_version_in_a_list_that_was_not_announced_before() -> None:
    lists = [read("u", 1, 1.0, ials="ials-1"), read("u", 2, 2.0, ials="ials-2", sasrec="sasrec-1"), read("u", 3, 3.0, ials="ials-2")]
    assert live_swaps(lists, [("ials", "ials-1"), ("sasrec", "sasrec-1")]) == [("ials", "ials-2")]


def test_a_round_is_whole_when_every_kind_was_decided_on() -> None:
    assert rounds(["ials", "sasrec", "ials"], ("ials", "sasrec")) == 1
    assert rounds(["ials", "ials"], ("ials", "sasrec")) == 0


def test_lists_name_the_event_at_their_place_in_the_log() -> None:
    events = [sent("u", "a", at=0), sent("u", "b", at=1)]
    right, wrong, nobodys = read("u", 1, 1.0, event_id="e1"), read("u", 1, 1.0, event_id="e0"), read("u", 1, 1.0)
    assert list(misplaced(events, ["e0", "e1"], [right, wrong, nobodys])) == [wrong]


def test_a_user_s_events_keep_their_order_and_their_distance() -> None:
    users = ["u", "u", "u", "v", "u", "v"]
    times = send_times_s(users, rate=100.0, gap_s=0.1)
    assert times[3] == pytest.approx(0.03)  # others are not held up
    for user in ("u", "v"):
        mine = [time_s for name, time_s in zip(users, times, strict=True) if name == user]
        assert all(later - earlier >= 0.1 - 1e-9 for earlier, later in pairwise(mine))
