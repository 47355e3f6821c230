"""Replays a log through an engine and stops before chosen events: the user's candidates of that moment, with their features, are a case.

Nothing that happened at or after an event is known when its case is made. Cases come from the same sources, filters and features as lists.

Shapes: n events, B cases, C candidates, F features, H half-lives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.items import ItemContent
from recsys.engine import Engine, EngineConfig
from recsys.errors import ShapeError
from recsys.lists.features import extra_shares
from recsys.lists.ranker import SOURCES
from recsys.lists.recipe import Recipe
from recsys.lists.touch_policy import FOR_EVER
from recsys.models.training import Progress, go_on
from recsys.recipe.cases import Cases
from recsys.state.half_lives import HALF_LIVES_S
from recsys.state.interactions import Interactions

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

BATCH_EVENTS = 500
"""Events that are learnt at once between two cases."""
_BASELINE_PLACES = 200
"""Items by popularity among which a target is looked for: beyond them it is on no list."""


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Events in order of arrival, all (n,): `users` and `items` are numbers, `times_s` seconds, `weights` in units of 1/32. `contents` by
    item number. `types` (n,) are the codes of the events' types, all 0 unless given."""

    users: I64
    items: I64
    times_s: I64
    weights: NDArray[np.int8]
    contents: Mapping[int, ItemContent] = field(default_factory=dict)
    types: NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        for name in ("items", "times_s", "weights", *(("types",) if self.types is not None else ())):
            if len(getattr(self, name)) != len(self.users):
                raise ShapeError(f"{name} has {len(getattr(self, name))} entries for {len(self.users)} events")

    def __len__(self) -> int:
        return len(self.users)

    def first(self, n_events: int) -> Log:
        """Return the first events."""
        rows, types = slice(n_events), None if self.types is None else self.types[:n_events]
        return Log(self.users[rows], self.items[rows], self.times_s[rows], self.weights[rows], self.contents, types)

    def repeats(self, config: EngineConfig) -> bool:
        """Return True if lists repeat what a user touched: the source `again` is on, and some type of event takes nothing off for ever."""
        codes = np.zeros(1, np.int64) if self.types is None else np.unique(self.types)
        return config.source_weights.get("again", 0.0) > 0 and bool((config.touch_policy.table[:, 0, codes] < FOR_EVER).any())

    def targets(self, *, repeats: bool = False) -> I64:
        """Return the places of the events that may be cases, ascending: a user's first touch of an item, if it is liked, if somebody
        touched the item before, and if the user touched another item before. With `repeats` also touches of the user's earlier items,
        except of the one touched just before."""
        n_items = int(self.items.max(initial=0)) + 1
        is_target = self.weights > 0
        pairs = self.users * n_items + self.items
        if repeats:
            order = np.argsort(self.users, kind="stable")
            is_target[order[1:][pairs[order[1:]] == pairs[order[:-1]]]] = False
        else:
            is_first = np.zeros(len(self), np.bool_)
            is_first[np.unique(pairs, return_index=True)[1]] = True
            is_target &= is_first
        for column in (self.users, self.items):
            _, first_place = np.unique(column, return_index=True)
            is_target[first_place] = False
        return np.flatnonzero(is_target)


def evenly(places: I64, limit: int) -> I64:
    """Return at most `limit` of the places, evenly chosen."""
    if len(places) <= limit:
        return places
    return places[np.linspace(0, len(places) - 1, limit).astype(np.int64)]


