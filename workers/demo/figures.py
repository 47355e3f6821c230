"""Compute the figures of the demo from the records on Kafka: freshness, live hit rates, throughput, retrainings and swaps. Pure functions.

Times are seconds of one clock (Unix time of this machine).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POSITIVE_RATING = 4.0
"""A rating from here on counts as liked; only these are foreseen or missed."""
TOP = 10
BATCH_S = 0.1
_SKIPPED = re.compile(r"workers\.trainer\.app: (\w+): skipped, ")


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """One event as it was sent. `top` is the head of the user's newest list that had been read before it was sent; None: there was none."""

    user_id: str
    item_id: str
    value: float
    partition: int
    source_offset: int
    produced_s: float
    top: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ReadList:
    """One list as it was read from its topic."""

    user_id: str
    partition: int
    source_offset: int
    event_id: str | None
    consumed_s: float
    top: tuple[str, ...]
    model_versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class HitRates:
    """Of `n_scored` liked events, the share that was in the user's list (in the 10 most popular unseen items) at that moment."""

    n_scored: int
    n_hits: int
    n_hits_popularity: int
    n_without_list: int

    @property
    def of_lists(self) -> float:
        return self.n_hits / max(self.n_scored, 1)

    @property
    def of_popularity(self) -> float:
        return self.n_hits_popularity / max(self.n_scored, 1)

    @property
    def ratio(self) -> float:
        """Return the hit rate in multiples of that of popularity; infinite when popularity hit nothing."""
        return self.n_hits / self.n_hits_popularity if self.n_hits_popularity else float("inf" if self.n_hits else "nan")


def live_hit_rates(events: Sequence[PublishedEvent], first_scored: int) -> HitRates:
    """Hit rate @10 of the lists against popularity over `events[first_scored:]`, the same events for both.

    `events` are all events in the order in which they were sent. Popularity has an advantage: it counts the liked events sent so far and
    leaves out what the user rated so far, without any delay. A user without a list is a miss for both.
    """
    numbers = {item: number for number, item in enumerate(dict.fromkeys(event.item_id for event in events))}
    liked = np.zeros(len(numbers), np.int64)
    seen: dict[str, list[int]] = {}
    n_scored = n_hits = n_popular = n_without = 0
    for at, event in enumerate(events):
        number = numbers[event.item_id]
        rated = seen.setdefault(event.user_id, [])
        if event.value >= POSITIVE_RATING:
            if at >= first_scored:
                n_scored += 1
                if event.top is None:
                    n_without += 1
                else:
                    n_hits += event.item_id in event.top[:TOP]
                    n_popular += _is_popular(liked, rated, number)
            liked[number] += 1
        rated.append(number)
    return HitRates(n_scored, n_hits, n_popular, n_without)


def _is_popular(liked: NDArray[np.int64], rated: Sequence[int], number: int) -> bool:
    """Return whether an unseen item is among the TOP most liked unseen ones; of equal ones the first seen on the stream comes first."""
    if number in rated or liked[number] == 0:
        return False
    ahead = (liked > liked[number]) | ((liked == liked[number]) & (np.arange(len(liked)) < number))
    ahead[np.asarray(rated, np.int64)] = False
    return int(ahead.sum()) < TOP


def freshness_s(events: Iterable[PublishedEvent], lists: Iterable[ReadList]) -> NDArray[np.float64]:
    """Seconds from sending each event to reading the first list of its user that knows it (`source_offset` ≥ the event's), (n_events,).

    `lists` in the order in which they were read. Infinite where no such list came.
    """
    answers: dict[str, tuple[list[int], list[float]]] = {}
    for read in lists:
        known, times = answers.setdefault(read.user_id, ([], []))
        if not known or read.source_offset > known[-1]:
            known.append(read.source_offset)
            times.append(read.consumed_s)
    waited = []
    for event in events:
        known, times = answers.get(event.user_id, ([], []))
        first = int(np.searchsorted(known, event.source_offset)) if known else 0
        waited.append(times[first] - event.produced_s if first < len(known) else float("inf"))
    return np.array(waited, np.float64)


@dataclass(frozen=True, slots=True)
class Throughput:
    """Events that lists know of, and lists, a second, while the worker had a backlog."""

    events_per_s: float
    lists_per_s: float
    n_events: int
    n_lists: int
    seconds: float


def throughput(lists: Sequence[ReadList], before: Sequence[ReadList] = ()) -> Throughput:
    """From the first batch of lists to the last list: how far their `source_offset`s moved, summed over partitions, and how many came.

    What the lists `before` and the first batch already knew of is not counted, for nobody saw when that work began; lists that were read
    within 0.1 s of the first one are taken for one batch. Zero rates for fewer than two batches.
    """
    if not lists:
        return Throughput(0.0, 0.0, 0, 0, 0.0)
    opening = [read for read in lists if read.consumed_s <= lists[0].consumed_s + BATCH_S]
    begin_s, end_s = opening[-1].consumed_s, lists[-1].consumed_s
    if end_s <= begin_s:
        return Throughput(0.0, 0.0, 0, len(lists), 0.0)
    n_events = _reach([*before, *lists]) - _reach([*before, *opening])
    n_lists = len(lists) - len(opening)
    return Throughput(n_events / (end_s - begin_s), n_lists / (end_s - begin_s), n_events, n_lists, end_s - begin_s)


def _reach(lists: Iterable[ReadList]) -> int:
    newest: dict[int, int] = {}
    for read in lists:
        newest[read.partition] = max(newest.get(read.partition, -1), read.source_offset)
    return sum(last + 1 for last in newest.values())


def live_swaps(lists: Iterable[ReadList], announced_before: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """(kind, version) of the models that first took part in these lists, in order; those announced before do not count."""
    known = set(announced_before)
    found: dict[tuple[str, str], None] = {}
    for read in lists:
        for model in read.model_versions.items():
            if model not in known:
                found.setdefault(model)
    return list(found)


def send_times_s(user_ids: Iterable[str], rate: float, gap_s: float) -> list[float]:
    """When to send each event, in seconds from the start: `rate` a second, but two of one user at least `gap_s` apart.

    A log of months that is played in minutes would else have people do fifty things a second. One user's events keep their order; across
    users an event may be overtaken.
    """
    last: dict[str, float] = {}
    times = []
    for number, user_id in enumerate(user_ids):
        last[user_id] = due_s = max(number / rate, last.get(user_id, -gap_s) + gap_s)
        times.append(due_s)
    return times


def rounds(decided: Iterable[str], kinds: Sequence[str]) -> int:
    """Return the number of whole rounds of training: the number of decisions of the kind with fewest."""
    counts = Counter(decided)
    return min((counts[kind] for kind in kinds), default=0)


def skipped_kinds(log_text: str) -> list[str]:
    """Return the kinds that a trainer's log calls skipped, in order: too little to learn from, or no time. Nothing announces them."""
    return _SKIPPED.findall(log_text)


def misplaced(events: Sequence[PublishedEvent], event_ids: Sequence[str], lists: Iterable[ReadList]) -> Iterator[ReadList]:
    """Lists whose trigger is not the event that was sent to that place of the log; the demo counts offsets, and this proves the count."""
    sent = {(event.partition, event.source_offset): event_id for event, event_id in zip(events, event_ids, strict=True)}
    for read in lists:
        if read.event_id is not None and sent.get((read.partition, read.source_offset)) != read.event_id:
            yield read
