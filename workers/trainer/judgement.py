"""The gate of one round: which events judge, how champion, challenger and popularity did on them, and which one serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.gate import CHAMPION, GateDecision, gate
from recsys.evaluation.protocol import Slice, newest_events
from recsys.evaluation.ranking import Ranked, rank_by_model, rank_by_popularity, rank_by_recent_popularity
from recsys.models.base import Model
from recsys.models.content_map import MappedModel
from recsys.models.popular.model import PopularModel
from workers.models.manifest import TrainedOn
from workers.models.model_files import StoredModel
from workers.settings import TrainerSettings
from workers.trainer.training_columns import TrainingColumns

CHALLENGER = "challenger"
POPULARITY = "popularity"
RECENT_POPULARITY = "recent_popularity"


class NoModel(Exception):
    """The log has nothing that this kind could learn from or be judged on; later rounds may. `champion` goes on serving."""

    def __init__(self, why: str, champion: str | None) -> None:
        super().__init__(why)
        self.champion = champion


@dataclass(frozen=True, slots=True)
class Judging:
    """The events that judge, (n,), and those that the champion has not seen, (n,); None without a champion."""

    newest: NDArray[np.bool_]
    unseen: NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The model of a kind that serves, as it was before it saw the events `newest` (n,), with its map from content if it has one."""

    model: Model | MappedModel
    newest: NDArray[np.bool_]


def choose_slice(
    columns: TrainingColumns, settings: TrainerSettings, trained_on: TrainedOn | None, next_offsets: Mapping[int, int], champion: str | None
) -> Judging:
    """Choose the events that judge; `trained_on` is what the champion has seen.

    Raises: NoModel if the champion has seen all events, or if those that do not judge leave nothing to learn from.
    """
    if not (columns.weights > 0).any():
        raise NoModel(f"none of {len(columns)} events is a preference, all are dislikes", champion)
    unseen: NDArray[np.bool_] | None = None
    arrivals = columns.arrivals()
    if trained_on is not None:
        unseen = columns.unseen_by(trained_on, next_offsets)
        if not unseen.any():
            raise NoModel("no event is newer than those the champion has seen", champion)
        arrivals = columns.arrivals(unseen)
    newest = newest_events(columns.ts_ms, arrivals, settings.holdout, unseen=unseen)
    if not (columns.weights[~newest] > 0).any():
        n_left = len(columns) - int(newest.sum())
        raise NoModel(f"none of the {n_left} events before the newest slice is a preference", champion)
    return Judging(newest, unseen)


def judge(challenger: Model, champion: StoredModel | None, part: Slice) -> dict[str, Ranked]:
    """Rank the cases of a slice by both models and by popularity, by name."""
    ranked = {
        CHALLENGER: rank_by_model(challenger, part),
        POPULARITY: rank_by_popularity(part),
        RECENT_POPULARITY: rank_by_recent_popularity(part),
    }
    return ranked if champion is None else ranked | {CHAMPION: rank_by_model(champion.model, part)}


def decide(ranked: Mapping[str, Ranked], settings: TrainerSettings, kind: str) -> GateDecision:
    """Return the gate's answer. The kind `popular` is popularity itself and need not beat it, but is shown beside it."""
    baselines = {name: ranked[name].scores for name in (POPULARITY, RECENT_POPULARITY)}
    champion = ranked[CHAMPION].scores if CHAMPION in ranked else None
    decision = gate(
        ranked[CHALLENGER].scores,
        champion,
        {} if kind == PopularModel.kind else baselines,
        min_targets=settings.min_targets,
        tolerance=settings.tolerance,
        seed=settings.seed,
    )
    return replace(decision, figures={**decision.figures, **{name: scores.mean_ndcg for name, scores in baselines.items()}})
