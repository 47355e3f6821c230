"""Checkpoints: what a training needs to go on from where it was stopped, and which training that is.

A checkpoint holds everything that a later step reads, so a training that goes on from one ends with the same bits as one that was never
stopped, on one machine, for one number of threads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.models.training_set import TrainingSet

Tensors: TypeAlias = dict[str, torch.Tensor]

LAYOUT = 1
"""Of the names and shapes in a checkpoint; raise it when a training needs others, or does something else with them."""

GROWING = ".moves"
"""End of the names of tensors that grow with a training."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A training at some moment. `training` is its fingerprint, `values` are numbers and texts that JSON can hold."""

    training: str
    tensors: Mapping[str, torch.Tensor]
    values: Mapping[str, Any]


class Checkpoints(Protocol):
    """Keeps the newest checkpoint of one training."""

    def due(self) -> bool:
        """Return whether it is time for another one. The training asks whenever it could make one."""
        ...

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep it instead of the one before."""
        ...

    def newest(self) -> Checkpoint | None: ...

    def refuse(self, reason: str) -> None:
        """Forget the newest one, which is of another training, for a reason that people read."""
        ...


class Trained(Protocol):
    """A part of a checkpoint: its tensors by name, its values, and the way back."""

    def tensors(self) -> Tensors:
        """Return tensors, those of which may be the living ones."""
        ...

    def values(self) -> dict[str, Any]: ...

    def restore(self, checkpoint: Checkpoint) -> None: ...


def fingerprint(kind: str, config: Any, interactions: TrainingSet, more: Iterable[NDArray[Any]] = ()) -> str:
    """Return a hash of configuration, interactions and `more` that a training reads: two trainings with the same hash are the same."""
    digest = hashlib.sha256(json.dumps([LAYOUT, kind, asdict(config), interactions.n_users], sort_keys=True).encode())
    digest.update(json.dumps(interactions.item_ids).encode())
    columns: list[NDArray[Any]] = [interactions.users, interactions.items, interactions.weights, interactions.ts_ms]
    optional = [column for column in (interactions.unseen, interactions.types) if column is not None]
    for column in (*columns, *optional, *more):
        digest.update(f"{column.dtype.str}{column.shape}".encode())
        digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()


def go_on_from(checkpoints: Checkpoints | None, training: str, trained: Trained) -> Checkpoint | None:
    """Bring a training to where its newest checkpoint was, and return that; None if there is none, or it is of another training."""
    found = None if checkpoints is None else checkpoints.newest()
    if found is None or checkpoints is None:
        return None
    if found.training != training:
        checkpoints.refuse("configuration or data differ")
        return None
    for name, living in trained.tensors().items():
        if not _fits(name, found.tensors.get(name), living):
            checkpoints.refuse(f"{name} has another shape than this version trains")
            return None
    trained.restore(found)
    return found


def _fits(name: str, kept: torch.Tensor | None, living: torch.Tensor) -> bool:
    return kept is not None and kept.dtype == living.dtype and (kept.shape == living.shape or name.endswith(GROWING))


def prefixed(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Return tensors under longer names."""
    return {f"{prefix}.{name}": tensor.detach() for name, tensor in tensors.items()}


def under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Return the tensors that `prefixed` named so, by their own names."""
    return {name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}


def state_of(random: np.random.Generator) -> Any:
    """Return the state of a generator as JSON can hold it."""
    return random.bit_generator.state


def set_state(random: np.random.Generator, state: Any) -> None:
    """Bring a generator to a state of `state_of`."""
    random.bit_generator.state = state
