"""Cases to learn a ranker from: what a recipe ranked first just before an event, and which of it the event was about.

Shapes: B cases, P candidates, best first by the recipe, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recsys.engine import EngineConfig
from recsys.errors import ShapeError
from recsys.lists.learned.feature_names import FEATURE_VERSION, WITH_DEVICES, WITHOUT_SHOWN
from recsys.lists.learned.forest_kernel import add_scores
from recsys.lists.learned.ranker import NARROWED, LearnedRanker
from recsys.lists.ranker import SOURCES
from recsys.lists.recipe import Recipe
from recsys.models.training import Progress, go_on
from recsys.recipe.replay import Log, Replay, Serving

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
_COLUMNS = ("features", "scores", "counts", "targets", "weights", "users", "events")


@dataclass(frozen=True, slots=True, eq=False)
class RankerCases:
    """Cases in order of arrival. `features` (B, P, F) and the recipe's `scores` (B, P) of the first `counts` (B,) candidates of each;
    `targets` (B,), the column of the item that the event was about, or −1 if it is none of them; `weights` (B,), how much the event counts,
    below 0 where the user rejected the item; `users` (B,), any numbers; `events` (B,), the places of the events in the log. `sources` are
    those beside which the features of this `version` were made, and `devices` those that are told apart."""

    features: F32
    scores: F32
    counts: I32
    targets: I32
    weights: F32
    users: I64
    events: I64
    sources: tuple[str, ...] = ()
    version: int = WITHOUT_SHOWN
    devices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lengths = {len(getattr(self, name)) for name in _COLUMNS}
        if len(lengths) != 1 or self.features.ndim != 3 or self.features.shape[:2] != self.scores.shape:
            raise ShapeError(f"cases do not fit together: {sorted(lengths)} cases, features of shape {self.features.shape}")
        if len(self) and (int(self.counts.max()) > self.scores.shape[1] or (self.targets >= self.counts).any()):
            raise ShapeError("a case has more candidates than features, or a target that is none of them")

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def valid(self) -> Bools:
        """Return where there is a candidate, (B, P)."""
        found: Bools = np.arange(self.scores.shape[1]) < self.counts[:, None]
        return found

    def at(self, rows: I64 | slice) -> Self:
        """Return some of the cases."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _COLUMNS})

    @classmethod
    def joined(cls, blocks: Sequence[Self]) -> Self:
        """Return the cases of all blocks, one after another; of one width and version, and beside the same sources."""
        columns: dict[str, Any] = {name: np.concatenate([getattr(block, name) for block in blocks]) for name in _COLUMNS}
        return replace(blocks[0], **columns)


def rejections(log: Log) -> I64:
    """Return the places of the events by which a user rejects an item (a hide, a dislike), ascending, if the user and the item occurred
    before."""
    rejected = log.weights < 0
    for column in (log.users, log.items):
        rejected[np.unique(column, return_index=True)[1]] = False
    return np.flatnonzero(rejected)


def gather(
    config: EngineConfig,
    log: Log,
    events: I64,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
    serving: Serving | None = None,
    size: int = NARROWED,
) -> RankerCases:
    """Return the cases of the `events` (B,), ascending, as `recipe` and the models that are `serving` make lists just before each; fewer if
    `progress` says that time is up. Nothing that happened at or after an event is known when its case is made."""
    replayed = Replay(config, log, serving)
    replayed.engine.use_recipe(recipe)
    sources = further_sources(config, serving)
    blocks = list[RankerCases]()
    for done, (event, slot, now_s) in enumerate(replayed.moments(events)):
        blocks.append(case_of(replayed, event, slot, now_s, sources, size))
        if done % 64 == 0 and not go_on(progress, done / len(events), f"ranker: {done:,} of {len(events):,} cases"):
            break
    return RankerCases.joined(blocks)


def further_sources(config: EngineConfig, serving: Serving | None) -> tuple[str, ...]:
    """Return the names of the sources that are on and that version 1 has no features of: models that are serving, `again`, plugins'."""
    names = dict.fromkeys((*(serving.models if serving is not None else ()), *config.registry.sources))
    return tuple(name for name in names if name not in SOURCES and config.source_weights.get(name))


def case_of(replayed: Replay, event: int, slot: int, now_s: int, sources: Sequence[str], size: int = NARROWED) -> RankerCases:
    """Return the case of one event of a replay that stands just before it."""
    engine, log = replayed.engine, replayed.log
    slots = np.array([slot])
    devices = () if log.devices is None else log.devices.names
    version = WITH_DEVICES if devices else FEATURE_VERSION if log.holds_shown(engine.config) else WITHOUT_SHOWN
    vectors = engine.encode(slots, now_s)
    found, made = engine.shortlist(slots, vectors, now_s, sources, size, version, devices, log.situations(event))
    target = np.flatnonzero(found.numbers[0] == log.items[event])
    return RankerCases(
        np.ascontiguousarray(made.values),
        found.scores,
        found.valid.sum(axis=1).astype(np.int32),
        np.array([target[0] if len(target) else -1], np.int32),
        log.weights[event : event + 1].astype(np.float32) / np.float32(32),
        log.users[event : event + 1],
        np.array([event]),
        tuple(sources),
        version,
        devices,
    )


def ranks_by(cases: RankerCases, ranker: LearnedRanker | None) -> NDArray[np.float64]:
    """Return the mean rank of each case's item by a ranker, or by the recipe alone: (B,), infinite where it is no candidate."""
    return ranks_of(cases, cases.scores if ranker is None else cases.scores + forest_scores(ranker, cases.features))


def ranks_of(cases: RankerCases, scores: F32) -> NDArray[np.float64]:
    """Return the mean rank of each case's item by `scores` (B, P): (B,), infinite where it is no candidate."""
    found = np.where(cases.valid, scores, np.float32(-np.inf))
    mine = np.take_along_axis(found, np.maximum(cases.targets, 0)[:, None], 1)
    ranks = 1.0 + (found > mine).sum(axis=1) + ((found == mine).sum(axis=1) - 1) / 2
    return np.where(cases.targets >= 0, ranks, np.inf)


def forest_scores(ranker: LearnedRanker, features: F32) -> F32:
    """Return what the trees add to candidates with `features` (B, P, F): (B, P)."""
    flat = np.ascontiguousarray(features.reshape(-1, features.shape[2]).T)
    scores = np.zeros(flat.shape[1], np.float32)
    add_scores(ranker.trees, flat, scores)
    return scores.reshape(features.shape[:2])
