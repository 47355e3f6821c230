"""A made-up newspaper: some fifty articles a day, each of which leaves the pages a day after it came out.

Structure: each person reads two or three sections. Stories run over several articles, and whoever reads one wants the next. A few stories
are read by all. Interest in an article halves every five hours. Most people come in the morning, others in the evening, some of them twice.
"""

from __future__ import annotations

from random import Random
from typing import Any

from workers.operations.sample_data.world import DAY_S, HOUR_S, PLACES, Person, Sample, Thing, World, taste_of

N_USERS, DAYS, TREND_S = 260, 6, 5 * HOUR_S
ARTICLES_A_DAY, LIFE_S, INTEREST_S = 48, DAY_S, 5 * HOUR_S
STORIES = {
    "city": "the tram to {}, the market hall of {}, the school roof in {}, the old bridge of {}, rents in {}",
    "economy": "the shipyard of {}, bakers in {}, the harbour fee of {}, the weaving mill of {}, tourism in {}",
    "sport": "rowing on the river at {}, the handball club of {}, the marathon of {}, the ice rink of {}, chess in {}",
    "culture": "the theatre of {}, the choir of {}, the museum of {}, the book fair in {}, street music in {}",
    "science": "the observatory above {}, seals off {}, the bog near {}, the wave power station at {}, bees in {}",
    "weather": "fog over {}, the spring tide at {}, snow above {}, the dry summer in {}, storms off {}",
    "opinion": "quiet Sundays in {}, bicycles in {}, the name of {}, dogs on the beach of {}, benches in {}",
}
TURNS = (
    "New plans for {}", "Doubts about {}", "First figures on {}", "What people say of {}", "A long night for {}", "A closer look at {}",
    "Five questions about {}", "Trouble again over {}", "A good day for {}", "The numbers behind {}",
)  # fmt: skip
AGENCIES = ("own report", "coast agency", "north wire", "reader")


def make_sample(draw: Random, end_s: int) -> Sample:
    """Return articles, readers and what they did in the six days before `end_s`."""
    start_s = end_s - DAYS * DAY_S
    things = _articles(draw, start_s, end_s)
    people = [_person(draw, number) for number in range(N_USERS)]
    world = World(draw, start_s, end_s, things, people, TREND_S)
    events = world.run(_Visits(world).visit)
    return Sample([thing.record for thing in things], [person.record for person in people], events)


def _articles(draw: Random, start_s: int, end_s: int) -> list[Thing]:
    """Return articles of stories, each of which goes on for some hours or days."""
    first_s = start_s - start_s % DAY_S - DAY_S
    days = [day for day in range(DAYS + 2) for _ in range(ARTICLES_A_DAY)]
    times_s = sorted(first_s + day * DAY_S + int(draw.triangular(4, 23, 9) * HOUR_S) for day in days)
    running: list[tuple[str, str, float, list[str]]] = []
    made: list[Thing] = []
    for published_s in times_s:
        if published_s >= end_s:
            continue
        if not running or draw.random() < 0.35:
            section = draw.choice(list(STORIES))
            subject = draw.choice(STORIES[section].split(", ")).format(draw.choice(PLACES))
            interest = draw.gauss(0, 0.6) + (1.8 if draw.random() < 0.08 else 0.0)
            running = [story for story in running if story[3]][-12:]
            running.append((section, subject, interest, draw.sample(TURNS, len(TURNS))))
        section, subject, interest, turns = draw.choice([story for story in running if story[3]])
        record: dict[str, Any] = {
            "item_id": f"article-{len(made):03d}",
            "title": turns.pop().format(subject),
            "categories": section,
            "story": subject,
            "agency": draw.choice(AGENCIES),
            "published_ts_ms": published_s,
            "expires_ts_ms": published_s + LIFE_S,
        }
        quality = interest + draw.gauss(0, 0.4)
        made.append(Thing(record["item_id"], section, subject, quality, published_s, record, gone_s=published_s + LIFE_S))
    return made


def _person(draw: Random, number: int) -> Person:
    tastes = taste_of(draw, list(STORIES), draw.randint(2, 3))
    record: dict[str, Any] = {
        "user_id": f"reader-{number}",
        "age": draw.randint(18, 85),
        "region": draw.choice(PLACES),
        "preferred_categories": max(tastes, key=lambda topic: tastes[topic]) if draw.random() < 0.5 else None,
    }
    hour = draw.gauss(8, 1) if draw.random() < 0.6 else draw.gauss(19, 1.5)
    return Person(record["user_id"], tastes, {}, 0.3 + draw.expovariate(1.1), hour, record)


class _Visits:
    """Lets people open the paper."""

    def __init__(self, world: World) -> None:
        self.world, self.draw = world, world.draw

    def visit(self, person: Person, at_s: int) -> None:
        for _ in range(self.draw.randint(1, 3)):
            at_s = self._look(person, at_s + self.draw.randint(10, 60))

    def _look(self, person: Person, at_s: int) -> int:
        opened: set[Thing] = person.memory.setdefault("opened", set())
        page = self.world.page(person, at_s)

        def lure(thing: Thing) -> float:
            age = (at_s - thing.published_s) / INTEREST_S
            return -8.0 if thing in opened else 1.0 - 0.7 * age

        found = self.world.choose(person, page, at_s, lure, 1.0)
        if found is None:
            return at_s
        thing, position = found
        opened.add(thing)
        person.makers[thing.maker] = min(1.5, person.makers.get(thing.maker, 0.0) + 0.7)
        self.world.add(person, thing, "click", at_s + 4, position=position)
        if self.draw.random() > 0.3 + 0.12 * max(self.world.pull(person, thing), 0.0):
            return at_s + 20
        read_s = self.draw.randint(40, 240)
        self.world.add(person, thing, "play", at_s + read_s, value=read_s)
        if self.draw.random() < 0.08:
            self.world.add(person, thing, "share", at_s + read_s + 10)
        return at_s + read_s + 10
