"""Logs for rounds: short, and with everything that has gone wrong before in them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.builders import ALL_TYPES, DAY_MS, START_MS, value_of
from tests.fold import Fact
from workers.kafka.partitioner import partition_for

IDLE_USERS = 3
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
    chance: random.Random, n_events: int, *, n_users: int, n_items: int, partitions: int, poison: float = 0.05, duplicates: float = 0.1
) -> list[Record]:
    """Events of every type in publication order, users hashed to partitions as clients do.

    The last few users come only in the first third: they are idle while things break. Among the events are ratings, dislikes, duplicates a
    few places later, poison, late events, and event time that goes over several epochs of a day.
    """
    records: list[Record] = []
    readable: dict[int, list[Record]] = {partition: [] for partition in range(partitions)}
    at_ms = START_MS
    for number in range(n_events):
        n_active = n_users if number < n_events // 3 else max(1, n_users - IDLE_USERS)
        user_id = f"u{min(chance.randrange(n_active), chance.randrange(n_active))}"  # the first ones do more: their histories overflow
        key = user_id.encode()
        partition = partition_for(key, partitions)
        mine = readable[partition]
        at_ms += chance.choice((0, 1_000, 60_000, 3_600_000, DAY_MS // 3))
        kind = chance.random()
        if kind < poison:
            records.append(Record(partition, key, _poison(chance, number, user_id), None))
        elif kind < poison + duplicates and mine:
            records.append(chance.choice(mine[-20:]))
        else:
            late_ms = chance.choice((0, 0, 0, DAY_MS // 2, DAY_MS))
            what = chance.choice(ALL_TYPES + ("play",) * 10)
            value = chance.choice((0.5, 1.0, 2.5, 3.0, 4.5, 5.0)) if what == "rating" else None
            fact = Fact(user_id, f"i{chance.randrange(n_items)}", f"e{number}", what, value, at_ms - late_ms)
            mine.append(Record(partition, key, value_of(fact), fact))
            records.append(mine[-1])
    return records


def _poison(chance: random.Random, number: int, user_id: str) -> bytes:
    """A value of its own that no worker can read."""
    late = value_of(Fact(user_id, "i0", f"future{number}", "play", None, FUTURE_MS))
    unknown = value_of(Fact(user_id, "i0", f"unknown{number}", "smell", None, START_MS))
    nobody = b'{"event_id": "nobody%d"}' % number
    return chance.choice((b"{%d" % number, late, unknown, nobody, b"\xff\xfe%d" % number))
