"""SASRec as a model: item embeddings as item vectors, the network's state after the newest preference as user vector.

Source: Kang & McAuley 2018; cross-entropy over all items as in Klenitskiy & Vasilev 2023 ("Turning Dross Into Gold Loss").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.errors import ShapeError
from recsys.models.base import F32, Histories
from recsys.models.checks import known_options
from recsys.models.sasrec.config import SASRecConfig
from recsys.models.sasrec.network import SIGNALS, Network
from recsys.models.sasrec.signals import ReadSequences

I64 = NDArray[np.int64]

_BEFORE_SIGNALS = dict.fromkeys(SIGNALS, 0)
"""Options of models that were stored before there were these."""
_BLOCK_POSITIONS = 3_200
"""Positions encoded at once: 0.8 MB a tensor at 64 dimensions, so that a block stays in the processor's cache."""


class SASRecModel:
    """A trained network. An item's score is the inner product of its embedding with the state after the newest preference."""

    kind: ClassVar[str] = "sasrec"
    link: ClassVar[Literal["identity", "softmax"]] = "softmax"

    def __init__(self, settings: SASRecConfig, item_ids: list[str], network: Network) -> None:
        if settings.factors % settings.heads:
            raise ShapeError(f"{settings.heads} heads do not divide {settings.factors} factors")
        if network.items.shape != (len(item_ids), settings.factors):
            raise ShapeError(f"item embeddings have shape {tuple(network.items.shape)}, expected {(len(item_ids), settings.factors)}")
        self.settings = settings
        self.item_ids = item_ids
        self.network = network.eval().requires_grad_(False)
        self.item_vectors: F32 = network.items.detach().numpy()
        self.history_length = settings.window
        self._newest_states = self.network.newest_states()

    @property
    def config(self) -> dict[str, Any]:
        return asdict(self.settings)

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {name: parameter.detach().numpy() for name, parameter in self.network.named_parameters()}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        settings = SASRecConfig(**{**_BEFORE_SIGNALS, **known_options(SASRecConfig, config)})
        with torch.device("meta"):
            network = Network(len(item_ids), settings)
        expected = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
        found = {name: tuple(array.shape) for name, array in tensors.items()}
        if expected != found:
            wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
            raise ShapeError(f"tensor {wrong[0]}: got shape {found.get(wrong[0])}, this configuration needs {expected.get(wrong[0])}")
        weights = {name: torch.from_numpy(np.array(array, np.float32)) for name, array in tensors.items()}
        network.load_state_dict(weights, assign=True)
        return cls(settings, item_ids, network)

    @torch.inference_mode()
    def encode(self, histories: Histories) -> F32:
        """Return user vectors (U, D): the network's state after the newest preference.

        Only known items with a weight above 0 are read, at most the newest `history_length` of them. A history without any gives a zero
        vector. Sequences lie one after another, so padding costs nothing and a few users cost few calls.
        """
        read, users = newest_preferences(histories, self.settings.window)
        vectors = np.zeros((len(histories), self.settings.factors), np.float32)
        for part in _blocks(read.starts):
            vectors[users[part]] = self._newest_states(read.part(part))
        return vectors


def _blocks(starts: I64) -> Iterator[slice]:
    """Yield runs of sequences with at most `_BLOCK_POSITIONS` positions together, or a single longer sequence."""
    first = 0
    while first < len(starts) - 1:
        last = max(int(np.searchsorted(starts, starts[first] + _BLOCK_POSITIONS, side="right")) - 1, first + 1)
        yield slice(first, last)
        first = last


def newest_preferences(histories: Histories, window: int) -> tuple[ReadSequences, I64]:
    """Return the newest `window` known preferences of each user who has some, oldest first, and the numbers of these users, ascending."""
    read = (histories.items >= 0) & (histories.weights > 0)
    from_end = np.cumsum(read[:, ::-1], axis=1)[:, ::-1]  # 1: newest
    read &= from_end <= window
    counts = read.sum(axis=1)
    (users,) = np.nonzero(counts)
    starts = np.concatenate(([0], np.cumsum(counts[users]))).astype(np.int64)
    moments_s = np.zeros(len(users), np.float32) if histories.gaps_s is None else histories.gaps_s[users]
    items, weights, ages_s = histories.items[read].astype(np.int64), histories.weights[read], histories.ages_s[read]
    types = np.zeros(len(items), np.uint8) if histories.types is None else histories.types[read]
    return ReadSequences.until(items, weights, types, ages_s, moments_s, starts), users
