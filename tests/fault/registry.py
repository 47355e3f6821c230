"""Fault scenarios by their permanent names. One round is a fresh log, one fault (or a storm of one kind), a drain, and a comparison."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

LaneName = Literal["embedded", "kafka"]
Need = Literal["kafka", "three_brokers", "cluster", "root"]
"""What a scenario cannot do without: a real Apache Kafka (KAFKA_HOME), three of its nodes, a Redis Cluster, root (a small file system)."""


class Lane(Protocol):
    """Where rounds run. `bootstrap_servers` is the lane's shared broker, `redis_url` its shared Valkey; a scenario that has to hurt one
    of them starts its own."""

    name: LaneName

    @property
    def bootstrap_servers(self) -> str: ...

    @property
    def redis_url(self) -> str: ...

    def can(self, need: Need) -> bool: ...


@dataclass(frozen=True)
class Round:
    """What one round did: events published, faults injected, and every difference from the oracle in words (empty: equal)."""

    events: int
    faults: int
    differences: list[str] = field(default_factory=list)


Scenario = Callable[[Lane, random.Random, Path], Awaitable[Round]]
"""Runs one round in a folder of its own, with all its choices from the given generator."""


@dataclass(frozen=True)
class Entry:
    name: str
    run: Scenario
    needs: frozenset[Need]
    alone: bool = False
    """Never at the same time as another such round: it watches loggers of this process, and replaces parts in it."""


SCENARIOS: dict[str, Entry] = {}


def scenario(name: str, needs: Iterable[Need] = (), *, alone: bool = False) -> Callable[[Scenario], Scenario]:
    """Register a scenario under a permanent name."""

    def register(run: Scenario) -> Scenario:
        if name in SCENARIOS:
            raise ValueError(f"two scenarios are named {name}")
        SCENARIOS[name] = Entry(name, run, frozenset(needs), alone)
        return run

    return register
