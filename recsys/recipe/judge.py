"""Judges recipes by their lists on the newest events of a log, beside popularity and recent popularity.

Shapes: B cases, H half-lives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from recsys.engine import EngineConfig
from recsys.evaluation.metrics import ndcg_at_k
from recsys.lists.learned.ranker import LearnedRanker
from recsys.lists.recipe import Recipe
from recsys.models.training import Progress, go_on
from recsys.recipe.replay import Log, Replay, Serving, popularity_ranks
from recsys.state.half_lives import HALF_LIVES_S

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

POPULARITY, RECENT_POPULARITY = "popularity", "recent_popularity"


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Places of the items that users chose: `users` (B,), and by name of the list `ranks` (B,), infinite where the item is not listed."""

    users: I64
    ranks: Mapping[str, F64]

    def hits(self, name: str, k: int = 10) -> F64:
        """Return 1 where the item is among the first k of a list, else 0: (B,)."""
        return (self.ranks[name] <= k).astype(np.float64)

    def ndcg(self, name: str, k: int = 10) -> F64:
        """Return 1 / log₂(1 + rank) where the item is among the first k of a list, else 0: (B,)."""
        ranks = self.ranks[name]
        return np.where(ranks <= k, 1 / np.log2(1 + np.minimum(ranks, k)), 0.0)


def judge(
    config: EngineConfig,
    log: Log,
    events: I64,
    recipes: Mapping[str, Recipe | None],
    recent: int | None = None,
    progress: Progress | None = None,
    serving: Serving | None = None,
    rankers: Mapping[str, LearnedRanker] = MappingProxyType({}),
) -> Judged:
    """Return the places of the items of the `events` (B,), ascending, on the lists that each recipe makes just before them (None: the
    default one), with the models that are `serving` and the ranker of the recipe's name in `rankers`, if any; and in popularity of all time
    and at half-life `HALF_LIVES_S[recent]`. Where `progress` says that time is up, the cases end early.

    Use recipes that were trained on events before these, and a half-life that was best before these (`recent_half_life`). Without `recent`
    it is the one that is best on these events: an advantage over lists.
    """
    replayed, ranks = Replay(config, log, serving), {name: list[float]() for name in recipes}
    engine, n_judged, popular = replayed.engine, 0, [np.zeros((0, len(HALF_LIVES_S)))]
    for event, slot, now_s in replayed.moments(events):
        slots, item = np.array([slot]), int(log.items[event])
        vectors = engine.encode(slots, now_s)
        for name, recipe in recipes.items():
            engine.use_recipe(recipe)
            engine.use_ranker(rankers.get(name))
            place = np.flatnonzero(engine.recommend(slots, vectors, now_s, situations=log.situations(event)).items[0] == item)
            ranks[name].append(1.0 + float(place[0]) if len(place) else np.inf)
        popular.append(popularity_ranks(engine, slot, item, now_s)[None])
        n_judged += 1
        if n_judged % 64 == 0 and not go_on(progress, n_judged / len(events), f"recipe: {n_judged:,} of {len(events):,} lists"):
            break
    by_half_life = np.concatenate(popular)  # (B, H), the last one without decay
    if recent is None:
        recent = max(range(len(HALF_LIVES_S) - 1), key=lambda place: ndcg_at_k(by_half_life[:, place], 10))
    baselines = {POPULARITY: by_half_life[:, -1], RECENT_POPULARITY: by_half_life[:, recent]}
    return Judged(log.users[events[:n_judged]], {name: np.array(found) for name, found in ranks.items()} | baselines)
