"""One round of training: log ▸ train ▸ judge ▸ store ▸ promote or refuse, for each kind of model, then for the recipe."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from recsys.errors import CoreError
from recsys.lists.recipe import Recipe
from workers.errors import WorkerError, describe
from workers.models.store import ModelStore
from workers.settings import ListSettings, Settings, StateSettings, TrainerSettings, WeightSettings
from workers.trainer.event_log import EventLog
from workers.trainer.judgement import NoModel
from workers.trainer.model_round import train_model
from workers.trainer.progress import report, report_traceback
from workers.trainer.recipe_round import RecipeSections, train_recipe_kind
from workers.trainer.settling import KindResult
from workers.trainer.training_columns import TrainingColumns


class TrainingJob(BaseModel):
    """Input of a round; it names neither Kafka nor Redis and holds no secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trainer: TrainerSettings
    weights: WeightSettings
    state: StateSettings = StateSettings()
    lists: ListSettings = ListSettings()
    next_offsets: dict[int, int] | None = None
    """Partition ▸ first offset to leave out; None reads the whole log."""
    catalogue: Path | None = None
    """File with the catalogue; None: nothing is known of the content of items."""

    @classmethod
    def of(cls, settings: Settings, next_offsets: Mapping[int, int] | None = None, catalogue: Path | None = None) -> TrainingJob:
        """Return the job of these settings. Without a `catalogue` no recipe is trained."""
        trainer = settings.trainer
        if catalogue is None:
            trainer = trainer.model_copy(update={"kinds": tuple(kind for kind in trainer.kinds if kind != Recipe.kind)})
        return cls(
            trainer=trainer,
            weights=settings.weights,
            state=settings.state,
            lists=settings.lists,
            next_offsets=None if next_offsets is None else dict(next_offsets),
            catalogue=catalogue,
        )


def _recipe_settings(job: TrainingJob) -> RecipeSections:
    return RecipeSections(job.trainer, job.state, job.lists, job.catalogue)


def run_job(job: TrainingJob) -> list[KindResult]:
    """Train, judge and store every kind of the job. One kind that fails does not keep the others from being trained."""
    log, store = EventLog(job.trainer.log_url, duplicate_chunk=job.state.duplicate_chunk), ModelStore(job.trainer.model_url)
    next_offsets = log.next_offsets() if job.next_offsets is None else job.next_offsets
    columns = TrainingColumns.of(log.read(next_offsets), job.weights)
    results = []
    for kind in sorted(job.trainer.kinds, key=lambda kind: kind == Recipe.kind):
        started = time.monotonic()
        try:
            if kind == Recipe.kind:
                results.append(train_recipe_kind(columns, next_offsets, _recipe_settings(job), store))
            else:
                results.append(train_model(kind, columns, next_offsets, job.trainer, store))
        except NoModel as error:
            results.append(KindResult(kind, "skipped", None, error.champion, f"no model because {error}", {}, time.monotonic() - started))
        except Exception as error:
            expected = isinstance(error, CoreError | WorkerError)
            why = str(error) if expected else f"unexpected {describe(error)}"
            results.append(KindResult(kind, "failed", None, None, f"no model because {why}", {}, time.monotonic() - started))
            report_traceback(error)
        report(str(results[-1]))
    return results
