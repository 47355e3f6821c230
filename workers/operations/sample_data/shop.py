"""A made-up shop: people look around, put things into the cart, buy few of them, and buy what is used up again.

Structure: each person likes a few departments and two or three brands. Whoever buys a thing gets what goes with it on a later page (a
tent, a sleeping mat). Groceries and cosmetics come back by a rhythm of the person's own. Nobody buys a second one of what lasts.
"""

from __future__ import annotations

from random import Random
from typing import Any

from workers.operations.sample_data.world import DAY_S, Person, Sample, Thing, World, taste_of

N_USERS, DAYS, TREND_S = 220, 90, 14 * DAY_S
BRANDS = (
    "Ombrelis", "Kestavo", "Lurimand", "Pelloway", "Zarquill", "Noctavel", "Ferrinook", "Quillamar", "Tindrossel", "Wobbenhurst",
    "Jaspernook", "Oskerril",
)  # fmt: skip
GOODS = {
    "groceries": "coffee beans 9, green tea 6, pasta 2, tomato sauce 3, olive oil 8, oat flakes 2, rice 3, honey 6, dark chocolate 3",
    "kitchen": "teapot 29, frying pan 35, kitchen knife 24, cutting board 19, salad bowl 22, coffee grinder 49, baking tin 14, kettle 39",
    "books": "cookery book 22, garden book 19, travel guide 17, picture book 14, crime novel 12, book of poems 11",
    "cosmetics": "hand cream 6, shampoo 5, face soap 4, sun cream 11, lip balm 3",
    "garden": "watering can 18, pruning shears 16, flower pot 9, herb pot 4, garden gloves 8, bird bath 33",
    "toys": "wooden train 32, building bricks 28, puzzle 15, kite 19, spinning top 6",
    "camping": "tent 149, sleeping mat 39, sleeping bag 79, camping stove 45, lantern 25, folding chair 34",
    "lighting": "desk lamp 42, floor lamp 69, reading lamp 35, string of lights 16, night light 12",
    "bicycles": "bicycle bell 8, bicycle lamp 24, pannier bag 55, tyre pump 22, saddle 39, repair kit 10",
    "wool": "merino yarn 8, cotton yarn 5, knitting needles 9, crochet hook 4, pattern booklet 7, button tin 6",
}
VARIANTS = {
    "groceries": "organic, family pack, small pack, gift box, regional, extra fine",
    "cosmetics": "rose, unscented, lemon, travel size, oat, sensitive",
    "toys": "small, large, rainbow, animals, harbour, forest",
    "books": "pocket edition, illustrated, large print, second volume, gift edition, hardback",
}
OTHER_VARIANTS = "small, large, moss green, sky blue, classic, light, sand, cherry red"
GOES_WITH = {
    "tent": "sleeping mat", "sleeping mat": "sleeping bag", "sleeping bag": "lantern", "camping stove": "folding chair",
    "coffee beans": "coffee grinder", "green tea": "teapot", "teapot": "kettle", "pasta": "tomato sauce", "tomato sauce": "olive oil",
    "frying pan": "cookery book", "kitchen knife": "cutting board", "salad bowl": "olive oil", "flower pot": "herb pot",
    "herb pot": "garden book", "pruning shears": "garden gloves", "bicycle lamp": "bicycle bell", "pannier bag": "repair kit",
    "tyre pump": "repair kit", "merino yarn": "knitting needles", "cotton yarn": "crochet hook", "knitting needles": "pattern booklet",
    "desk lamp": "reading lamp", "picture book": "puzzle", "wooden train": "building bricks", "sun cream": "lip balm",
    "shampoo": "face soap",
}  # fmt: skip
RHYTHM_DAYS = {"groceries": 8.0, "cosmetics": 35.0}
"""Days after which what was bought is used up."""


def make_sample(draw: Random, end_s: int) -> Sample:
    """Return the catalogue, the customers and what they did in the 90 days before `end_s`."""
    start_s = end_s - DAYS * DAY_S
    things = _things(draw, start_s, end_s)
    people = [_person(draw, number) for number in range(N_USERS)]
    world = World(draw, start_s, end_s, things, people, TREND_S)
    events = world.run(_Visits(world).visit)
    return Sample([thing.record for thing in things], [person.record for person in people], events)


