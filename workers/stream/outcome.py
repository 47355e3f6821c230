"""Results of a micro-batch and of deferred lists: what is to be published, and what is done with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from schemas.dead_letters import DeadLetter
from workers.kafka.tracing import BatchTrace
from workers.state.port import Watermark

I64 = NDArray[np.int64]
Records = list[tuple[bytes, bytes | None]]
"""(key, value) pairs to publish."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Lists and dead letters to publish, and offsets to commit, of one batch. `n_new` interactions changed the state."""

    lists: dict[int, Records]
    dead_letters: list[DeadLetter]
    next_offsets: dict[int, int]
    n_records: int
    n_new: int
    n_duplicates: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    trimmed: Mapping[str, int] = field(default_factory=dict)
    """Optional fields, and of how many events something in them was dropped or cut."""
    owing: frozenset[int] = frozenset()
    """Partitions with users whose list is deferred because what was shown to them too often begins to rest."""
    listed_ms: Mapping[str, I64] = field(default_factory=dict)
    """The times of the newest events of the users, (u,), by whose clock: the event's own (`event`) and Kafka's (`record`). Empty where no
    list was made."""
    trace: BatchTrace | None = None
    """The spans of its traced events; they end when the lists are acknowledged."""

    @property
    def n_lists(self) -> int:
        return sum(len(records) for records in self.lists.values())

    @classmethod
    def joined(cls, parts: Sequence[Outcome]) -> Outcome:
        """Return the outcome of a batch from those of its parts, in their order."""
        if len(parts) == 1:
            return parts[0]
        lists: dict[int, Records] = {}
        next_offsets: dict[int, int] = {}
        seconds: Counter[str] = Counter()
        trimmed: Counter[str] = Counter()
        listed_ms: dict[str, list[I64]] = {}
        for part in parts:
            for partition, records in part.lists.items():
                lists.setdefault(partition, []).extend(records)
            next_offsets |= part.next_offsets
            seconds.update(part.seconds)  # sums of seconds, not counts
            trimmed.update(part.trimmed)
            for clock, times_ms in part.listed_ms.items():
                listed_ms.setdefault(clock, []).append(times_ms)
        return cls(
            lists,
            [letter for part in parts for letter in part.dead_letters],
            next_offsets,
            sum(part.n_records for part in parts),
            sum(part.n_new for part in parts),
            sum(part.n_duplicates for part in parts),
            seconds,
            trimmed,
            frozenset().union(*(part.owing for part in parts)),
            {clock: np.concatenate(times_ms) for clock, times_ms in listed_ms.items()},
        )


@dataclass(frozen=True, slots=True)
class Deferred:
    """Lists of one partition that had been deferred, as (key, record), and the watermark they were made from. A record of None removes the
    list of an id that was merged into another one."""

    records: Records
    made_from: Watermark
    asked: Sequence[int]
    """How often others had asked for a list of each user before these were made."""

    @property
    def user_ids(self) -> list[str]:
        return [key.decode() for key, _ in self.records]
