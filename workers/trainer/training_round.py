"""One round of training: log ▸ train ▸ judge ▸ store ▸ promote or refuse, for each kind of model, then for the recipe and the ranker."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from recsys.catalogue.item_vectors import ItemVectors
from recsys.errors import CoreError
from recsys.lists.learned.ranker import LearnedRanker
from recsys.lists.recipe import Recipe
from recsys.models.descriptions import ItemDescriptions
from recsys.models.ranks import ALONE, Ranks
from recsys.models.registry import ATTRIBUTE_KINDS, CONTENT_KINDS, PROFILE_MODELS
from workers.errors import WorkerError, describe
from workers.models.checkpoint_header import unfinished
from workers.models.store import ModelStore
from workers.trainer.event_devices import devices_by_event
from workers.trainer.event_log import EventLog
from workers.trainer.impressions import counts_shown
from workers.trainer.judgement import HeldOut, NoModel
from workers.trainer.map_round import MapMaker
from workers.trainer.model_round import train_model
from workers.trainer.positions import weights_by_position
from workers.trainer.profiles_file import read_profiles
from workers.trainer.progress import report, report_traceback
from workers.trainer.ranker_round import train_ranker_kind
from workers.trainer.recipe_round import RecipeSections, train_recipe_kind
from workers.trainer.segments_round import train_segments
from workers.trainer.settling import KindResult
from workers.trainer.text_round import train_texts
from workers.trainer.training_columns import TrainingColumns
from workers.trainer.training_job import TrainingJob


def run_job(job: TrainingJob, ranks: Ranks = ALONE) -> list[KindResult]:
    """Train, judge and store every kind of the job. One kind that fails does not keep the others from being trained. `ranks` train with
    this process, which is the first of them."""
    log, store = EventLog(job.trainer.log_url, duplicate_chunk=job.state.duplicate_chunk), ModelStore(job.trainer.model_url)
    next_offsets = _range_of(job, store, log.next_offsets() if job.next_offsets is None else job.next_offsets)
    events = log.read(next_offsets)
    with_shown = counts_shown(job.trainer.kinds, job.state)
    columns, profiles = TrainingColumns.of(events, job.weights, with_shown=with_shown), None
    if job.profiles is not None and not {*PROFILE_MODELS, *ATTRIBUTE_KINDS}.isdisjoint(job.trainer.kinds):
        profiles = read_profiles(job.profiles, events.user_ids)
    results, held_out = list[KindResult](), dict[str, HeldOut]()
    texts = _texts(job, columns, store, results)
    recipe_settings = RecipeSections(job.trainer, job.state, job.lists, job.catalogue, texts)
    descriptions = _descriptions(job, columns, recipe_settings)
    columns = replace(columns, descriptions=descriptions, profiles=None if profiles is None else profiles.of_users())
    maps = None if descriptions is None or not job.content.maps else MapMaker(descriptions)
    for kind in sorted(job.trainer.kinds, key=lambda kind: (kind == LearnedRanker.kind, kind == Recipe.kind)):
        started = time.monotonic()
        try:
            if kind == Recipe.kind:
                of_recipe = train_recipe_kind(columns, next_offsets, recipe_settings, store, held_out, profiles)
                results.extend(of_recipe)
                for retired in of_recipe[1:]:
                    report(str(of_recipe[0]))
                    held_out.pop(retired.kind, None)
            elif kind == LearnedRanker.kind:
                around = log.read(next_offsets, surroundings=True)
                known = weights_by_position(around, job.weights), devices_by_event(around, job.weights)
                results.append(train_ranker_kind(columns, next_offsets, recipe_settings, store, held_out, profiles, *known))
            else:
                if kind in PROFILE_MODELS:
                    result, serving = train_segments(columns, profiles, next_offsets, job.trainer, store)
                else:
                    result, serving = train_model(kind, columns, next_offsets, job.trainer, store, maps, job.key(), ranks)
                results.append(result)
                if serving is not None:
                    held_out[kind] = serving
        except NoModel as error:
            results.append(KindResult(kind, "skipped", None, error.champion, f"no model because {error}", {}, time.monotonic() - started))
        except Exception as error:
            results.append(_failed(kind, "no model", error, started))
        report(str(results[-1]))
    return results


def _range_of(job: TrainingJob, store: ModelStore, next_offsets: Mapping[int, int]) -> dict[int, int]:
    """Return the part of the log that this round reads: that of a round with these settings which was stopped and left a checkpoint, so
    that its training can go on; else all of it."""
    if job.trainer.checkpoint_s:
        for header in unfinished(store, job.trainer.kinds):
            if header.job == job.key() and all(end <= next_offsets.get(place, 0) for place, end in header.next_offsets.items()):
                n_events = sum(header.next_offsets.values())
                report(f"a round was stopped {header.age_s:,.0f} s ago: this one goes on with its {n_events:,} events")
                return dict(header.next_offsets)
    return dict(next_offsets)


def _descriptions(job: TrainingJob, columns: TrainingColumns, sections: RecipeSections) -> ItemDescriptions | None:
    """Return what the items of the log say, if anything is learnt from it."""
    if not job.content.maps and (job.catalogue is None or set(CONTENT_KINDS).isdisjoint(job.trainer.kinds)):
        return None
    return ItemDescriptions.of(sections.contents(columns.item_ids), columns.item_ids)


def _texts(job: TrainingJob, columns: TrainingColumns, store: ModelStore, results: list[KindResult]) -> ItemVectors | None:
    """Return the vectors of items' texts, brought up to date; None without a language model, or if there are none. What fails keeps no
    model from being trained."""
    if job.content.text_model is None or job.catalogue is None:
        return None
    started = time.monotonic()
    try:
        vectors, result = train_texts(job.catalogue, columns, job.content, job.trainer, store)
    except Exception as error:
        vectors, result = None, _failed(ItemVectors.kind, "no vectors of texts", error, started)
    results.append(result)
    report(str(result))
    return vectors


def _failed(kind: str, what: str, error: Exception, started: float) -> KindResult:
    """Return the result of a kind whose training failed at `started`, a monotonic time."""
    report_traceback(error)
    why = str(error) if isinstance(error, CoreError | WorkerError) else f"unexpected {describe(error)}"
    return KindResult(kind, "failed", None, None, f"{what} because {why}", {}, time.monotonic() - started)
