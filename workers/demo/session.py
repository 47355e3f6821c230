"""One run of the demo on a started stack: what it sends, what it waits for, and what it makes of what it read."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schemas import ModelAction, ModelAnnouncement, SchemaError
from workers.bootstrap import open_store
from workers.client import EventPublisher
from workers.demo.figures import (
    HitRates,
    PublishedEvent,
    Throughput,
    freshness_s,
    live_hit_rates,
    live_swaps,
    misplaced,
    rounds,
    send_times_s,
    skipped_kinds,
    throughput,
)
from workers.demo.input import DemoInput, Rating
from workers.demo.interruption import Interruption
from workers.demo.report import Freshness, Narrator, homepage
from workers.demo.tail import Tail
from workers.errors import Fatal
from workers.kafka.offsets import end_offsets
from workers.kafka.partitioner import partition_for
from workers.local.embedded import EmbeddedStack
from workers.settings import Settings
from workers.state.layout import layout_of

LOOK_EVERY_S = 0.05
CHECK_EVERY_S = 0.25  # while events are sent
USER_GAP_S = 0.1  # nobody rates more than ten films a second
CATCH_UP_S = 1.0
RETRAININGS = 1
DRAIN_TIMEOUT_S = 120.0
TRAIN_TIMEOUT_S = 240.0
ROUND_SHARE = 1.3  # a retraining beside the stream takes at most about this multiple of the first one, which has the machine for itself
PACED_MIN_S, PACED_MAX_S = 40.0, 100.0
HELD_SHARE = 0.1  # the end of the stream slows down where the retraining is late …
HELD_TIMEOUT_S = 90.0  # … so that it lasts this much longer at most
N_HOMEPAGES = 2
MIN_LIKED = 8  # liked items of somebody whose homepage is worth a look


class DemoFailed(Fatal):
    """The system did not do what the demo shows; one line says what."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Describes the paced part: from `events[first]` on; `retrained` rounds ended, the gate `promoted` versions, and `swaps` were seen in
    lists before its last event."""

    rate: float
    first: int
    begin_s: float
    end_s: float
    n_lists_before: int
    retrained: int
    promoted: list[str]
    swaps: list[tuple[str, str]]


@dataclass(frozen=True)
class Outcome:
    """All figures of one run."""

    bulk: Throughput
    paced: Throughput
    freshness: Freshness
    hits: HitRates
    pace: Pace
    announcements: list[ModelAnnouncement]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The keys stay for good."""
        return {
            "events_per_s": round(self.bulk.events_per_s, 1),
            "lists_per_s": round(self.bulk.lists_per_s, 1),
            "paced_events_per_s": round(self.paced.events_per_s, 1),
            "paced_lists_per_s": round(self.paced.lists_per_s, 1),
            "freshness_p50_ms": round(self.freshness.p50_ms, 1),
            "freshness_p99_ms": round(self.freshness.p99_ms, 1),
            "hit_rate_at_10": round(self.hits.of_lists, 5),
            "hit_rate_at_10_popularity": round(self.hits.of_popularity, 5),
            "ratio_to_popularity": round(self.hits.ratio, 3) if math.isfinite(self.hits.ratio) else None,
            "n_scored": self.hits.n_scored,
            "n_without_list": self.hits.n_without_list,
            "retrainings_while_streaming": self.pace.retrained,
            "live_swaps": [version for _, version in self.pace.swaps],
            "models": [
                {
                    "kind": announced.kind,
                    "version": announced.version,
                    "action": announced.action.value,
                    "reason": announced.reason,
                    "n_events": announced.trained_on.n_events,
                    "challenger": announced.challenger_metrics,
                    "champion": announced.champion_metrics,
                }
                for announced in self.announcements
            ],
            "seconds": round(self.seconds, 1),
        }


