"""Judges lists: where each recipe puts the items of the newest events, beside popularity and recent popularity.

Shapes: B cases, H half-lives.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from recsys.engine import EngineConfig
from recsys.evaluation.metrics import ndcg_at_k
from recsys.lists.recipe import Recipe
from recsys.models.training import Progress, go_on
from recsys.recipe.replay import Log, Replay, popularity_ranks

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

POPULARITY = "popularity"
RECENT_POPULARITY = "recent_popularity"


def judge_lists(
    config: EngineConfig, log: Log, events: I64, recipes: Mapping[str, Recipe | None], progress: Progress | None = None
) -> dict[str, F64]:
    """Return the place of each event's item on the user's list just before it, by each recipe (None: the default one), and its rank by
    popularity and by recent popularity at that moment: (B,) each, infinite where it is not listed.

    Recent popularity is that of the half-life which is best on these events: an advantage over lists. The ranks end early, all at the same
    event, where `progress` says that time is up.
    Shapes: events (B,), ascending places in the log.
    """
    replayed = Replay(config, log)
    engine, places, popular = replayed.engine, {name: list[float]() for name in recipes}, list[F64]()
    for done, (event, slot, now_s) in enumerate(replayed.moments(events)):
        slots, item = np.array([slot]), int(log.items[event])
        vectors = engine.encode(slots)
        popular.append(popularity_ranks(engine, slot, item))
        for name, recipe in recipes.items():
            engine.use_recipe(recipe)
            place = np.flatnonzero(engine.recommend(slots, vectors, now_s).items[0] == item)
            places[name].append(1.0 + float(place[0]) if len(place) else np.inf)
        if done % 64 == 0 and not go_on(progress, done / len(events), f"recipe: {done:,} of {len(events):,} lists judged"):
            break
    ranks = np.array(popular) if popular else np.zeros((0, 2))  # (B, H), the last one without decay
    best = max(range(ranks.shape[1] - 1), key=lambda half_life: ndcg_at_k(ranks[:, half_life], 10))
    found = {name: np.array(listed) for name, listed in places.items()}
    return found | {POPULARITY: ranks[:, -1], RECENT_POPULARITY: ranks[:, best]}
