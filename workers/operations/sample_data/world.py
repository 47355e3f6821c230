"""A small made-up world of people and things: who comes when, what a page shows them, what they choose.

All that happens is drawn from one seeded generator of Python's own, whose numbers are the same in every version. Times are in seconds.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random
from typing import Any

HOUR_S, DAY_S = 3_600, 86_400
SEEN = 4
"""Places of a page that a person looks at; an impression is written of each."""
PLACES = (
    "Ostmere", "Quillport", "Tarnavik", "Lower Brindle", "Ferrowgate", "Saltwick Bay", "Marrowdale", "Northwaring", "Ivermouth", "Dunmarsh",
)  # fmt: skip
"""Towns that do not exist."""


@dataclass(slots=True, eq=False)
class Thing:
    """One item. `quality` is in logits; `maker` is its brand, series, agency or teacher; from `gone_s` on it is on no page."""

    item_id: str
    topic: str
    maker: str
    quality: float
    published_s: int
    record: dict[str, Any]
    noun: str = ""
    gone_s: int | None = None


@dataclass(slots=True, eq=False)
class Person:
    """One user: tastes by topic (they sum to 1), makers that this person likes, visits a day, the hour at which they come."""

    user_id: str
    tastes: dict[str, float]
    makers: dict[str, float]
    visits_per_day: float
    hour: float
    record: dict[str, Any]
    memory: dict[str, Any] = field(default_factory=dict)
    """What a scenario remembers: what is due again, what is unfinished, what was bought."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Data that a service imports: records of the catalogue and of profiles, and events in order of time, by names of columns."""

    items: list[dict[str, Any]]
    users: list[dict[str, Any]]
    events: list[dict[str, Any]]


def taste_of(draw: Random, topics: Sequence[str], n_liked: int) -> dict[str, float]:
    """Return how much a person likes each topic: some much, the others a little; the first ones are liked by more people."""
    weights = dict.fromkeys(topics, 0.03)
    for place in range(n_liked):
        topic = draw.choices(topics, [1 / (1 + 0.15 * number) for number in range(len(topics))])[0]
        weights[topic] += 1 / (1 + place)
    total = sum(weights.values())
    return {topic: weight / total for topic, weight in weights.items()}