@dataclass
class Demo:
    """One run on a started stack: `bulk`, `first_models`, `paced`, then `outcome` and `homepages`. Raises DemoFailed."""

    source: DemoInput
    stack: EmbeddedStack
    settings: Settings
    narrator: Narrator
    publisher: EventPublisher
    tail: Tail
    interruption: Interruption
    events: list[PublishedEvent] = field(default_factory=list)
    event_ids: list[str] = field(default_factory=list)
    started_s: float = field(default_factory=time.time)
    _next_offsets: dict[int, int] = field(default_factory=dict)

    def _publish(self, rating: Rating) -> None:
        """Send one rating, and note where in the log it goes: the demo is the only one who writes there."""
        partition = partition_for(rating.user_id.encode(), self.settings.topics.partitions)
        source_offset = self._next_offsets.get(partition, 0)
        self._next_offsets[partition] = source_offset + 1
        newest = self.tail.newest.get(rating.user_id)
        top = None if newest is None else newest.top
        produced_s = time.time()
        sent = self.publisher.publish(rating.event_fields(len(self.events)))
        self.events.append(PublishedEvent(rating.user_id, rating.item_id, rating.value, partition, source_offset, produced_s, top))
        self.event_ids.append(sent.event_id)

    def bulk(self) -> Throughput:
        """Catalogue and first ratings as fast as they go; how fast the worker turned them into lists."""
        n_first = self.source.n_first
        n_items = len(self.source.items)
        with self.narrator.stage("publishing the catalogue and the first ratings", n_items + n_first) as stage:
            for item in self.source.items.values():
                self.publisher.publish_item(item)
                stage.advance()
            for number, rating in enumerate(self.source.ratings[:n_first]):
                self._publish(rating)
                stage.advance()
                if number % 1_000 == 0:
                    self._check()
            self.publisher.flush()
            seconds = time.monotonic() - stage.started_s
            stage.note(f"{n_items:,} films, {n_first:,} ratings, {(n_items + n_first) / seconds:,.0f} records/s sent")
        with self.narrator.stage("waiting until the stream worker has applied them") as stage:
            self._drain()
            lists = list(self.tail.lists)
            if len(lists) < 2:
                raise DemoFailed("no lists came for the first ratings: look into the log of the stream worker")
            measured = throughput(lists)
            stage.note(f"{measured.events_per_s:,.0f} events/s, {measured.lists_per_s:,.0f} lists/s, {len(lists):,} lists")
        return measured

    def first_models(self) -> float:
        """Wait until every kind was decided on once; seconds since the last event was applied."""
        kinds = self.settings.trainer.kinds
        with self.narrator.stage(f"training the first models ({', '.join(kinds)})") as stage:
            self._until(lambda: rounds([*self._decided(), *self._skipped()], kinds) >= 1, TRAIN_TIMEOUT_S, "the first models", "trainer")
            left_out = [f"skipped {' and '.join(skipped)}"] if (skipped := self._skipped()) else []
            stage.note(", ".join([decisions(self._announcements()), *left_out]))
            return time.monotonic() - stage.started_s

    def paced(self, rate: float) -> Pace:
        """The rest, `rate` events a second; the last tenth waits for a retraining and for the swap of what it promoted."""
        rest = self.source.ratings[self.source.n_first :]
        times_s = send_times_s((rating.user_id for rating in rest), rate, USER_GAP_S)
        order = sorted(range(len(rest)), key=lambda i: (times_s[i], i))
        first, n_lists, n_known = len(self.events), len(self.tail.lists), len(self.tail.announcements)
        known, n_skipped = [(a.kind, a.version) for a in self._announcements()], len(self._skipped())
        held_from = int(len(rest) * (1 - HELD_SHARE))

        def state() -> tuple[int, list[str], list[tuple[str, str]]]:
            ended = rounds([*self._decided(n_known), *self._skipped()[n_skipped:]], self.settings.trainer.kinds)
            promoted = [a.version for a in self._announcements(n_known) if a.action is ModelAction.PROMOTED]
            return ended, promoted, live_swaps(self.tail.lists[n_lists:], known)

        def enough() -> bool:
            ended, promoted, swaps = state()
            return ended >= RETRAININGS and bool(swaps or not promoted)

        begin_s = time.time()
        late_s, held_until_s, looked_s = 0.0, -math.inf, begin_s
        title = f"streaming the rest at about {rate:,.0f} events/s while the trainer retrains"
        with self.narrator.stage(title, len(rest)) as stage:
            for n_sent, at in enumerate(order):
                if n_sent == held_from and not enough():
                    held_until_s = time.time() + HELD_TIMEOUT_S
                if time.time() - looked_s > CHECK_EVERY_S:
                    looked_s = time.time()
                    self._check()
                    if looked_s < held_until_s and enough():
                        held_until_s = -math.inf
                if time.time() < held_until_s:
                    late_s += HELD_TIMEOUT_S / (len(rest) - held_from)
                # a machine that cannot keep up is not chased: what it is late moves everything behind it
                late_s = max(late_s, time.time() - begin_s - times_s[at] - CATCH_UP_S)
                while (ahead_s := begin_s + late_s + times_s[at] - time.time()) > 0:
                    time.sleep(ahead_s)
                self._publish(rest[at])
                stage.advance()
            end_s = time.time()
            retrained, promoted, swaps = state()
            self.publisher.flush()
            self._drain()
            outcome = f"{len(swaps)} models swapped in live" if promoted else "the gate promoted none, so what served before goes on"
            stage.note(f"retrained {retrained} times, {outcome}")
        return Pace(rate, first, begin_s, end_s, n_lists, retrained, promoted, swaps)

    def _check(self) -> None:
        """Raises DemoFailed when a child ended or the reader failed, KeyboardInterrupt when a signal came."""
        self.interruption.check()
        self.tail.check()
        for child in self.stack.dead():
            raise DemoFailed(f"{child.name} ended with code {child.process.returncode}; its log ends with: {child.last_lines(1)}")

    def _until(self, condition: Callable[[], bool], timeout_s: float, what: str, log_name: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            self._check()
            if time.monotonic() > deadline:
                ends = [child.last_lines(1) for child in self.stack.workers if child.name.startswith(log_name)]
                raise DemoFailed(f"{what}: nothing within {timeout_s:.0f} s; the log of {log_name} ends with: {'; '.join(ends)}")
            time.sleep(LOOK_EVERY_S)

    def _drain(self) -> None:
        """Until the users' watermarks stand at the ends of the log, and every event sent is in a list that was read."""
        wanted = {partition: n - 1 for partition, n in self._next_offsets.items()}
        ends = {p: end for (_, p), end in end_offsets(self.settings, [self.settings.topics.events]).items() if end}
        if ends != self._next_offsets:
            raise DemoFailed("the log does not hold what was sent: its ends differ from the number of events")
        asyncio.run(self._watermarks_reach(wanted))
        waiting = {event.user_id: event.source_offset for event in self.events}

        def answered() -> bool:
            for user_id in list(waiting):
                read = self.tail.newest.get(user_id)
                if read is not None and read.source_offset >= waiting[user_id]:
                    del waiting[user_id]
            return not waiting

        self._until(answered, DRAIN_TIMEOUT_S, "lists of all users", "stream")

    async def _watermarks_reach(self, wanted: Mapping[int, int]) -> None:
        store = open_store(self.settings)
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        try:
            await store.open(layout_of(self.settings))
            while True:
                found = await store.watermarks(list(wanted))
                if all((mark := found[p]) is not None and mark.last_applied_offset >= last for p, last in wanted.items()):
                    return
                self._check()
                if time.monotonic() > deadline:
                    raise DemoFailed(f"the stream worker has not applied everything within {DRAIN_TIMEOUT_S:.0f} s: look into its log")
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            await store.close()

    def _announcements(self, first: int = 0) -> list[ModelAnnouncement]:
        return [announced for _, announced in self.tail.announcements[first:]]

    def _decided(self, first: int = 0) -> Iterator[str]:
        return (announced.kind for announced in self._announcements(first))

    def _skipped(self) -> list[str]:
        logs = [child.log for child in self.stack.workers if child.name.startswith("trainer")]
        return [kind for log in logs for kind in skipped_kinds(log.read_text("utf-8", "replace"))]

    def outcome(self, bulk: Throughput, pace: Pace) -> Outcome:
        """The figures, with a look whether they add up."""
        lists = list(self.tail.lists)
        if next(misplaced(self.events, self.event_ids, lists), None) is not None:
            raise DemoFailed("a list names another event than the one that was sent to that place of the log")
        waited_ms = freshness_s(self.events[pace.first :], lists) * 1000
        if not np.isfinite(waited_ms).all():
            raise DemoFailed(f"{int((~np.isfinite(waited_ms)).sum())} events never reached a list")
        quantiles = np.quantile(waited_ms, [0.5, 0.99])
        earlier, during = lists[: pace.n_lists_before], [read for read in lists[pace.n_lists_before :] if read.consumed_s <= pace.end_s]
        return Outcome(
            bulk,
            throughput(during, earlier),
            Freshness(float(quantiles[0]), float(quantiles[1]), len(waited_ms)),
            live_hit_rates(self.events, pace.first),
            pace,
            self._announcements(),
            time.time() - self.started_s,
        )

    def taken_up(self, pace: Pace) -> dict[tuple[str, str], str]:
        """(kind, version) ▸ when lists were first made with it."""
        found: dict[tuple[str, str], str] = {}
        for read in list(self.tail.lists):
            for model in read.model_versions.items():
                if model not in found:
                    late_s = read.consumed_s - pace.begin_s
                    found[model] = f"live, after {late_s:.0f} s" if model in pace.swaps else "at the start" if late_s >= 0 else "before"
        return found

    def homepage_users(self) -> list[str]:
        """Whose homepages are shown: the last user who liked enough, and of the other late ones the one with the most different taste."""
        liked: dict[str, list[str]] = {}
        last: dict[str, int] = {}
        for number, event in enumerate(self.events):
            last[event.user_id] = number
            if event.value >= 4:
                liked.setdefault(event.user_id, []).append(event.item_id)
        late = sorted((user for user, items in liked.items() if len(items) >= MIN_LIKED), key=lambda user: -last[user])[:50]
        if len(late) < N_HOMEPAGES:
            return late
        tastes = {user: self._taste(liked[user]) for user in late}
        return [late[0], min(late[1:], key=lambda user: _cosine(tastes[late[0]], tastes[user]))]

    def _taste(self, item_ids: list[str]) -> dict[str, float]:
        counts: dict[str, float] = {}
        for item_id in item_ids:
            for category in self.source.categories(item_id):
                counts[category] = counts.get(category, 0.0) + 1.0
        return counts

    def show_homepages(self) -> None:
        for user_id in self.homepage_users():
            try:
                listed = self.tail.whole_list(user_id)
            except SchemaError as error:
                raise DemoFailed(f"a published list does not fit its schema: {error}") from None
            watched = [event for event in self.events if event.user_id == user_id]
            self.narrator.show(homepage(self.source, watched, listed.items, user_id, listed.model_version))


def _cosine(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    product = sum(value * other.get(name, 0.0) for name, value in one.items())
    lengths = math.sqrt(sum(v * v for v in one.values()) * sum(v * v for v in other.values()))
    return product / lengths if lengths else 0.0


def decisions(announcements: Sequence[ModelAnnouncement]) -> str:
    """Return in words which versions were promoted and which were refused."""
    by_action = {
        verb: [announced.version for announced in announcements if announced.action is action]
        for verb, action in (("promoted", ModelAction.PROMOTED), ("refused", ModelAction.REFUSED))
    }
    return ", ".join(f"{verb} {' and '.join(versions)}" for verb, versions in by_action.items() if versions)


def shortfall(outcome: Outcome) -> str | None:
    """Return what the system did not do of what it is for."""
    if outcome.pace.retrained < RETRAININGS:
        return "the trainer did not retrain while events streamed"
    if outcome.pace.promoted and not outcome.pace.swaps:
        return f"no list was made with a model that was promoted while events streamed: {', '.join(outcome.pace.promoted)}"
    hits = outcome.hits
    if not hits.n_hits > hits.n_hits_popularity:
        return f"live hit rate @10 is {hits.of_lists:.4f}, popularity's {hits.of_popularity:.4f}: the lists are no better"
    return None


def judge(outcome: Outcome) -> None:
    """Raises DemoFailed unless the system did what it is for."""
    if (what := shortfall(outcome)) is not None:
        raise DemoFailed(what)


def choose_rate(n_rest: int, first_training_s: float) -> float:
    """Events a second at which the rest takes as long as a retraining and the wait before it, within bounds."""
    seconds = min(max((RETRAININGS + 0.5) * ROUND_SHARE * first_training_s, PACED_MIN_S), PACED_MAX_S)
    return n_rest / seconds
