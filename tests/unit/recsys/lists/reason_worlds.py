"""Generated behaviour of known structure, and lists with a reason taken away.

Shapes: U users, K places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.catalogue.items import ItemContent
from recsys.engine import Engine, EngineConfig
from recsys.lists import ranker
from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, Users
from recsys.lists.features import raw_features
from recsys.lists.features_kernel import RawFeatures
from recsys.lists.reason_kinds import KINDS
from recsys.lists.result import Lists
from recsys.lists.sources.cooccurrence import wide_scores
from recsys.lists.touch_policy import TouchPolicy
from recsys.lists.trace import Trace
from recsys.models.ials.model import IALSConfig, IALSModel
from tests.builders import batch_of, learn

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
NOW_S, DAY_S = 1_700_000_000, 86_400
N_ITEMS, N_USERS, N_TASTES, SIZE, TOGETHER = 480, 1_000, 12, 5, 1_000
PLAY, BUY, SNACK = 0, 1, 2
"""Types of events; what was a snack is listed again."""
NAMED = ("because", "bought_together")
SOURCES = {
    "because": ("cooccurrence", "content"), "bought_together": ("cooccurrence", "content"), "people_like_you": ("ials",),
    "again": ("again",), "new_in": ("new",), "popular_now": ("trending",), "profile": ("content",),
}  # fmt: skip
"""Sources behind each kind of reason."""


def engine_of(*, models: bool = True, **config: object) -> Engine:
    """Return an engine that has learnt from 1,000 users of twelve tastes. Items of a taste share a category and are chosen in turns; some
    items are bought, some are eaten every day, a few are new, a few are what everybody chose in the last hour. Some users did nothing."""
    random = np.random.default_rng(3)
    policy = TouchPolicy([2**62, 2**62, 0] + [2**62] * 253)
    weights = {"cooccurrence": 1.0, "content": 1.4, "ials": 0.5, "trending": 0.02, "new": 0.02, "again": 0.3}
    options = {"list_size": SIZE, "reasons": True, "bought_types": 1 << BUY, "touch_policy": policy, "source_weights": weights}
    engine = Engine(EngineConfig(**(options | config)))  # type: ignore[arg-type]
    engine.ensure_items(N_ITEMS)
    engine.neighbours.hold_all()
    for number in range(N_ITEMS):
        age_s = int(random.integers(0, 3) * DAY_S) if number % 40 == 7 else int(random.integers(60, 900)) * DAY_S
        engine.describe_item(number, ItemContent([f"taste {number % N_TASTES}"], {"brand": f"b{number % 31}"}, published_s=NOW_S - age_s))
    engine.users.load({f"u{user}": None for user in range(N_USERS)})
    slots, counts, items, times_s, types = [], [], [], [], []
    for user in range(N_USERS - 50):
        n = int(random.integers(3, 14))
        taste, start = user % N_TASTES, int(random.integers(0, 36))
        own = (start + np.arange(n) + random.integers(0, 3, n)) % (N_ITEMS // N_TASTES) * N_TASTES + taste
        own = np.where(random.random(n) < 0.15, random.integers(0, N_ITEMS, n), own)
        own[-1] = (5, 17, 29)[user % 3] if user % 4 == 0 else own[-1]  # what everybody chooses now
        slots.append(engine.users.slot(f"u{user}") or 0)
        counts.append(n)
        items += own.tolist()
        times_s += np.sort(NOW_S - random.integers(60, 9 * DAY_S, n)).tolist()
        types += np.where(own % 5 == 0, BUY, np.where(own % 11 == 3, SNACK, PLAY)).tolist()
    learn(engine, batch_of(slots, counts, items, times_s, [32] * len(items), types))
    if models:
        _serve(engine, random)
    return engine


def _serve(engine: Engine, random: np.random.Generator) -> None:
    ids, numbers = [f"i{n}" for n in range(N_ITEMS)], {f"i{n}": n for n in range(N_ITEMS)}
    centres = random.standard_normal((N_TASTES, 16))
    vectors = centres[np.arange(N_ITEMS) % N_TASTES] + 0.7 * random.standard_normal((N_ITEMS, 16))
    engine.serve("ials", "v1", IALSModel(IALSConfig(factors=16), ids, vectors.astype(np.float32)), numbers)


def preferred_of(slots: int) -> dict[int, list[str]]:
    """Return the categories that the last users named, who did nothing."""
    return {row: [f"taste {row % N_TASTES}"] for row in range(slots - 50, slots)}


def listed(engine: Engine) -> tuple[I64, Lists]:
    """Return the slots of all users, and their lists."""
    slots = np.array([engine.users.slot(f"u{user}") for user in range(N_USERS)], np.int64)
    return slots, engine.recommend(slots, engine.encode(slots), engine.shared(NOW_S), preferred=preferred_of(N_USERS))


class Places(NamedTuple):
    """Listed items (n,), with their users' slots and rows, the own items behind them (n, 2), and the kinds of their reasons."""

    slots: I64
    items: I64
    because: I64
    kinds: NDArray[np.object_]
    preferred: dict[int, list[str]]

    @classmethod
    def of(cls, slots: I64, lists: Lists) -> Places:
        """Return all places of lists, of which the last 50 are of users with preferred categories."""
        rows, places = np.nonzero(lists.items >= 0)
        named = preferred_of(len(slots))
        preferred = {at: named[row] for at, row in enumerate(rows.tolist()) if row in named}
        return cls(slots[rows], lists.items[rows, places], lists.because[rows, places], kind_of(lists)[rows, places], preferred)

    def chosen(self, some: NDArray[np.bool_]) -> Places:
        """Return some of the places (n,)."""
        at = np.flatnonzero(some)
        preferred = {place: self.preferred[row] for place, row in enumerate(at.tolist()) if row in self.preferred}
        return Places(self.slots[at], self.items[at], self.because[at], self.kinds[at], preferred)


