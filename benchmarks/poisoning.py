"""Measure how far accounts that repeat events bring their item onto the lists of others, and what the bounds against it cost.

Examples:
    RECSYS_DATA=… python -m benchmarks.poisoning
    RECSYS_DATA=… python -m benchmarks.poisoning --data deskdrop --check --json

A log is learnt up to the end of its busiest day. During this day accounts that nobody saw before add events, evenly in time, to bring a
target onto lists: an item that few users know (a tenth of the items is rarer), the same in every attack. Then the list of every other
user is made who does not have the target. Printed is the share of these lists that hold the target among their 20 places, and at rank 1.

* top: the accounts alternate between the target and the 100 most popular items, one after another.
* pair: they alternate between the target and the most popular item.
* alone: they repeat the target.

1 and 10 accounts send 10,000 events each, 100 accounts 1,000 each. Exit code 1 with --check, if one account brings the target onto 2 % of
the lists or more, or ten onto 5 % or more, in any attack.

What the bounds cost: recall at 10 of the lists, with and without them (protocol discovery of `benchmarks.streams`, newest 60 % of the
targets in the first --cost-events events). Nothing is drawn at random.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.datasets import DatasetMissing
from benchmarks.figures import benchmark_parser, run_benchmark
from benchmarks.streams.lists import ListStream, list_config
from benchmarks.streams.log import NAMED, BadFile, Log, made_log, named_log
from benchmarks.streams.protocol import Stream, recalls
from recsys.engine import Engine, EngineConfig
from schemas.events import EventType
from workers.lists.engine_config import engine_config
from workers.settings import load_settings

I64 = NDArray[np.int64]

DATA = ("ml-1m", "deskdrop")
ATTACKS = ("top", "pair", "alone")
ACCOUNTS = {1: 10_000, 10: 10_000, 100: 1_000}
"""Number of accounts ▸ events of each."""
TOP_ITEMS = 100
RARER_SHARE = 0.1
LIMITS = {1: 0.02, 10: 0.05}
"""Number of accounts ▸ share of the lists that may not be reached."""
DAY_S = 86_400
UNBOUNDED = {"session_s": 0, "pairings_per_epoch": 255, "touches_per_epoch": 255, "partner_touches": 255, "user_budget": 60_000}
"""Bounds on what one user adds, as good as off."""


class Shares(NamedTuple):
    """Shares of the lists of others that hold the target, and that begin with it; how many lists there are."""

    listed: float
    first: float
    n_lists: int


@dataclass(frozen=True, slots=True)
class Scene:
    """A log up to the end of its busiest day, which begins at `day_s`, the target, and the most popular items, by id."""

    log: Log
    day_s: int
    target: str
    popular: list[str]

    @classmethod
    def of(cls, log: Log) -> Scene:
        days, counts = np.unique(log.times_s // DAY_S, return_counts=True)
        day_s = int(days[np.argmax(counts)]) * DAY_S
        part = log.first(int(np.searchsorted(log.times_s, day_s + DAY_S)))
        before = Stream.of(part)
        firsts = before.touches.is_first
        users_of = np.bincount(before.touches.items[firsts], minlength=part.n_items)
        order = np.argsort(-users_of, kind="stable")
        known = order[users_of[order] > 0]
        target = int(known[int(len(known) * (1 - RARER_SHARE)) - 1])
        return cls(part, day_s, part.item_ids[target], [part.item_ids[item] for item in order[:TOP_ITEMS].tolist()])

    def attacked(self, attack: str, n_accounts: int, n_events: int) -> Log:
        """Return the log with the events of the accounts."""
        log = self.log
        items = list(self._items(attack, n_events)) * n_accounts
        accounts = [f"account {account}" for account in range(n_accounts) for _ in range(n_events)]
        at_s = self.day_s + np.arange(n_events) * DAY_S // n_events
        times_s = np.concatenate((log.times_s, np.tile(at_s, n_accounts)))
        order = np.argsort(times_s, kind="stable").tolist()
        users: list[object] = [*log.users.tolist(), *accounts]
        ids = [*(log.item_ids[item] for item in log.items.tolist()), *items]
        users, ids = [users[place] for place in order], [ids[place] for place in order]
        weights = np.concatenate((log.weights, np.ones(len(items), np.float32)))[order]
        types = np.concatenate((log.types, np.full(len(items), EventType.PLAY.code, np.int8)))[order]
        return made_log(log.name, users, ids, times_s[order], weights, types, content=log.content)

    def _items(self, attack: str, n_events: int) -> Iterator[str]:
        others = {"top": self.popular, "pair": self.popular[:1], "alone": [self.target]}[attack]
        for event in range(n_events):
            yield self.target if event % 2 == 0 else others[event // 2 % len(others)]


def shares(scene: Scene, config: EngineConfig, attack: str = "", n_accounts: int = 0, n_events: int = 0) -> Shares:
    """Learn the log, and the attack with it, and look at the lists of others."""
    log = scene.attacked(attack, n_accounts, n_events) if n_accounts else scene.log
    engine, stream = Engine(config), Stream.of(log)
    run = ListStream(stream, engine)
    run.learn()
    target = log.item_ids.index(scene.target)
    users, touched = np.unique(log.users[log.weights > 0]), np.unique(log.users[log.items == target])
    others = np.setdiff1d(users, touched)
    now_s = int(log.times_s.max())
    engine.advance_time(now_s)
    slots = run.slots(others.tolist())
    lists = engine.recommend(slots, engine.encode(slots), now_s)
    held = run.numbers([target])[0] == lists.items
    return Shares(float(held.any(axis=1).mean()), float(held[:, 0].mean()), len(others))


def recall_at_10(log: Log, config: EngineConfig) -> float:
    """Return the lists' recall at 10 over the newest 60 % of the targets of discovery."""
    stream = Stream.of(log)
    targets = stream.events[stream.targets("discovery")]
    ranks = ListStream(stream, Engine(list_config(config, config.seed))).ranks()[targets]
    return recalls(ranks)["last60_recall@10"]


