"""Logs for rounds: short, and with everything that has gone wrong before in them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.builders import ALL_TYPES, DAY_MS, START_MS, value_of
from tests.fold import Fact
from workers.kafka.partitioner import partition_for

IDLE_USERS = 3
AGAIN = 0.15
"""Share of events that touch an item of the same user's newest events again."""
ERASURES = 0.02
"""Share of the records that erase a user."""
BURSTS, BURST = 0.01, 12
"""How often the bot comes, and its events each time."""
FUTURE_MS = 4_000_000_000_000
"""The year 2096: too far ahead for any worker's clock, also one that jumps."""


@dataclass(frozen=True)
class Record:
    """One record to be published. `fact` None: it is poison. Values are distinct unless one is a duplicate of the other."""

    partition: int
    key: bytes
    value: bytes
    fact: Fact | None


def fault_log(
    chance: random.Random,
    n_events: int,
    *,
    n_users: int,
    n_items: int,
    partitions: int,
    poison: float = 0.05,
    duplicates: float = 0.1,
    erasures: float = 0.0,
) -> list[Record]:
    """Events of every type in publication order, users hashed to partitions as clients do.

    The last few users come only in the first third: they are idle while things break. Among the events are ratings, dislikes after likes,
    repeats within a session and later, duplicates a few places later, poison, events that are a little or very late, bursts of a bot that
    goes to and fro between two items or through all of them, and event time that goes over several epochs of a day. `erasures` of the
    records erase a user, who may come back.
    """
    records: list[Record] = []
    readable: dict[int, list[Record]] = {partition: [] for partition in range(partitions)}
    bot, bot_key, at_ms = f"u{n_users}", f"u{n_users}".encode(), START_MS
    of_bot = partition_for(bot_key, partitions)
    for number in range(n_events):
        n_active = n_users if number < n_events // 3 else max(1, n_users - IDLE_USERS)
        user_id = f"u{min(chance.randrange(n_active), chance.randrange(n_active))}"  # the first ones do more: their histories overflow
        key = user_id.encode()
        partition = partition_for(key, partitions)
        mine = readable[partition]
        at_ms += chance.choice((0, 1_000, 60_000, 3_600_000, DAY_MS // 3))
        kind = chance.random()
        if chance.random() < BURSTS:
            n_between = chance.choice((2, n_items))
            for n in range(BURST):
                at_ms += 1_000
                fact = Fact(bot, f"i{n % n_between}", f"b{number}/{n}", "like", None, at_ms)
                readable[of_bot].append(Record(of_bot, bot_key, value_of(fact), fact))
                records.append(readable[of_bot][-1])
        elif chance.random() < erasures:
            fact = Fact(user_id, "", f"x{number}", "erase", None, at_ms)
            mine.append(Record(partition, key, value_of(fact), fact))
            records.append(mine[-1])
        elif kind < poison:
            records.append(Record(partition, key, _poison(chance, number, user_id), None))
        elif kind < poison + duplicates and mine:
            records.append(chance.choice(mine[-20:]))
        elif kind < poison + duplicates + AGAIN and (own := [record.fact for record in mine[-20:] if record.key == key]):
            seen = chance.choice([one for one in own if one is not None and not one.erases] or [Fact(user_id, "i0", "", "play", None, 0)])
            fact = Fact(user_id, seen.item_id, f"r{number}", chance.choice(("play", "like", "dislike", "hide")), None, at_ms)
            mine.append(Record(partition, key, value_of(fact), fact))
            records.append(mine[-1])
        else:
            late_ms = chance.choice((0, 0, 0, 30_000, 900_000, DAY_MS // 2, DAY_MS))
            what = chance.choice(ALL_TYPES + ("play",) * 10)
            value = chance.choice((0.5, 1.0, 2.5, 3.0, 4.5, 5.0)) if what == "rating" else None
            fact = Fact(user_id, f"i{chance.randrange(n_items)}", f"e{number}", what, value, at_ms - late_ms)
            mine.append(Record(partition, key, value_of(fact), fact))
            records.append(mine[-1])
    return records


def merge_plan(chance: random.Random, n_users: int, n_events: int) -> list[tuple[int, str, str]]:
    """Merges among the events of a log: (events before it, user, the id that the user goes on as; empty: their own again).

    Among them are chains, ids that go on as another one later or as nobody, and circles.
    """
    users = [f"u{number}" for number in range(n_users)]
    plan: list[tuple[int, str, str]] = []
    for _ in range(chance.randint(3, 8)):
        user_id, into = chance.sample(users, 2)
        plan.append((chance.randrange(n_events), user_id, "" if plan and chance.random() < 0.15 else into))
        if chance.random() < 0.4:
            plan.append((chance.randrange(n_events), into, chance.choice([other for other in users if other != into])))
    return sorted(plan)


def _poison(chance: random.Random, number: int, user_id: str) -> bytes:
    """A value of its own that no worker can read."""
    late = value_of(Fact(user_id, "i0", f"future{number}", "play", None, FUTURE_MS))
    unknown = value_of(Fact(user_id, "i0", f"unknown{number}", "smell", None, START_MS))
    nobody = b'{"event_id": "nobody%d"}' % number
    return chance.choice((b"{%d" % number, late, unknown, nobody, b"\xff\xfe%d" % number))
