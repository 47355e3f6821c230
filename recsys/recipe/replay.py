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
from recsys.lists.context import Situation
from recsys.lists.fading import columns_of
from recsys.lists.features import extra_shares
from recsys.lists.ranker import SOURCES
from recsys.lists.recipe import Recipe
from recsys.lists.touch_policy import FOR_EVER
from recsys.models.base import Model
from recsys.models.content_map import MappedModel
from recsys.models.training import Progress, go_on
from recsys.recipe.cases import Cases
from recsys.recipe.devices import Devices
from recsys.recipe.horizon import later_choices
from recsys.recipe.impressions import Impressions, ShownLog
from recsys.state.half_lives import HALF_LIVES_S
from recsys.state.interactions import Interactions
from recsys.state.profiles import ProfileColumns

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

NEW_USER_DOUBLINGS = 5
"""Doublings of a history after which its user is new no longer: from 31 events on."""
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
    profiles: ProfileColumns | None = None
    """Attributes of each user by number, (U, M), where lists depend on them. They count as the same since the log's beginning."""
    impressions: Impressions | None = None
    """What was shown to users; folded where the engine counts it."""
    devices: Devices | None = None
    """Those of the events, for rankers; None where they are not told apart."""

    def __post_init__(self) -> None:
        for name in ("items", "times_s", "weights", *(("types",) if self.types is not None else ())):
            if len(getattr(self, name)) != len(self.users):
                raise ShapeError(f"{name} has {len(getattr(self, name))} entries for {len(self.users)} events")

    def __len__(self) -> int:
        return len(self.users)

    def first(self, n_events: int) -> Log:
        """Return the first events."""
        rows, types = slice(n_events), None if self.types is None else self.types[:n_events]
        shown = None if self.impressions is None else self.impressions.first(n_events)
        devices = None if self.devices is None else self.devices.at(rows)
        columns = self.users[rows], self.items[rows], self.times_s[rows], self.weights[rows]
        return Log(*columns, self.contents, types, self.profiles, shown, devices)

    def situations(self, event: int) -> list[Situation] | None:
        """Return what the list of one event knows of where it is read, (1,); None where devices are not told apart."""
        return None if self.devices is None else [self.devices.situation(event)]

    def holds_shown(self, config: EngineConfig) -> bool:
        """Return True if lists of this configuration read how often items were shown, and the log says it."""
        return config.shown_items > 0 and self.impressions is not None and len(self.impressions) > 0

    def repeats(self, config: EngineConfig) -> bool:
        """Return True if lists repeat what a user touched: the source `again` is on, and some type of event takes nothing off for ever."""
        codes = np.zeros(1, np.int64) if self.types is None else np.unique(self.types)
        return config.source_weights.get("again", 0.0) > 0 and bool((config.touch_policy.table[:, 0, codes] < FOR_EVER).any())

    def targets(self, *, repeats: bool = False) -> I64:
        """Return the places of the events that may be cases, ascending: a user's first touch of an item, if it is liked, if somebody
        touched the item before, and if the user touched another item before, or has a profile. With `repeats` also touches of the user's
        earlier items, except of the one touched just before."""
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
            if column is self.users and self.profiles is not None:
                first_place = first_place[self.profiles.keys[self.users[first_place], 0] == 0]
            is_target[first_place] = False
        return np.flatnonzero(is_target)


@dataclass(frozen=True, slots=True, eq=False)
class Serving:
    """Models that make lists during a replay, by kind, and the log's numbers of their items, by id. Cases must be of events that none of
    them has seen."""

    models: Mapping[str, Model | MappedModel]
    numbers: Mapping[str, int]


def evenly(places: I64, limit: int) -> I64:
    """Return at most `limit` of the places, evenly chosen."""
    if len(places) <= limit:
        return places
    return places[np.linspace(0, len(places) - 1, limit).astype(np.int64)]


