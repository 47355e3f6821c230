"""The order that a trainer gives to the process that trains."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from recsys.models.registry import PROFILE_MODELS
from workers.content_settings import ContentSettings
from workers.models.model_files import LIST_MAKERS
from workers.settings import ListSettings, Settings, StateSettings, TrainerSettings, WeightSettings


class TrainingJob(BaseModel):
    """Input of a round; it names neither Kafka nor Redis and holds no secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trainer: TrainerSettings
    weights: WeightSettings
    state: StateSettings = StateSettings()
    lists: ListSettings = ListSettings()
    content: ContentSettings = ContentSettings()
    next_offsets: dict[int, int] | None = None
    """Partition ▸ first offset to leave out; None reads the whole log."""
    catalogue: Path | None = None
    """File with the catalogue; None: nothing is known of the content of items."""
    profiles: Path | None = None
    """File with the profiles; None: nothing is known of users."""

    def key(self) -> str:
        """Return a hash of the settings that decide what a training makes of a log."""
        ruling = self.model_dump_json(include={"trainer", "weights", "state"})
        return hashlib.sha256(ruling.encode()).hexdigest()

    @classmethod
    def of(
        cls,
        settings: Settings,
        next_offsets: Mapping[int, int] | None = None,
        catalogue: Path | None = None,
        profiles: Path | None = None,
    ) -> TrainingJob:
        """Return the job of these settings. Without a `catalogue` no recipe or ranker is trained, and nothing is learnt from content;
        without `profiles` no segments are."""
        lacking = {**dict.fromkeys(LIST_MAKERS, catalogue is None), **dict.fromkeys(PROFILE_MODELS, profiles is None)}
        kinds = tuple(kind for kind in settings.trainer.kinds if not lacking.get(kind))
        trainer = settings.trainer if kinds == settings.trainer.kinds else settings.trainer.model_copy(update={"kinds": kinds})
        return cls(
            trainer=trainer,
            weights=settings.weights,
            state=settings.state,
            lists=settings.lists,
            content=settings.content if catalogue is not None else ContentSettings(),
            next_offsets=None if next_offsets is None else dict(next_offsets),
            catalogue=catalogue,
            profiles=profiles,
        )
