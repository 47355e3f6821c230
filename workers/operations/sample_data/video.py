"""A made-up film and series service: what was watched is over, half of what was started is not finished the same evening.

Structure: each person likes two or three genres. A season is followed by the next one, mostly. Long films are left more often; whoever left
one goes on within some days, or never. Families let children watch the same again. New titles come every week, and are looked at more.
"""

from __future__ import annotations

from random import Random
from typing import Any

from workers.operations.sample_data.world import DAY_S, PLACES, Person, Sample, Thing, World, taste_of

N_USERS, DAYS, TREND_S = 200, 100, 10 * DAY_S
GENRES = ("drama", "comedy", "thriller", "kids", "documentary", "science fiction", "romance", "animation")
SUBJECTS = {
    "drama": "House, Shore, Letters, Harvest, Orchard, Winter, Doctor, Sisters",
    "comedy": "Wedding, Neighbours, Bakery, Landlord, Choir, Aunt, Cook, Mayor",
    "thriller": "Witness, Harbour, Signal, Staircase, Alibi, Tunnel, Judge, Key",
    "kids": "Hedgehog, Tractor, Penguin, Dragon, Lighthouse, Owl, Snowman, Pony",
    "documentary": "Tides, Forest, Rivers, Bees, Markets, Glaciers, Bells, Stones",
    "science fiction": "Colony, Orbit, Machine, Clones, Robot, Horizon, Comet, Engine",
    "romance": "Promise, Train, Florist, Waltz, Postcard, Balcony, Summer, Pianist",
    "animation": "King, Fox, Carousel, Giant, Moon, Clockmaker, Whale, Tailor",
}
SERIES = {
    "drama": "Silent, Broken, Distant",
    "comedy": "Hopeless, Cheerful, Clumsy",
    "thriller": "Cold, Hidden, Midnight",
    "kids": "Little, Brave, Curious",
    "documentary": "Living, Ancient, Wild",
    "science fiction": "Outer, Electric, Drifting",
    "romance": "Tender, Sudden, Paper",
    "animation": "Painted, Wooden, Humming",
}
SEASONS = 4
START, END, SAVE, THUMB_DOWN = "click", "play", "like", "dislike"
"""Types of events: pressing play, the end of a film, the own list, a dislike."""


def make_sample(draw: Random, end_s: int) -> Sample:
    """Return titles, viewers and what they did in the 100 days before `end_s`."""
    start_s = end_s - DAYS * DAY_S
    things = _things(draw, start_s, end_s)
    people = [_person(draw, number) for number in range(N_USERS)]
    world = World(draw, start_s, end_s, things, people, TREND_S)
    events = world.run(_Visits(world).visit)
    return Sample([thing.record for thing in things], [person.record for person in people], events)


def _things(draw: Random, start_s: int, end_s: int) -> list[Thing]:
    made: list[Thing] = []
    for genre in GENRES:
        films = [f"{subject} of {place}" for subject in SUBJECTS[genre].split(", ") for place in PLACES]
        for title in draw.sample(films, 22):
            minutes = draw.randint(8, 25) if genre == "kids" else draw.randint(75, 165)
            made.append(_thing(draw, genre, title, "", minutes, _since(draw, start_s, end_s), len(made)))
        series = [f"{first} {place}" for first in SERIES[genre].split(", ") for place in PLACES]
        for name in draw.sample(series, 8):
            since_s, quality = _since(draw, start_s - 200 * DAY_S, end_s), draw.gauss(0.2, 0.5)
            for season in range(1, draw.randint(2, SEASONS) + 1):
                thing = _thing(draw, genre, f"{name}, season {season}", name, draw.randint(25, 55), since_s, len(made))
                thing.quality = quality
                made.append(thing)
                since_s += draw.randint(40, 90) * DAY_S
    return [thing for thing in made if thing.published_s < end_s]


def _since(draw: Random, start_s: int, end_s: int) -> int:
    is_new = draw.random() < 0.3
    return draw.randrange(start_s, end_s) if is_new else start_s - draw.randrange(60 * DAY_S, 4_000 * DAY_S)


def _thing(draw: Random, genre: str, title: str, series: str, minutes: int, since_s: int, number: int) -> Thing:
    second = draw.choice(GENRES) if draw.random() < 0.3 else genre
    record: dict[str, Any] = {
        "item_id": f"title-{number:03d}",
        "title": title,
        "categories": genre if second in (genre, "kids") else f"{genre}|{second}",
        "series": series or None,
        "minutes": minutes,
        "published_ts_ms": since_s,
    }
    return Thing(record["item_id"], genre, series, draw.gauss(0, 0.6), since_s, record)


