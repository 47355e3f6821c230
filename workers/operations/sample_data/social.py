"""A made-up place where people teach each other: lessons of courses, which last, and posts, which are of today.

Structure: each person follows two or three topics and grows fond of the teachers whose lessons they completed. A lesson is followed by the
next one of its course. Interest in a post halves every day and a half; lessons keep theirs. Some teachers post much more than others.
"""

from __future__ import annotations

from random import Random
from typing import Any

from workers.operations.sample_data.world import DAY_S, Person, Sample, Thing, World, taste_of

N_USERS, DAYS, TREND_S = 220, 24, 2 * DAY_S
N_POSTS, POST_INTEREST_S = 420, 36 * 3_600
TOPICS = {
    "bread": "sourdough, rye loaf, baking tin, crust, flour, proving basket",
    "guitar": "barre chords, fingerpicking, tuning, strumming, a waltz, the blues scale",
    "watercolour": "wet on wet, clouds, mixing greens, paper, brush strokes, a harbour at dusk",
    "chess": "open files, the endgame, pins, a quiet move, rook lifts, pawn chains",
    "algebra": "fractions, linear equations, powers, factoring, inequalities, sequences",
    "photography": "long exposure, backlight, lenses, street scenes, colour, contact sheets",
    "sewing": "zips, hems, darts, pockets, patterns, buttonholes",
    "astronomy": "the moon, star charts, a first telescope, comets, dark skies, Saturn's rings",
}
TEACHERS = (
    "quiet-heron", "inky-otter", "maple-lynx", "brisk-wren", "amber-newt", "paper-stork", "velvet-mole", "copper-tern", "mossy-hare",
    "lucky-vole", "silver-carp", "windy-finch", "rusty-robin", "plum-badger",
)  # fmt: skip
LESSON_TURNS = ("first steps", "in ten minutes", "common mistakes", "with patience", "an exercise", "a small project")
POST_TURNS = (
    "Today: {}", "I never understood {} until now", "Who else struggles with {}?", "My week with {}", "A trick for {}", "Look: {}",
)  # fmt: skip
COMPLETE, LIKE, SHARE, HIDE = "play", "like", "share", "hide"


def make_sample(draw: Random, end_s: int) -> Sample:
    """Return lessons, posts, learners and what they did in the 24 days before `end_s`."""
    start_s = end_s - DAYS * DAY_S
    lessons, follows = _lessons(draw, start_s, end_s)
    things = [*lessons, *_posts(draw, start_s, end_s)]
    people = [_person(draw, number) for number in range(N_USERS)]
    world = World(draw, start_s, end_s, things, people, TREND_S)
    events = world.run(_Visits(world, follows).visit)
    return Sample([thing.record for thing in things], [person.record for person in people], events)


def _thing(draw: Random, item_id: str, topic: str, form: str, author: str, title: str, published_s: int) -> Thing:
    record: dict[str, Any] = {
        "item_id": item_id,
        "title": title,
        "categories": f"{topic}|{form}",
        "author": author,
        "published_ts_ms": published_s,
    }
    return Thing(item_id, topic, author, draw.gauss(0, 0.6), published_s, record, noun=form)


def _lessons(draw: Random, start_s: int, end_s: int) -> tuple[list[Thing], dict[Thing, Thing]]:
    """Return lessons, and which one follows which."""
    made: list[Thing] = []
    follows: dict[Thing, Thing] = {}
    for topic, subjects in TOPICS.items():
        for number, subject in enumerate(subjects.split(", ")):
            author = TEACHERS[(len(made) + number) % len(TEACHERS)]
            since_s = draw.randrange(start_s - 200 * DAY_S, end_s - 4 * DAY_S)
            for place, turn in enumerate(LESSON_TURNS[: draw.randint(2, 5)], 1):
                title = f"{subject[0].upper()}{subject[1:]}, lesson {place}: {turn}"
                made.append(_thing(draw, f"lesson-{len(made):03d}", topic, "lesson", author, title, min(since_s, end_s - DAY_S)))
                since_s += draw.randint(1, 10) * DAY_S
                if place > 1:
                    follows[made[-2]] = made[-1]
    return made, follows