def bounds_cost(log: Log, config: EngineConfig) -> dict[str, float]:
    """Return the lists' recall at 10 with and without the bounds on what one user adds."""
    known = {one.name for one in fields(config)}
    unbounded: dict[str, Any] = {name: value for name, value in UNBOUNDED.items() if name in known}
    return {"bounded": recall_at_10(log, config), "unbounded": recall_at_10(log, replace(config, **unbounded))}


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--data", nargs="+", action="extend", choices=[*NAMED], metavar="NAME", help=f"of {', '.join(NAMED)} (default: {', '.join(DATA)})"
    )
    parser.add_argument("--events", type=int, default=0, metavar="N", help="read only the first N events of each (default: all)")
    parser.add_argument(
        "--cost-events", type=int, default=30_000, metavar="N", help="events of each for what the bounds cost (default: 30,000)"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if a share reaches its limit")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = engine_config(load_settings())
    figures: dict[str, object] = {}
    beyond = []
    try:
        for name in arguments.data or DATA:
            scene = Scene.of(named_log(name).first(arguments.events))
            found = {"none": {"0": shares(scene, config)}}
            for attack in ATTACKS:
                found[attack] = {str(n): shares(scene, config, attack, n, n_events) for n, n_events in ACCOUNTS.items()}
            cost = bounds_cost(named_log(name).first(arguments.cost_events), config)
            _show(name, scene, found, cost)
            attacks = {attack: {n: one._asdict() for n, one in by_accounts.items()} for attack, by_accounts in found.items()}
            figures[name] = {"attacks": attacks, "recall@10": cost}
            beyond += [
                f"{name}, {attack}, {n} accounts: {found[attack][str(n)].listed:.1%} of the lists, at most {limit:.0%} may hold the target"
                for attack in ATTACKS
                for n, limit in LIMITS.items()
                if found[attack][str(n)].listed >= limit
            ]
    except (BadFile, DatasetMissing) as error:
        print(f"poisoning: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps(figures))
    for line in beyond if arguments.check else ():
        print(f"poisoning: {line}", file=sys.stderr)
    return 1 if beyond and arguments.check else 0


def _show(name: str, scene: Scene, found: dict[str, dict[str, Shares]], cost: dict[str, float]) -> None:
    table = Table(
        title=f"{name}: {len(scene.log):,} events, of which {int((scene.log.times_s >= scene.day_s).sum()):,} on the day of the attack"
    )
    for place, column in enumerate(("attack", "accounts", "events of each", "lists of others", "hold the target", "at rank 1")):
        table.add_column(column, justify="left" if place == 0 else "right")
    for attack, by_accounts in found.items():
        for n_accounts, share in by_accounts.items():
            n_events = ACCOUNTS.get(int(n_accounts), 0)
            table.add_row(attack, n_accounts, f"{n_events:,}", f"{share.n_lists:,}", f"{share.listed:.2%}", f"{share.first:.2%}")
    console = Console(file=sys.stdout, width=140)
    console.print(table)
    bounded, unbounded = cost["bounded"], cost["unbounded"]
    change = f" ({bounded / unbounded - 1:+.1%})" if unbounded else ""
    console.print(f"{name}: recall@10 of the lists {bounded:.4f} with the bounds, {unbounded:.4f} without{change}")


if __name__ == "__main__":
    run_benchmark(main)
