"""Where a training of SASRec was stopped: within which epoch, after which of its steps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, Self

import numpy as np

from recsys.models.checkpoint import Checkpoint, Checkpoints, Tensors, Trained, go_on_from, set_state
from recsys.models.ranks import ALONE, Ranks


class Stopped(Trained, Protocol):
    """A training, whose best weights are part of a checkpoint only once there are some."""

    def best(self) -> Tensors: ...


@dataclass(slots=True)
class Place:
    """After `step` steps of an `epoch`, both from 0, of `all_steps` that the learning rate is planned for (0: not known yet); `random` is
    the state of the generator at the start of the epoch, from which its batches come."""

    epoch: int
    step: int
    all_steps: int
    random: Any

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Self:
        return cls(*(checkpoint.values[each.name] for each in fields(cls)))


class Resumption:
    """The checkpoints of one training, by its fingerprint."""

    def __init__(self, checkpoints: Checkpoints | None, training: str) -> None:
        self._checkpoints, self._training = checkpoints, training

    def go_on(self, run: Stopped, random: np.random.Generator, ranks: Ranks = ALONE) -> Place:
        """Bring a training and its generator to its newest checkpoint; return where that is, the start if there is none.

        All ranks get to where the first one is, which alone may have a checkpoint or a warm start.
        """
        found = go_on_from(self._checkpoints, self._training, run)
        place = Place(0, 0, 0, None) if found is None else Place.of(found)
        if ranks.count > 1:
            values, tensors = ranks.share(run.values() | asdict(place), run.tensors() | run.best())
            if ranks.number:
                theirs = Checkpoint(self._training, tensors, values)
                run.restore(theirs)
                place = Place.of(theirs)
        if place.random is not None:
            set_state(random, place.random)
        return place

    def save(self, run: Stopped, place: Place) -> None:
        """Keep a checkpoint if one is due."""
        if self._checkpoints is not None and self._checkpoints.due():
            self._checkpoints.save(Checkpoint(self._training, run.tensors() | run.best(), run.values() | asdict(place)))
