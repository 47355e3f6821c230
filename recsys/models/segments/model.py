"""Segments as a model: the logarithm of how likely an item is among a user's first choices is linear in the user's segments.

    log p(i | user) = start(i) + Σ_s lift(s, i) + const        s: the segments of the user

A softmax over the items makes it a probability. A user of no segment has no scores.

Shapes: U users, I items, S segments, D = 1 + S dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ModelError, ShapeError
from recsys.models.base import F32, Histories
from recsys.models.checks import known_options
from recsys.models.segments.config import SegmentsConfig
from recsys.models.segments.segment import Membership, Segment
from recsys.state.profiles import ProfileColumns

LEAST_LOGIT = -60.0
"""Logits are cut here: the exponential of less is 0 beside that of 0 in float32."""


class SegmentsModel:
    """Item vectors (I, D) are `start` and then the lifts by segment; a user's vector has a 1 for `start` and for each segment."""

    kind: ClassVar[str] = "segments"
    link: ClassVar[Literal["identity", "softmax"]] = "softmax"

    def __init__(self, settings: SegmentsConfig, segments: Sequence[Segment], item_ids: list[str], item_vectors: F32) -> None:
        """Raises: ShapeError for vectors that do not fit, ModelError without segments, or for some that are the same."""
        if item_vectors.shape != (len(item_ids), 1 + len(segments)):
            raise ShapeError(f"item vectors have shape {item_vectors.shape}, expected {(len(item_ids), 1 + len(segments))}")
        if not segments:
            raise ModelError("the model knows no segments")
        self.settings, self.segments, self.item_ids, self.item_vectors = settings, tuple(segments), item_ids, item_vectors
        self.history_length = 1
        self._membership = Membership(self.segments)

    @property
    def config(self) -> dict[str, Any]:
        return {**asdict(self.settings), "segments": [segment.as_json() for segment in self.segments]}

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {"item_vectors": self.item_vectors}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        settings = SegmentsConfig(**known_options(SegmentsConfig, config))
        given = config.get("segments")
        if not isinstance(given, list | tuple):
            raise ModelError("model option segments: it must be a list")
        return cls(settings, [Segment.of(one) for one in given], item_ids, np.asarray(tensors["item_vectors"], np.float32))

    def encode(self, histories: Histories) -> F32:
        """Return zero vectors (U, D): histories say nothing about segments."""
        return np.zeros((len(histories), self.item_vectors.shape[1]), np.float32)

    def encode_profiles(self, profiles: ProfileColumns) -> F32:
        """Return user vectors (U, D): zero for a user of no segment."""
        vectors = np.zeros((len(profiles), self.item_vectors.shape[1]), np.float32)
        self._membership.mark(profiles, vectors[:, 1:])
        vectors[:, 0] = vectors[:, 1:].any(axis=1)
        return vectors

    def scores_of(self, attribute: str, value: str | float) -> F32 | None:
        """Return the probability of each item among the first choices of one segment's users, (I,); None if there is no such segment."""
        for place, segment in enumerate(self.segments):
            if segment.holds(attribute, value):
                logits = self.item_vectors[:, 0] + self.item_vectors[:, 1 + place]
                shares = np.exp(logits - logits.max())
                probabilities: F32 = (shares / shares.sum()).astype(np.float32)
                return probabilities
        return None
