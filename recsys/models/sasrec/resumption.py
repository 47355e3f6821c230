"""Where a training of SASRec was stopped: within which epoch, after which of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from recsys.models.checkpoint import Checkpoint, Checkpoints, Tensors, Trained, go_on_from, set_state


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


class Resumption:
    """The checkpoints of one training, by its fingerprint."""

    def __init__(self, checkpoints: Checkpoints | None, training: str) -> None:
        self._checkpoints, self._training = checkpoints, training

    def go_on(self, run: Stopped, random: np.random.Generator) -> Place:
        """Bring a training and its generator to its newest checkpoint; return where that is, the start if there is none."""
        found = go_on_from(self._checkpoints, self._training, run)
        if found is None:
            return Place(0, 0, 0, None)
        values = found.values
        set_state(random, values["random"])
        return Place(values["epoch"], values["step"], values["all_steps"], values["random"])

    def save(self, run: Stopped, place: Place) -> None:
        """Keep a checkpoint if one is due."""
        if self._checkpoints is not None and self._checkpoints.due():
            at = {"epoch": place.epoch, "step": place.step, "all_steps": place.all_steps, "random": place.random}
            self._checkpoints.save(Checkpoint(self._training, run.tensors() | run.best(), run.values() | at))