def traced(engine: Engine, slots: I64, context: ListContext, preferred: dict[int, list[str]]) -> Iterator[tuple[slice, Trace]]:
    """Yield traces of lists of the users in `slots` (U,), some at once."""
    for start in range(0, len(slots), TOGETHER):
        rows = slice(start, min(start + TOGETHER, len(slots)))
        named = {row - start: some for row, some in preferred.items() if rows.start <= row < rows.stop}
        yield rows, engine.trace(slots[rows], engine.encode(slots[rows]), context, preferred=named)


def scores_of(engine: Engine, slots: I64, items: I64, context: ListContext, preferred: dict[int, list[str]]) -> F32:
    """Return the score of one item of each user, (U,), counted from the least of the user's candidates; −∞ where it is no candidate."""
    return np.concatenate([_score(trace.ranked, items[rows]) for rows, trace in traced(engine, slots, context, preferred)])


def scores_without_reasons(engine: Engine, places: Places, context: ListContext, patch: pytest.MonkeyPatch) -> F32:
    """Return the score of each item (n,) without what its reason says, all other candidates as they are: without the named own items'
    additions to raw scores; with a raw score of 0 by the reason's source; or, of what is popular, as popular as the average candidate."""
    found = []
    for rows, trace in traced(engine, places.slots, context, places.preferred):
        items, kinds, named = places.items[rows], places.kinds[rows], np.isin(places.kinds[rows], NAMED)
        recent, taken = trace.users.recent, np.where(named[:, None], places.because[rows], -1)
        is_taken = (recent.items[:, :, None] == taken[:, None, :]).any(axis=2)
        without = replace(trace.users, recent=replace(recent, strengths=np.where(is_taken, np.float32(0), recent.strengths)), _made={})
        at = np.flatnonzero(trace.candidates.numbers == items[:, None])
        raw = {name: scores.copy() for name, scores in trace.candidates.raw.items()}
        for source in trace.sources:
            less = source.score(without, items[:, None], trace.context)[:, 0]
            is_reason = np.array([kind in SOURCES and source.name in SOURCES[kind] for kind in kinds]) & ~named
            raw[source.name].ravel()[at] = np.where(is_reason, np.float32(0), less)
        assert trace.candidates.wide is not None, "a small catalogue's sources read rows"
        wide = trace.candidates.wide.copy()
        wide.ravel()[at] = wide_scores(without, items[:, None], trace.context)[:, 0]
        changed = replace(trace.candidates, raw=raw, wide=wide)
        is_average = (changed.numbers == items[:, None]) & (kinds == "popular_now")[:, None]
        with patch.context() as patched:
            patched.setattr(ranker, "raw_features", partial(_with_average_counts, is_average))
            found.append(_score(ranker.ByRecipe().ranked(changed, trace.users, trace.context, changed.numbers.shape[1]), items))
    return np.concatenate(found)


def _with_average_counts(is_average: NDArray[np.bool_], candidates: Candidates, users: Users, context: ListContext) -> RawFeatures:
    """Return the features of candidates, of which those in `is_average` (U, C) are as popular as the user's average candidate."""
    made = raw_features(candidates, users, context)
    valid = candidates.valid[:, :, None]
    averages = np.where(valid, made.logs[made.places], np.float32(0)).sum(axis=1) / valid.sum(axis=1)  # (U, H)
    places = np.where(is_average, len(made.logs) + np.arange(len(users))[:, None], made.places)
    return made._replace(logs=np.concatenate([made.logs, averages]).astype(np.float32), places=places)


def _score(ranked: Candidates, items: I64) -> F32:
    return np.where(ranked.numbers == items[:, None], ranked.scores, np.float32(-np.inf)).max(axis=1)


def without_sources(context: ListContext, names: tuple[str, ...]) -> ListContext:
    """Return the context without some sources."""
    weights = {name: 0.0 if name in names else weight for name, weight in context.options.weights.items()}
    return replace(context, options=replace(context.options, weights=weights), _made={})


def kind_of(lists: Lists) -> NDArray[np.object_]:
    """Return the kinds of all places (U, K), None for no reason."""
    assert lists.reasons is not None
    return np.array([None, *KINDS], object)[lists.reasons.kinds]