def with_beginnings(log: Log, places: I64, limit: int) -> I64:
    """Return at most `limit` of the `places` (k,), ascending, evenly chosen, and up to half as many more at which users are new: a tenth
    each after no event, one or two, three to six, seven to fourteen, and fifteen to thirty. These are rare among all events, and say how
    much profiles count. Without profiles there are none more."""
    chosen = evenly(places, limit)
    if log.profiles is None:
        return chosen
    order = np.argsort(log.users, kind="stable")
    grouped = log.users[order]
    earlier = np.empty(len(log), np.int64)
    earlier[order] = np.arange(len(log)) - np.searchsorted(grouped, grouped)
    of_places = earlier[places]
    doublings = np.log2(1 + of_places).astype(np.int64)
    new = [evenly(places[doublings == doubling], limit // 10) for doubling in range(NEW_USER_DOUBLINGS)]
    return np.unique(np.concatenate([chosen, *new]))


class Replay:
    """An engine that learns a log from its beginning, in micro-batches that end before each case."""

    def __init__(self, config: EngineConfig, log: Log, serving: Serving | None = None) -> None:
        self.log = log
        self.engine = Engine(config)
        self._learnt = 0
        n_items = int(log.items.max(initial=-1)) + 1
        self._shown: ShownLog | None = None
        if log.impressions is not None and log.holds_shown(config):
            n_items = max(n_items, int(log.impressions.items.max()) + 1)
            self._shown = ShownLog.of(log.impressions, log.users, log.items, log.times_s, _choices(log, log.impressions))
        self.engine.ensure_items(n_items)
        self.engine.neighbours.hold_all()
        for number, content in log.contents.items():
            if number < n_items:
                self.engine.describe_item(number, content)
        if serving is not None:
            for kind, model in serving.models.items():
                self.engine.serve(kind, kind, model, serving.numbers)
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
            self._hold_profile(user, slot)
        return slot

    def _hold_profile(self, user: int, slot: int) -> None:
        table, profiles = self.engine.users.profiles, self.log.profiles
        if table is not None and profiles is not None:
            table.take(slot, profiles, user)

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
        if self._shown is not None:
            self.engine.learn_shown(self._shown.between(start, end, self.slot))

    def moments(self, events: I64) -> Iterator[tuple[int, int, int]]:
        """Yield each of the `events` (B,), ascending, with its user's slot and its second, once all before it is learnt."""
        for event in events.tolist():
            self.learn_until(event)
            now_s = max(int(self.log.times_s[event]), self.engine.popularity.newest_s)
            self.engine.advance_time(now_s)
            yield event, self.slot(int(self.log.users[event])), now_s


def _choices(log: Log, impressions: Impressions) -> Bools:
    """Return which events start counts of impressions again, (n,)."""
    is_choice: Bools = log.weights != 0
    return is_choice if log.types is None else is_choice & (log.types != impressions.type_code)


def gather(
    config: EngineConfig,
    log: Log,
    events: I64,
    recipes: Sequence[Recipe | None] = (None,),
    progress: Progress | None = None,
    serving: Serving | None = None,
) -> list[Cases]:
    """Return the cases of the `events` (B,), ascending, with the features of each recipe's settings; fewer if `progress` says that time is
    up. The oldest are made first."""
    replayed, made = Replay(config, log, serving), [list[Cases]() for _ in recipes]
    engine, later = replayed.engine, later_choices(log.users, log.items, log.weights, events)
    for done, (event, slot, now_s) in enumerate(replayed.moments(events)):
        slots = np.array([slot])
        vectors = engine.encode(slots, now_s)
        popular = popularity_ranks(engine, slot, int(log.items[event]), now_s)
        for cases, recipe in zip(made, recipes, strict=True):
            engine.use_recipe(recipe)
            found, features = engine.features(slots, vectors, now_s)
            columns = tuple(column for name in found.raw if name not in SOURCES for column in columns_of(name, found.fades))
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
                    extra_shares(found, columns, engine.users.lengths[slots])[:, order],
                    columns,
                    _columns(found.numbers[0, order], later[done])[None],
                )
            )
        if done % 64 == 0 and not go_on(progress, done / len(events), f"recipe: {done:,} of {len(events):,} cases"):
            break
    return [Cases.joined(cases) for cases in made]


def _columns(numbers: I64, items: I64) -> NDArray[np.int32]:
    """Return at which place of `numbers` (C,), all different, each of the `items` (L,) is, (L,); −1 for none."""
    is_item = (numbers[None, :] == items[:, None]) & (items >= 0)[:, None]
    return np.where(is_item.any(axis=1), is_item.argmax(axis=1), -1).astype(np.int32) if len(numbers) else np.full(len(items), -1, np.int32)


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
