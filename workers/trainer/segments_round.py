"""A round for segments: learn them from likes and profiles, judge them by the first choices of new users, store and settle."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys.errors import TooFewInteractions
from recsys.evaluation.first_choices import FirstChoices, rank_by_profile
from recsys.evaluation.gate import CHAMPION, GATE_METRIC
from recsys.evaluation.protocol import Slice
from recsys.evaluation.ranking import Ranked, rank_by_popularity, rank_by_recent_popularity
from recsys.models.registry import PROFILE_MODELS
from recsys.models.segments.config import SegmentsConfig
from recsys.models.segments.fit import Likes, fit
from recsys.models.segments.model import SegmentsModel
from workers.models.manifest import Refit
from workers.models.store import ModelStore
from workers.settings import TrainerSettings
from workers.trainer.judgement import CHALLENGER, POPULARITY, RECENT_POPULARITY, HeldOut, NoModel, choose_slice, decide
from workers.trainer.profiles_file import Profiles
from workers.trainer.progress import report, reporter
from workers.trainer.settling import Candidate, Champion, KindResult, champion_of, settle
from workers.trainer.training_columns import TrainingColumns


def train_segments(
    columns: TrainingColumns,
    profiles: Profiles | None,
    next_offsets: Mapping[int, int],
    settings: TrainerSettings,
    store: ModelStore,
) -> tuple[KindResult, HeldOut | None]:
    """Train, judge and store segments. Return what came of it, and the model that serves now as it was before it saw the newest events;
    None if none serves. Raises NoModel, CoreError, WorkerError."""
    kind = SegmentsModel.kind
    champion = champion_of(kind, columns, settings, store)
    if profiles is None or not profiles.attributes:
        raise NoModel("no user of the log has a profile with attributes", champion.version)
    judging = choose_slice(columns, settings, champion.trained_on, next_offsets, champion.version)
    config = PROFILE_MODELS[kind].configure(settings.options.get(kind, {}), {"seed": settings.seed})
    started = time.monotonic()
    try:
        model = _fit(columns, profiles, ~judging.newest, config, settings)
    except TooFewInteractions as error:
        raise NoModel(str(error), champion.version) from None
    train_s = time.monotonic() - started
    part = _part(columns, profiles, judging.newest)
    ranked = _judge(model, champion, part)
    decision = decide(ranked, settings, kind)
    reason = decision.reason.replace("targets of users with a history", "first choices of new users with a profile")
    decision = replace(decision, reason=reason.replace("target of a user with a history", "first choice of a new user with a profile"))
    candidate = Candidate(model, train_s, judging.newest)
    if decision.promote:
        whole = _fit(columns, profiles, np.ones(len(columns), np.bool_), config, settings)
        after = rank_by_profile(whole, part).metrics()[GATE_METRIC]
        judged = ranked[CHALLENGER].metrics()[GATE_METRIC]
        refit = Refit(split_ts_ms=part.split_ts_ms, metric=GATE_METRIC, judged=judged, after=after)
        if after >= judged:
            candidate = replace(candidate, content=whole, refit=refit)
        else:
            report(f"{kind}: with the newest slice it is worse even there ({after:.4f}); the judged model serves as it is")
    result = settle(kind, champion, candidate, ranked, decision, columns, next_offsets, settings, store)
    if result.action == "promoted":
        return result, HeldOut(model, judging.newest)
    return result, None if champion.stored is None else HeldOut(champion.stored.model, judging.newest)


def _fit(
    columns: TrainingColumns, profiles: Profiles, chosen: NDArray[np.bool_], config: SegmentsConfig, settings: TrainerSettings
) -> SegmentsModel:
    """Learn from the first likes of each user and item among the `chosen` events (n,)."""
    liked = np.flatnonzero(chosen & (columns.weights > 0))
    liked = liked[np.lexsort((columns.arrivals()[liked], columns.ts_ms[liked]))]
    pairs = columns.user_codes[liked].astype(np.int64) * len(columns.item_ids) + columns.item_codes[liked]
    places = np.sort(np.unique(pairs, return_index=True)[1])
    once = liked[places]
    likes = Likes(columns.user_codes[once].astype(np.int64), columns.item_codes[once].astype(np.int64), places)
    return fit(likes, profiles.columns, profiles.attributes, columns.item_ids, config, reporter(settings.max_seconds))


def _part(columns: TrainingColumns, profiles: Profiles, newest: NDArray[np.bool_]) -> FirstChoices:
    part = Slice.cut(columns.user_codes, columns.item_codes, columns.item_ids, columns.weights, columns.ts_ms, newest)
    return FirstChoices.of(part, profiles.columns.at(np.unique(columns.user_codes).astype(np.int64)))


def _judge(challenger: SegmentsModel, champion: Champion, part: FirstChoices) -> dict[str, Ranked]:
    """Rank the first choices of new users by both models and by popularity, by name."""
    ranked = {
        CHALLENGER: rank_by_profile(challenger, part),
        POPULARITY: rank_by_popularity(part),
        RECENT_POPULARITY: rank_by_recent_popularity(part),
    }
    stored = None if champion.stored is None else champion.stored.model
    return ranked | {CHAMPION: rank_by_profile(stored, part)} if isinstance(stored, SegmentsModel) else ranked