def _things(draw: Random, start_s: int, end_s: int) -> list[Thing]:
    made: list[Thing] = []
    for topic, goods in GOODS.items():
        for number, text in enumerate(goods.split(", ")):
            noun, _, price = text.rpartition(" ")
            for variant in draw.sample(VARIANTS.get(topic, OTHER_VARIANTS).split(", "), 5):
                brand = BRANDS[(number * 3 + draw.randrange(4)) % len(BRANDS)]
                is_new = draw.random() < 0.15
                since_s = draw.randrange(start_s, end_s - DAY_S) if is_new else start_s - draw.randrange(30 * DAY_S, 500 * DAY_S)
                record: dict[str, Any] = {
                    "item_id": f"{topic}-{len(made):03d}",
                    "title": f"{noun.capitalize()}, {variant}",
                    "categories": topic,
                    "brand": brand,
                    "price": round(float(price) * draw.uniform(0.8, 1.4), 1),
                    "available": "yes",
                    "published_ts_ms": since_s,
                }
                made.append(Thing(record["item_id"], topic, brand, draw.gauss(0, 0.6), since_s, record, noun))
    for thing in draw.sample(made, 18):  # sold out for some days, and not back
        thing.gone_s, thing.record["available"] = end_s - draw.randrange(DAY_S, 30 * DAY_S), "no"
    for thing in draw.sample(made, 4):  # in the catalogue before there is a price
        thing.record["price"], thing.gone_s = None, thing.published_s
    return made


def _person(draw: Random, number: int) -> Person:
    tastes = taste_of(draw, list(GOODS), draw.randint(2, 4))
    liked = draw.sample(BRANDS, draw.randint(2, 3))
    record: dict[str, Any] = {
        "user_id": f"customer-{number}",
        "age": draw.randint(18, 78),
        "region": draw.choice(("north", "south", "coast", "hills")),
        "preferred_categories": max(tastes, key=lambda topic: tastes[topic]) if draw.random() < 0.5 else None,
    }
    return Person(record["user_id"], tastes, dict.fromkeys(liked, 0.9), 0.03 + draw.expovariate(14), draw.uniform(8, 22), record)


class _Visits:
    """Lets people come to the shop."""

    def __init__(self, world: World) -> None:
        self.world, self.draw = world, world.draw
        self.by_noun: dict[str, list[Thing]] = {}
        for thing in world.things:
            self.by_noun.setdefault(thing.noun, []).append(thing)

    def visit(self, person: Person, at_s: int) -> None:
        due: dict[Thing, int] = person.memory.setdefault("due", {})
        for thing in [one for one, when_s in due.items() if when_s <= at_s][:3]:
            at_s = self._buy(person, thing, at_s)
        for _ in range(self.draw.randint(1, 3)):
            at_s = self._look(person, at_s + self.draw.randint(20, 120))

    def _look(self, person: Person, at_s: int) -> int:
        owned: set[str] = person.memory.setdefault("owned", set())
        wanted = [thing for thing in person.memory.get("goes_with", ()) if thing.noun not in owned][:3]
        wanted += [thing for thing in person.memory.get("looked_at", ())[-2:] if thing.noun not in owned]
        page = self.world.page(person, at_s, wanted)
        needs = {thing.noun for thing in wanted}
        found = self.world.choose(person, page, at_s, lambda thing: -6.0 if thing.noun in owned else 1.2 * (thing.noun in needs), 1.6)
        if found is None:
            return at_s
        thing, position = found
        self.world.add(person, thing, "view" if self.draw.random() < 0.5 else "click", at_s + 5, position=position)
        before = person.memory.setdefault("looked_at", [])
        eager = self.world.pull(person, thing) + 1.2 * (thing in before)
        before.append(thing)
        if self.draw.random() > 0.22 + 0.08 * max(eager, 0.0):
            return at_s + 30
        self.world.add(person, thing, "add_to_cart", at_s + 60)
        return self._buy(person, thing, at_s + 120) if self.draw.random() < 0.6 else at_s + 90

    def _buy(self, person: Person, thing: Thing, at_s: int) -> int:
        if thing.gone_s is not None and at_s >= thing.gone_s:
            person.memory["due"].pop(thing, None)
            return at_s
        self.world.add(person, thing, "purchase", at_s, value=thing.record["price"])
        person.memory["goes_with"] = [*self.by_noun.get(GOES_WITH.get(thing.noun, ""), ())]
        rhythm = RHYTHM_DAYS.get(thing.topic)
        if rhythm is None:
            person.memory.setdefault("owned", set()).add(thing.noun)
        elif self.draw.random() < 0.75:
            person.memory["due"][thing] = at_s + int(rhythm * self.draw.uniform(0.75, 1.25) * DAY_S)
        else:
            person.memory["due"].pop(thing, None)
        return at_s + self.draw.randint(30, 90)