class World:
    """Runs the visits of all people in order of time, and holds what happened."""

    def __init__(self, draw: Random, start_s: int, end_s: int, things: Sequence[Thing], people: Sequence[Person], trend_s: float) -> None:
        """`trend_s` is the half-life of what others chose, by which pages show popular things; they look it up twenty times in it."""
        self.draw, self.start_s, self.end_s, self.people = draw, start_s, end_s, people
        self.things = sorted(things, key=lambda thing: thing.published_s)
        self._trend_s = trend_s
        self._chosen: dict[Thing, float] = dict.fromkeys(self.things, 0.0)
        self._whims: dict[tuple[Person, Thing], float] = {}
        self._events: list[tuple[int, dict[str, Any]]] = []
        self._session, self._look_s = "", 0.0
        self._live: list[Thing] = []
        self._live_by_topic: dict[str, list[Thing]] = {}
        self._weights: list[float] = []
        self._at_first = {thing: 0.5 * math.exp(thing.quality) for thing in self.things}

    def run(self, visit: Callable[[Person, int], None]) -> list[dict[str, Any]]:
        """Let everybody come, and return the events in order of time."""
        visits = sorted((at_s, number) for number, person in enumerate(self.people) for at_s in self._visits(person))
        for place, (at_s, number) in enumerate(visits):
            self._session = f"s{place}"
            if at_s >= self._look_s:
                self._look(at_s)
            if self._live:
                visit(self.people[number], at_s)
        self._events.sort(key=lambda pair: pair[0])
        happened = [event for at_s, event in self._events if at_s < self.end_s]
        return [{"event_id": f"e{number}", **event} for number, event in enumerate(happened)]

    def _visits(self, person: Person) -> Iterable[int]:
        """Yield the times at which a person comes, around their own hour of the day."""
        for midnight_s in range(self.start_s - self.start_s % DAY_S, self.end_s, DAY_S):
            chance = person.visits_per_day
            while self.draw.random() < chance:
                chance -= 1
                at_s = midnight_s + int((self.draw.gauss(person.hour, 2.0) % 24) * HOUR_S)
                if self.start_s <= at_s < self.end_s:
                    yield at_s

    def _look(self, at_s: int) -> None:
        """Look up what pages may show now, and how popular it is."""
        self._look_s = at_s + self._trend_s / 20
        chosen, at_first, faded = self._chosen, self._at_first, 0.5 ** ((at_s - self.start_s) / self._trend_s)
        self._live, self._live_by_topic = [thing for thing in self.things if is_live(thing, at_s)], {}
        for thing in self._live:
            self._live_by_topic.setdefault(thing.topic, []).append(thing)
        self._weights = list(accumulate(at_first[thing] + chosen[thing] * faded for thing in self._live))

    def page(self, person: Person, at_s: int, wanted: Sequence[Thing] = (), size: int = 8) -> list[Thing]:
        """Return what this person's page shows, in some order: what belongs here for a reason (`wanted`), what is popular, and what is of a
        topic that the person likes."""
        shown = {thing: None for thing in wanted if is_live(thing, at_s)}
        topics, shares = list(person.tastes), list(person.tastes.values())
        for _ in range(4 * size):
            if len(shown) >= size:
                break
            thing = None
            if self.draw.random() < 0.4:
                thing = self._live[bisect(self._weights, self.draw.random() * self._weights[-1], hi=len(self._live) - 1)]
            elif own := self._live_by_topic.get(self.draw.choices(topics, shares)[0]):
                thing = self.draw.choice(own)
            if thing is not None and is_live(thing, at_s):
                shown[thing] = None
        found = list(shown)
        self.draw.shuffle(found)
        return found

    def pull(self, person: Person, thing: Thing) -> float:
        """Return how much a thing draws a person, in logits: topic, maker, quality, and a liking that nothing explains."""
        whim = self._whims.get((person, thing))
        if whim is None:
            whim = self._whims[person, thing] = self.draw.gauss(0, 0.7)
        taste = math.log(person.tastes.get(thing.topic, 0.01) * len(person.tastes))
        return 0.9 * taste + person.makers.get(thing.maker, 0.0) + thing.quality + whim

    def choose(
        self, person: Person, page: Sequence[Thing], at_s: int, lure: Callable[[Thing], float], leaves: float = 1.0
    ) -> tuple[Thing, int] | None:
        """Show a page and return what the person takes of it and its position, or nothing. `lure` adds to the pull of a thing; a higher
        `leaves` makes people choose less often."""
        seen = page[:SEEN]
        for position, thing in enumerate(seen, 1):
            self.add(person, thing, "impression", at_s, position=position)
        best, position = leaves + self._noise(), 0
        for place, thing in enumerate(seen, 1):
            value = self.pull(person, thing) + lure(thing) + self._noise()
            if value > best:
                best, position = value, place
        return (seen[position - 1], position) if position else None

    def _noise(self) -> float:
        return -math.log(-math.log(max(self.draw.random(), 1e-12)))

    def add(self, person: Person, thing: Thing, kind: str, at_s: int, value: float | None = None, position: int | None = None) -> None:
        """Write an event."""
        event = {"user_id": person.user_id, "item_id": thing.item_id, "type": kind, "event_ts_ms": at_s, "value": value}
        self._events.append((at_s, event | {"session": self._session, "position": position}))
        if kind != "impression":
            self._chosen[thing] += 2.0 ** ((at_s - self.start_s) / self._trend_s)


def is_live(thing: Thing, at_s: int) -> bool:
    """Return whether pages may show a thing."""
    return thing.published_s <= at_s and (thing.gone_s is None or at_s < thing.gone_s)


def no_lure(thing: Thing) -> float:
    """Add nothing."""
    return 0.0
