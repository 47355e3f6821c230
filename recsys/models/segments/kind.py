"""The entry of segments in the table of models."""

from __future__ import annotations

from typing import Any

from recsys.models.base import Model
from recsys.models.kind import ModelKind
from recsys.models.segments.config import SegmentsConfig
from recsys.models.segments.model import SegmentsModel
from recsys.models.training import Progress
from recsys.models.training_set import TrainingSet


def _without_profiles(
    interactions: TrainingSet, config: SegmentsConfig, progress: Progress | None = None, warm_start: Any = None
) -> Model:
    """Raises: TypeError. Interactions alone say nothing about segments: `recsys.models.segments.fit` trains them."""
    raise TypeError("segments are trained from interactions and profiles, by recsys.models.segments.fit")


KIND = ModelKind(SegmentsModel, SegmentsConfig, _without_profiles)