class Replay:
    """An engine that learns a log from its beginning, in micro-batches that end before each case."""

    def __init__(self, config: EngineConfig, log: Log) -> None:
        self.log = log
        self.engine = Engine(config)
        self._learnt = 0
        n_items = int(log.items.max(initial=-1)) + 1
        self.engine.ensure_items(n_items)
        self.engine.neighbours.hold_all()
        for number, content in log.contents.items():
            if number < n_items:
                self.engine.describe_item(number, content)
        self._slots: dict[int, int] = {}

    def learn_until(self, event: int) -> None:
        """Learn the events before this one."""
        for start in range(self._learnt, event, BATCH_EVENTS):
            self._learn(start, min(start + BATCH_EVENTS, event))
        self._learnt = max(self._learnt, event)

    def slot(self, user: int) -> int:
        """Return the slot of a user in the engine's table."""
        slot = self._slots.get(user)
        if slot is None:
            self.engine.users.load({str(user): None})
            slot = self._slots[user] = self.engine.users.slot(str(user)) or 0
        return slot

    def _learn(self, start: int, end: int) -> None:
        log, rows = self.log, slice(start, end)
        order = np.argsort(log.users[rows], kind="stable")
        users, counts = np.unique(log.users[rows], return_counts=True)
        slots = np.array([self.slot(user) for user in users.tolist()], np.int64)
        batch = Interactions(
            slots,
            counts.astype(np.int64),
            log.items[rows][order].astype(np.uint32),
            log.times_s[rows][order].astype(np.uint32),
            log.weights[rows][order],
            np.zeros(end - start, np.int8) if log.types is None else log.types[rows][order],
            np.zeros(end - start, np.int32),
            np.arange(start, end)[order],
        )
        derived = self.engine.derive(batch)
        self.engine.advance_time(int(log.times_s[rows].max()))
        self.engine.learn_items(derived.delta(self.engine.config))
        self.engine.learn_histories(derived)

    def moments(self, events: I64) -> Iterator[tuple[int, int, int]]:
        """Yield each of the `events` (B,), ascending, with its user's slot and its second, once all before it is learnt."""
        for event in events.tolist():
            self.learn_until(event)
            now_s = max(int(self.log.times_s[event]), self.engine.popularity.newest_s)
            self.engine.advance_time(now_s)
            yield event, self.slot(int(self.log.users[event])), now_s


def gather(
    config: EngineConfig, log: Log, events: I64, recipes: Sequence[Recipe | None] = (None,), progress: Progress | None = None
) -> list[Cases]:
    """Return the cases of the `events` (B,), ascending, with the features of each recipe's settings; fewer if `progress` says that time is
    up. The oldest are made first."""
    replayed, made = Replay(config, log), [list[Cases]() for _ in recipes]
    engine = replayed.engine
    for done, (event, slot, now_s) in enumerate(replayed.moments(events)):
        slots = np.array([slot])
        vectors = engine.encode(slots)
        popular = popularity_ranks(engine, slot, int(log.items[event]), now_s)
        for cases, recipe in zip(made, recipes, strict=True):
            engine.use_recipe(recipe)
            found, features = engine.features(slots, vectors, now_s)
            names = tuple(name for name in found.raw if name not in SOURCES)
            order = np.flatnonzero(found.valid[0])
            targets = np.flatnonzero(found.numbers[0, order] == log.items[event])
            cases.append(
                Cases(
                    np.ascontiguousarray(features.values[:, order]),
                    np.array([len(order)], np.int32),
                    np.array([targets[0] if len(targets) else -1], np.int32),
                    log.users[event : event + 1],
                    np.array([now_s]),
                    np.array([event]),
                    popular[None],
                    extra_shares(found, names)[:, order],
                    names,
                )
            )
        if done % 64 == 0 and not go_on(progress, done / len(events), f"recipe: {done:,} of {len(events):,} cases"):
            break
    return [Cases.joined(cases) for cases in made]


def popularity_ranks(engine: Engine, slot: int, item: int, now_s: int) -> F64:
    """Return the rank of an item among those that the user's touches do not keep off lists by popularity at each half-life, (H,); infinite
    beyond 200."""
    context = engine.shared(now_s)
    seen = context.users(np.array([slot]), {}).seen(context).older
    ranks = np.full(len(HALF_LIVES_S), np.inf)
    for place, best in enumerate(engine.popularity.tops(_BASELINE_PLACES)):
        at = np.flatnonzero(best == item)
        if len(at):
            ranks[place] = 1 + int((~np.isin(best[: at[0]], seen)).sum())
    return ranks
