"""The product's lists over a stream: the same `Engine` as a worker's, test-then-learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.streams.protocol import NO_TARGET, PROTOCOLS, Stream
from recsys.catalogue.items import ItemContent
from recsys.engine import Derived, Engine, EngineConfig
from recsys.lists.touch_policy import ALL_FOR_EVER, N_CODES, TouchPolicy
from recsys.state.interactions import Interactions
from recsys.state.user_table import ALL_TYPES, quantise_weights

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

PLACES = 40
"""Places of a list. Twice the places that count: items with equal scores that reach from the counted places to the last one have a mean
rank beyond the counted ones, however many follow."""
EXACT_EVENTS, BATCH_EVENTS = 100_000, 4
"""A log of up to 100,000 events is listed event by event, a longer one in batches of 4: users' histories are exact, but items are as they
were before the first event of a batch. On the first 20,000 events of `ml-1m` and of `foursquare-nyc` and 30,000 of `taobao-userbehavior`
batches of 4 changed recall at 10 of all targets from .2114 to .2096, .0742 to .0737 and .0324 to .0324."""
LEARNT_TOGETHER = 4_000
"""Events in a batch of which no user is listed."""


class ListStream:
    """Runs a log through an engine: makes the lists of the targets in a batch of events, then learns the batch."""

    def __init__(self, stream: Stream, engine: Engine) -> None:
        self.stream, self.engine = stream, engine
        log = stream.log
        self._weights = quantise_weights(log.weights)
        self._kinds = np.zeros(len(log), np.int8)
        self._kinds[stream.events] = stream.touches.kinds
        self._items: I64 = np.full(log.n_items, -1, np.int64)  # the engine numbers items by their first event
        self._users: set[int] = set()
        self._contents = [log.content.get(item_id, ItemContent()) for item_id in log.item_ids]
        self._touched = np.zeros(log.n_items, np.bool_)
        self._n_numbered = 0

    def ranks(self, batch_events: int = 0, every: Callable[[int], None] | None = None, protocol: str | None = None) -> F64:
        """Return the mean rank of each target of a protocol, or of all, (n,) for the events of the log; infinite for other events and
        beyond `PLACES`.

        `batch_events` are listed together; 0 for 1 or `BATCH_EVENTS`, by the size of the log. `every` is called before each batch with
        the number of the events that were learnt.
        """
        batch_events = batch_events or (1 if len(self.stream.log) <= EXACT_EVENTS else BATCH_EVENTS)
        log, ranks = self.stream.log, np.full(len(self.stream.log), np.inf)
        read = np.flatnonzero(log.weights != 0)  # an event without weight changes no state
        for start in range(0, len(read), batch_events):
            events = read[start : start + batch_events]
            if every is not None:
                every(int(events[0]))
            kinds = self._kinds[events]
            self._step(events, events[kinds == PROTOCOLS[protocol] if protocol else kinds != NO_TARGET], ranks)
        return ranks

    def learn(self, batch_events: int = LEARNT_TOGETHER) -> None:
        """Learn the whole log, and list nobody."""
        read = np.flatnonzero(self.stream.log.weights != 0)
        for start in range(0, len(read), batch_events):
            self._step(read[start : start + batch_events], np.zeros(0, np.int64), np.zeros(0))

    def _step(self, events: I64, cases: I64, ranks: F64) -> None:
        """List the `cases` among the events, then learn all of them."""
        log, engine = self.stream.log, self.engine
        self._number(events)
        self._hold(events)
        if len(cases) and len(events) > 1:
            derived, slots = self._advance_histories(events, set(cases.tolist()))
            self._list(cases, slots, int(log.times_s[events].max()), ranks)
        else:
            batch = self._interactions(events)
            derived = [engine.derive(batch)]
            if len(cases):
                self._list(cases, batch.slots, int(log.times_s[events[0]]), ranks)
            engine.learn_histories(derived[0])
        self._describe(events)
        for one in derived:
            engine.learn_items(one.delta(engine.config))

    def _list(self, cases: I64, slots: I64, now_s: int, ranks: F64) -> None:
        """Write the ranks of the cases' items on the lists of their users, who are in `slots` (C,)."""
        log, engine = self.stream.log, self.engine
        engine.advance_time(now_s)
        for kind in PROTOCOLS.values():
            chosen = np.flatnonzero(self._kinds[cases] == kind)
            if len(chosen):
                lists = engine.recommend(slots[chosen], engine.encode(slots[chosen], now_s), now_s)
                for row, case in enumerate(cases[chosen].tolist()):
                    ranks[case] = mean_rank(lists.items[row], lists.scores[row], int(self._items[log.items[case]]))

    def _number(self, events: I64) -> None:
        """Number the items that come for the first time. They stay off all lists until they are described."""
        engine = self.engine
        for item in self.stream.log.items[events].tolist():
            if self._items[item] < 0:
                self._items[item] = self._n_numbered
                self._n_numbered += 1
                engine.describe_item(int(self._items[item]), None)
        if self._n_numbered and not engine.neighbours.loaded[: self._n_numbered].all():
            engine.neighbours.hold_all()

    def _describe(self, events: I64) -> None:
        """Describe the items that these events touch for the first time."""
        log = self.stream.log
        for event in events.tolist():
            item = int(log.items[event])
            if log.weights[event] > 0 and not self._touched[item]:
                self._touched[item] = True
                self.engine.describe_item(int(self._items[item]), self._contents[item])

    def _hold(self, events: I64) -> None:
        new = [user for user in dict.fromkeys(self.stream.log.users[events].tolist()) if user not in self._users]
        if new:
            self._users.update(new)
            self.engine.users.load({f"u{user}": None for user in new})

    def slots(self, users: Sequence[int]) -> I64:
        """Return the slots of users of the log that the engine holds, (U,)."""
        slots = []
        for user in users:
            slot = self.engine.users.slot(f"u{user}")
            assert slot is not None, "every user of a batch is held"
            slots.append(slot)
        return np.array(slots, np.int64)

    def numbers(self, items: Sequence[int]) -> I64:
        """Return the engine's numbers of items of the log, −1 for those that did not occur."""
        found: I64 = self._items[items]
        return found

    def _interactions(self, events: I64) -> Interactions:
        """Return events as interactions, user after user."""
        log = self.stream.log
        events = events[np.argsort(log.users[events], kind="stable")]
        users = log.users[events]
        starts = np.flatnonzero(np.concatenate(([True], users[1:] != users[:-1])))
        return Interactions(
            self.slots(users[starts].tolist()),
            np.concatenate((starts[1:], [len(events)])) - starts,
            self._items[log.items[events]].astype(np.uint32),
            log.times_s[events].astype(np.uint32),
            self._weights[events],
            log.types[events],
            np.zeros(len(events), np.int32),
            events.astype(np.int64),
        )

    def _advance_histories(self, events: I64, cases: set[int]) -> tuple[list[Derived], I64]:
        """Append the events to their users' histories, one after another within a user.

        Return what they add to items, and a slot for each case, in order, with the history before it."""
        log, engine, users = self.stream.log, self.engine, self.engine.users
        before: dict[int, bytes] = {}
        derived, waiting = [], events.tolist()
        while waiting:
            wave = {int(log.users[event]): event for event in reversed(waiting)}.values()  # each user's next event
            listed = sorted(event for event in wave if event in cases)
            packed = users.pack(self.slots(log.users[listed].tolist()).tolist()) if listed else []
            before.update(zip(listed, packed, strict=True))
            batch = self._interactions(np.array(sorted(wave), np.int64))
            derived.append(engine.derive(batch))
            engine.learn_histories(derived[-1])
            waiting = [event for event in waiting if event not in wave]
        users.load({f"case{place}": before[event] for place, event in enumerate(sorted(before))})
        slots = [users.slot(f"case{place}") for place in range(len(before))]
        return derived, np.array(slots, np.int64)


def mean_rank(items: I64, scores: NDArray[np.float32], target: int) -> float:
    """Return the mean rank of `target` on a list (K,), best first; infinite where it is not on it.

    Where its score reaches the end of the list, more items may have it: then this is a lower bound, and beyond half of the list."""
    place = np.flatnonzero(items == target)
    if not len(place):
        return np.inf
    same = np.flatnonzero((scores == scores[place[0]]) & (items >= 0))
    return 1.0 + float(same[0] + same[-1]) / 2.0


def list_config(config: EngineConfig, seed: int, protocol: str = "discovery") -> EngineConfig:
    """Return the configuration with lists of `PLACES` places and the touch policy of the protocol: a user's own items are left out for
    ever, or nothing is, and what is worth repeating counts as the recipe has learnt."""
    repeats = protocol == "again"
    return replace(
        config,
        list_size=PLACES,
        seed=seed,
        touch_policy=TouchPolicy([0] * N_CODES) if repeats else ALL_FOR_EVER,
        kept_types=0 if repeats else ALL_TYPES,
        source_weights=config.source_weights if repeats else {**config.source_weights, "again": 0.0},
    )
