"""Engines with known categories, brands, ages and tastes, in small and in large catalogues, for tests of policy stages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.items import ItemContent
from recsys.engine import Engine, EngineConfig, Lists
from recsys.lists.policies.options import NO_POLICY, CalibrationOptions, Cap, PolicyOptions
from tests.builders import batch_of, learn

I64 = NDArray[np.int64]
NOW_S = 1_700_000_000
DAY_S = 86_400
N_CATEGORIES = 8
HOLD_ALL = PolicyOptions(
    calibration=CalibrationOptions(0.1), caps=(Cap("category", 1, 9), Cap("attribute.brand", 1, 9), Cap("attribute.none", 1, 9))
)
"""Makes the catalogue hold what every stage reads."""


def content_of(number: int, random: np.random.Generator, *, embedded: bool) -> ItemContent:
    """Return the content of an item: one or two categories, mostly a brand, an age; some have none."""
    if number % 23 == 5:
        return ItemContent()
    names = [f"c{number % N_CATEGORIES}"] + ([f"d{number % 3}"] if number % 4 == 0 else [])
    return ItemContent(
        names,
        {"brand": f"b{number % 13}"} if number % 5 else {},
        published_s=NOW_S - int(random.integers(0, 400)) * DAY_S if number % 7 else None,
        embeddings={"text": random.standard_normal(6).tolist()} if embedded and number % 3 else {},
    )


def engine_of(n_items: int = 160, n_users: int = 12, *, large: bool = False, embedded: bool = False, **config: Any) -> Engine:
    """Return an engine that has learnt from users who mostly stay in two categories; the last user did nothing."""
    random = np.random.default_rng(n_items)
    options = {"list_size": 10, "history_length": 30, "exact_items": 20 if large else 16_000, "policy": HOLD_ALL, **config}
    engine = Engine(EngineConfig(**options))
    engine.ensure_items(n_items)
    engine.neighbours.hold_all()
    for number in range(n_items):
        engine.describe_item(number, content_of(number, random, embedded=embedded))
    engine.users.load({f"u{user}": None for user in range(n_users)})
    for user in range(n_users - 1):
        n = int(random.integers(3, 25))
        own = np.where(random.random(n) < 0.7, user % N_CATEGORIES, (user * 3 + 1) % N_CATEGORIES)
        items = own + N_CATEGORIES * random.integers(0, n_items // N_CATEGORIES, n)
        weights = random.choice([-32, 16, 32, 48], n, p=[0.1, 0.3, 0.4, 0.2])
        times_s = [NOW_S - 100 + at for at in range(n)]
        learn(engine, batch_of([engine.users.slot(f"u{user}") or 0], [n], items.tolist(), times_s, weights.tolist()))
    return engine


def slots_of(engine: Engine) -> I64:
    """Return the slots of all users."""
    return np.array([engine.users.slot(f"u{user}") for user in range(len(engine.users))], np.int64)


def lists_with(engine: Engine, policy: PolicyOptions, slots: I64 | None = None, seeds: I64 | None = None, **options: Any) -> Lists:
    """Return lists made by these stages, and other options."""
    context = engine.shared(NOW_S)
    context = replace(context, options=replace(context.options, policy=policy, **options), _made={})
    return engine.recommend(slots_of(engine) if slots is None else slots, {}, context, seeds)


def pool_of(engine: Engine, policy: PolicyOptions, size: int = 10) -> Lists:
    """Return what the stages choose from: the ranked candidates."""
    return lists_with(engine, NO_POLICY, size=size + policy.spare)


def features_of(engine: Engine, numbers: I64) -> NDArray[np.float64]:
    """Return the content features of items, (P, F)."""
    catalogue = engine.catalogue
    if catalogue.kinds is None:
        return catalogue.features[numbers].astype(np.float64)
    return catalogue.kinds.features(catalogue.kinds.of[numbers].astype(np.int64), catalogue.width).astype(np.float64)


def listed(lists: Lists, row: int) -> list[int]:
    """Return the items of a list."""
    return lists.items[row][lists.items[row] >= 0].tolist()  # type: ignore[no-any-return]
