"""Build 300 lists from generated behaviour: in a small catalogue and in a large one, with every source, similarity and kind of user.

    python -m tests.golden.lists

writes them to `lists.json`. They were first stored before all lists took one path through the code. Write them again only when lists are
meant to change, and say in the changelog what users will see.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recsys.catalogue.items import ItemContent
from recsys.engine import Engine, EngineConfig, Lists
from recsys.lists.reading import CooccurrenceReading
from recsys.models.ials.model import IALSConfig, IALSModel
from tests.builders import batch_of, learn
from tests.golden.attention import attention_model

STORED = Path(__file__).with_name("lists.json")
NOW_S = 1_700_000_000
DAY_S = 86_400
N_USERS = 420
N_GROUPS = 24
LISTED = 20
SMALL, LARGE = 1_200, 17_000


class Case(NamedTuple):
    """Users listed with one configuration of the engine."""

    name: str
    n_items: int
    n_lists: int
    exploration_slots: int = 0
    similarity: Any = "directed"
    preferred: bool = False


CASES = [
    Case(f"{size}-{name}", n_items, *options)
    for size, n_items in (("small", SMALL), ("large", LARGE))
    for name, options in {
        "plain": (50,),
        "explored": (40, 4),
        "cosine": (20, 0, "cosine"),
        "llr": (20, 0, "llr"),
        "newcomers": (20, 0, "directed", True),
    }.items()
]


def engine_of(case: Case) -> Engine:
    """Return an engine that has learnt from 420 users who mostly stay with their group of items."""
    random = np.random.default_rng(case.n_items)
    reading = CooccurrenceReading(similarity=case.similarity)
    engine = Engine(EngineConfig(list_size=LISTED, reading=reading, exploration_slots=case.exploration_slots, seen_length=60))
    engine.ensure_items(case.n_items)
    engine.neighbours.hold_all()
    for number in range(case.n_items - 40):  # nobody describes the last ones
        engine.describe_item(number, _content(number, random))
    for number in range(0, case.n_items, 97):
        engine.describe_item(number, None)
    ids, numbers = [f"i{n}" for n in range(case.n_items)], {f"i{n}": n for n in range(case.n_items)}
    vectors = _group_vectors(case.n_items, 16, random)
    engine.serve("ials", "v1", IALSModel(IALSConfig(factors=16), ids[:-60], vectors[:-60]), numbers)
    engine.serve("sasrec", "v1", attention_model(ids[:-80], random), numbers)
    engine.users.load({f"u{user}": None for user in range(N_USERS)})
    for user in range(N_USERS - 40):  # the last ones did nothing
        _learn(engine, user, case.n_items, random)
    return engine


def _content(number: int, random: np.random.Generator) -> ItemContent:
    group = number % N_GROUPS
    return ItemContent(
        [f"c{group}", f"d{number % 7}"],
        {"brand": f"b{number % 11}"} if number % 3 else {},
        published_s=NOW_S - (number % 400) * DAY_S if number % 50 else NOW_S + DAY_S,
        expires_s=NOW_S - DAY_S if number % 61 == 5 else None,
        available=number % 41 != 7,
        embeddings={"text": random.standard_normal(8).tolist()} if number % 4 == 0 else {},
    )


def _group_vectors(n_items: int, width: int, random: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float32]]:
    centres = random.standard_normal((N_GROUPS, width))
    vectors = centres[np.arange(n_items) % N_GROUPS] + 0.6 * random.standard_normal((n_items, width))
    return vectors.astype(np.float32)


def _learn(engine: Engine, user: int, n_items: int, random: np.random.Generator) -> None:
    n = int(random.integers(1, 45))
    group = user % N_GROUPS
    popular = (random.pareto(0.8, n) * 3).astype(np.int64) % (n_items // N_GROUPS)
    strays = random.random(n) < 0.2
    items = np.where(strays, random.integers(0, n_items, n), popular * N_GROUPS + group)
    times_s = NOW_S - int(random.integers(0, 60)) * DAY_S - np.sort(random.integers(0, 5_000, n))[::-1]
    weights = random.choice([32, 32, 16, 64, -32], n)
    batch = batch_of([engine.users.slot(f"u{user}") or 0], [n], items.tolist(), times_s.tolist(), weights.tolist())
    engine.advance_time(int(times_s.max()))
    learn(engine, batch)


def made(case: Case) -> Lists:
    """Return the lists of a case."""
    engine = engine_of(case)
    users = range(N_USERS - 30, N_USERS - 30 + case.n_lists) if case.preferred else range(0, 7 * case.n_lists, 7)
    slots = np.array([engine.users.slot(f"u{user}") for user in users], np.int64)
    preferred = {row: [f"c{row % N_GROUPS}", "d3"] for row in range(0, case.n_lists, 2)} if case.preferred else None
    return engine.recommend(slots, engine.encode(slots), engine.shared(NOW_S, NOW_S + 3_600), np.arange(case.n_lists) + 11, preferred)


def readable(lists: Lists) -> Iterator[list[dict[str, Any]]]:
    """Yield each list as its places: item, score, propensity, what each source added, reasons."""
    for row in range(len(lists.items)):
        yield [
            {
                "item": int(lists.items[row, place]),
                "score": round(float(lists.scores[row, place]), 5),
                "propensity": round(float(lists.propensities[row, place]), 6),
                "sources": {name: round(float(part[row, place]), 5) for name, part in sorted(lists.contributions.items())},
                "because": [item for item in lists.because[row, place].tolist() if item >= 0],
            }
            for place in range(lists.items.shape[1])
            if np.isfinite(lists.scores[row, place])
        ]


if __name__ == "__main__":
    stored = {case.name: list(readable(made(case))) for case in CASES}
    lines = ",\n".join(f'"{name}": [\n' + ",\n".join(json.dumps(one) for one in lists) + "\n]" for name, lists in stored.items())
    STORED.write_text("{\n" + lines + "\n}\n")
