"""Items that people like the user start with and like."""

from __future__ import annotations

from recsys.lists.sources.base import Source
from recsys.lists.sources.models import ModelSource
from recsys.lists.sources.neighbours import NeighbourSource
from recsys.lists.sources.pairs import PairSource
from recsys.models.registry import NEIGHBOUR_KINDS, PAIR_KINDS
from recsys.models.segments.model import SegmentsModel


class SegmentsSource(ModelSource):
    """Scores an item by how likely it is among the first choices of a user with this profile. A user of no segment has no scores."""

    reason = "profile"
    fades = (1, 10)

    def __init__(self) -> None:
        super().__init__(SegmentsModel.kind)


def model_source(kind: str) -> Source:
    """Return the source of a kind of model."""
    if kind in NEIGHBOUR_KINDS:
        return NeighbourSource(kind)
    if kind in PAIR_KINDS:
        return PairSource(kind)
    return SegmentsSource() if kind == SegmentsModel.kind else ModelSource(kind)