def _person(draw: Random, number: int) -> Person:
    tastes = taste_of(draw, GENRES, draw.randint(2, 3))
    record: dict[str, Any] = {
        "user_id": f"viewer-{number}",
        "age": draw.randint(16, 80),
        "household": "children" if tastes["kids"] > 0.2 else draw.choice(("one", "two")),
        "preferred_categories": max(tastes, key=lambda topic: tastes[topic]) if draw.random() < 0.5 else None,
    }
    return Person(record["user_id"], tastes, {}, 0.04 + draw.expovariate(13), draw.gauss(20.5, 1.5) % 24, record)


class _Visits:
    """Lets people watch on an evening."""

    def __init__(self, world: World) -> None:
        self.world, self.draw = world, world.draw
        self.seasons: dict[str, list[Thing]] = {}
        for thing in sorted(world.things, key=lambda thing: str(thing.record["title"])):
            if thing.maker:
                self.seasons.setdefault(thing.maker, []).append(thing)

    def visit(self, person: Person, at_s: int) -> None:
        memory = person.memory
        started: list[Thing] = memory.setdefault("started", [])
        if started and self.draw.random() < 0.5:
            at_s = self._watch(person, started.pop(), at_s)
        children = memory.get("children")
        if children is not None and self.draw.random() < 0.45:
            at_s = self._watch(person, children, at_s)
        if memory.get("next") is not None and self.draw.random() < 0.6:
            at_s = self._watch(person, memory.pop("next"), at_s)
        for _ in range(self.draw.randint(1, 2)):
            at_s = self._browse(person, at_s + self.draw.randint(30, 180))

    def _browse(self, person: Person, at_s: int) -> int:
        done: set[Thing] = person.memory.setdefault("done", set())
        wanted = [thing for thing in self._saved(person) if thing not in done][:1]
        page = self.world.page(person, at_s, wanted)

        def lure(thing: Thing) -> float:
            return -6.0 if thing in done else 0.8 * (at_s - thing.published_s < 30 * DAY_S)

        found = self.world.choose(person, page, at_s, lure, 1.2)
        if found is None:
            return at_s
        thing, position = found
        self.world.add(person, thing, "view", at_s + 5, position=position)
        mood = self.world.pull(person, thing)
        if self.draw.random() < 0.08 and thing not in self._saved(person):
            self._saved(person).append(thing)
            self.world.add(person, thing, SAVE, at_s + 20)
            return at_s + 30
        return self._watch(person, thing, at_s + 40) if self.draw.random() < 0.35 + 0.15 * max(mood, 0.0) else at_s + 30

    def _saved(self, person: Person) -> list[Thing]:
        saved: list[Thing] = person.memory.setdefault("saved", [])
        return saved

    def _watch(self, person: Person, thing: Thing, at_s: int) -> int:
        """Start a title; end it, or leave it for another day."""
        minutes: int = thing.record["minutes"]
        self.world.add(person, thing, START, at_s)
        was_left: set[Thing] = person.memory.setdefault("left", set())
        if thing not in was_left and self.draw.random() < 0.15 + 0.002 * minutes:
            was_left.add(thing)
            person.memory["started"].append(thing)
            return at_s + minutes * self.draw.randint(10, 40)
        was_left.discard(thing)
        end_s = at_s + minutes * 60
        self.world.add(person, thing, END, end_s, value=minutes * 60)
        if thing.topic == "kids":
            person.memory["children"] = thing
        else:
            person.memory.setdefault("done", set()).add(thing)
        self._after(person, thing, end_s)
        return end_s + 60

    def _after(self, person: Person, thing: Thing, end_s: int) -> None:
        liking = self.world.pull(person, thing) + self.draw.gauss(0, 0.5)
        if thing.maker:
            seasons = self.seasons[thing.maker]
            place = seasons.index(thing) + 1
            if place < len(seasons) and seasons[place].published_s <= end_s + DAY_S and liking > 0:
                person.memory["next"] = seasons[place]
        if self.draw.random() < 0.15:
            self.world.add(person, thing, "rating", end_s + 30, value=float(min(5, max(1, round(3.2 + liking)))))
        elif liking < -0.5 and self.draw.random() < 0.5:
            self.world.add(person, thing, THUMB_DOWN, end_s + 30)
            person.memory.setdefault("done", set()).add(thing)
            if person.memory.get("children") is thing:
                del person.memory["children"]