def _posts(draw: Random, start_s: int, end_s: int) -> list[Thing]:
    made: list[Thing] = []
    busy = [1 / (1 + 0.4 * place) for place in range(len(TEACHERS))]
    topic_of = {teacher: list(TOPICS)[place % len(TOPICS)] for place, teacher in enumerate(TEACHERS)}
    for number in range(N_POSTS):
        author = draw.choices(TEACHERS, busy)[0]
        topic = topic_of[author] if draw.random() < 0.8 else draw.choice(list(TOPICS))
        title = draw.choice(POST_TURNS).format(draw.choice(TOPICS[topic].split(", ")))
        made.append(_thing(draw, f"post-{number:03d}", topic, "post", author, title, draw.randrange(start_s - 5 * DAY_S, end_s)))
    return made


def _person(draw: Random, number: int) -> Person:
    tastes = taste_of(draw, list(TOPICS), draw.randint(2, 3))
    followed = sorted(tastes, key=lambda topic: -tastes[topic])[:2]
    record: dict[str, Any] = {
        "user_id": f"learner-{number}",
        "level": draw.choice(("new", "some", "much")),
        "preferred_categories": "|".join(followed) if draw.random() < 0.7 else None,
    }
    return Person(record["user_id"], tastes, {}, 0.06 + draw.expovariate(3.5), draw.uniform(7, 23), record)


class _Visits:
    """Lets people open the feed."""

    def __init__(self, world: World, follows: dict[Thing, Thing]) -> None:
        self.world, self.draw, self.follows = world, world.draw, follows

    def visit(self, person: Person, at_s: int) -> None:
        for _ in range(self.draw.randint(1, 3)):
            at_s = self._scroll(person, at_s + self.draw.randint(10, 60))

    def _scroll(self, person: Person, at_s: int) -> int:
        done: set[Thing] = person.memory.setdefault("done", set())
        following = person.memory.get("next")
        wanted = [following] if following is not None else []
        page = self.world.page(person, at_s, wanted)

        def lure(thing: Thing) -> float:
            if thing in done:
                return -8.0
            return 2.0 * (thing in wanted) if thing.noun == "lesson" else 1.0 - 0.7 * (at_s - thing.published_s) / POST_INTEREST_S

        found = self.world.choose(person, page, at_s, lure, 1.2)
        if found is None:
            return at_s
        thing, position = found
        done.add(thing)
        self.world.add(person, thing, "view", at_s + 2, position=position)
        mood = self.world.pull(person, thing) + 2.0 * (thing in wanted)
        if mood < -1.0 and self.draw.random() < 0.4:
            self.world.add(person, thing, HIDE, at_s + 6)
            return at_s + 6
        if self.draw.random() > 0.5 + 0.1 * max(mood, 0.0):
            return at_s + 10
        self.world.add(person, thing, "click", at_s + 8)
        return self._finish(person, thing, mood, at_s + 8)

    def _finish(self, person: Person, thing: Thing, mood: float, at_s: int) -> int:
        if self.draw.random() < 0.55 + 0.1 * max(mood, 0.0):
            spent_s = self.draw.randint(60, 600)
            at_s += spent_s
            self.world.add(person, thing, COMPLETE, at_s, value=spent_s)
            person.makers[thing.maker] = min(1.6, person.makers.get(thing.maker, 0.0) + 0.35)
            if thing.noun == "lesson":
                person.memory["next"] = self.follows.get(thing)
        if self.draw.random() < 0.12 + 0.08 * max(mood, 0.0):
            self.world.add(person, thing, LIKE, at_s + 3)
        elif self.draw.random() < 0.04:
            self.world.add(person, thing, SHARE, at_s + 5)
        return at_s + 10
