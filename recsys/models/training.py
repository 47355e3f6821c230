"""Shared parts of training: progress reports, and warm starts from an earlier model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]

Progress: TypeAlias = Callable[[float, str], bool]
"""Takes the share done (0 to 1) and a line for people. Returning False stops the training, which keeps what it has learnt so far."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """The place of a training: in which of `epochs` it is, `number` (from 1), the mean loss of it, and the examples since it began or went
    on."""

    kind: str
    number: int
    epochs: int
    loss: float
    n_examples: int


@runtime_checkable
class Watches(Protocol):
    """A progress function that also takes how far a training is in numbers, just before it takes the same as a line."""

    def __call__(self, done: float, message: str) -> bool: ...

    def watch(self, epoch: Epoch) -> None: ...


def go_on(progress: Progress | None, done: float, message: str, epoch: Epoch | None = None) -> bool:
    """Report progress; return False if the training should stop."""
    if epoch is not None and isinstance(progress, Watches):
        progress.watch(epoch)
    return True if progress is None else progress(done, message)


class _Within:
    """A progress function that also ends the training at a moment."""

    def __init__(self, ends: float, clock: Callable[[], float], progress: Progress | None) -> None:
        self._ends, self._clock, self._progress = ends, clock, progress

    def __call__(self, done: float, message: str) -> bool:
        return go_on(self._progress, done, message) and self._clock() < self._ends

    def watch(self, epoch: Epoch) -> None:
        if isinstance(self._progress, Watches):
            self._progress.watch(epoch)


def within(minutes: float, clock: Callable[[], float], progress: Progress | None = None) -> Progress | None:
    """Return a progress function that also ends the training after so many minutes of `clock`, which counts seconds; 0: no end."""
    return _Within(clock() + 60.0 * minutes, clock, progress) if minutes else progress


def warm_rows(item_ids: Sequence[str], earlier_ids: Sequence[str]) -> tuple[I64, I64]:
    """Return the positions of the K items that both models know, on the new item axis and on the earlier one: two (K,) int64."""
    earlier = {item_id: position for position, item_id in enumerate(earlier_ids)}
    matches = [(here, earlier[item_id]) for here, item_id in enumerate(item_ids) if item_id in earlier]
    table = np.array(matches, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
