"""Processes that train one model together: each computes the gradients of its share of every step, and all follow their sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch

from recsys.models.training_set import TrainingSet


class Ranks(Protocol):
    """The processes of one training. Each of them calls the same functions in the same order; the first one leads."""

    number: int
    """Which one this is, from 0."""
    count: int

    def sum(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor, of any shape, by the sum of those that the processes have in its place."""
        ...

    def share(self, values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Return what the first process gives, values as JSON holds them; what others give is not read."""
        ...

    def joined(self, kind: str, config: Any, interactions: TrainingSet) -> AbstractContextManager[None]:
        """Have the other processes train this kind on the same data while the context lasts. Only the first process calls it."""
        ...


class Alone:
    """One process, which waits for nobody."""

    number, count = 0, 1

    def sum(self, tensors: Sequence[torch.Tensor]) -> None:
        return None

    def share(self, values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        return dict(values), dict(tensors)

    def joined(self, kind: str, config: Any, interactions: TrainingSet) -> AbstractContextManager[None]:
        return nullcontext()


ALONE = Alone()
