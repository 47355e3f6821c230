"""A training that is stopped and goes on from its newest checkpoint ends with the same bits as one that was never stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recsys.models.checkpoint import Checkpoint
from recsys.models.comirec.config import ComiRecConfig
from recsys.models.lightgcn.config import LightGCNConfig
from recsys.models.neumf.config import NeuMFConfig
from recsys.models.registry import MODELS
from recsys.models.sasrec import training as sasrec_training
from recsys.models.sasrec.config import SASRecConfig
from recsys.models.training import Epoch
from recsys.models.two_tower.config import TwoTowerConfig
from tests.unit.recsys.models.model_cases import clustered

SASREC = SASRecConfig(factors=8, window=8, blocks=1, max_epochs=3, batch_positions=16)
TOWERS = TwoTowerConfig(factors=8, hidden=4, max_epochs=3, batch_users=16)
INTERESTS = ComiRecConfig(factors=8, max_epochs=3, batch_users=16)
GRAPH = LightGCNConfig(factors=8, max_epochs=3, batch_users=16)
PAIRS = NeuMFConfig(factors=8, max_epochs=3, batch_users=16)
CASES = {
    "sasrec": ("sasrec", SASREC),
    "sasrec, no average": ("sasrec", replace(SASREC, averaging=0.0)),
    "sasrec, sampled": ("sasrec", replace(SASREC, sampled_above=4, negatives=6)),
    "sasrec, gated": ("sasrec", replace(SASREC, block="hstu", fixed_epochs=2)),
    "two_tower": ("two_tower", TOWERS),
    "two_tower, sampled": ("two_tower", replace(TOWERS, compared_above=4, negatives=6)),
    "comirec, sampled": ("comirec", replace(INTERESTS, compared_above=4, negatives=6)),
    "lightgcn": ("lightgcn", GRAPH),
    "neumf": ("neumf", PAIRS),
}


class Kept:
    """Checkpoints in memory, in the form that files have."""

    def __init__(self) -> None:
        self.kept: Checkpoint | None = None
        self.n_saved, self.refused = 0, list[str]()

    def due(self) -> bool:
        return True

    def save(self, checkpoint: Checkpoint) -> None:
        tensors = {name: tensor.detach().clone() for name, tensor in checkpoint.tensors.items()}
        self.kept = Checkpoint(checkpoint.training, tensors, json.loads(json.dumps(checkpoint.values)))
        self.n_saved += 1

    def newest(self) -> Checkpoint | None:
        return self.kept

    def refuse(self, reason: str) -> None:
        self.kept = None
        self.refused.append(reason)


class Killed(Exception):
    """Ends a training as a kill would, between two steps."""


def killed_after(n_reports: int) -> Callable[[float, str], bool]:
    """Return a progress function that ends the training at a report."""
    left = [n_reports]

    def progress(done: float, message: str) -> bool:
        left[0] -= 1
        if not left[0]:
            raise Killed
        return True

    return progress


@pytest.fixture(autouse=True)
def often_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sasrec_training, "_ASKED_STEPS", 3)
    monkeypatch.setattr(sasrec_training, "_EVALUATION_STEPS", 6)
    monkeypatch.setattr(sasrec_training, "_LEAST_POSITIONS", 16)


@pytest.mark.parametrize("name", CASES)
def test_a_stopped_training_goes_on_to_the_same_bits(name: str) -> None:
    kind, config = CASES[name]
    interactions, resume = clustered(40, length=9), MODELS[kind].resume
    assert resume is not None
    whole, reports = resume(interactions, config, None, None, None), list[str]()
    kept = Kept()
    with pytest.raises(Killed):
        resume(interactions, config, killed_after(2), None, kept)
    if kind == "sasrec":
        with pytest.raises(Killed):
            resume(interactions, config, killed_after(2), None, kept)
    n_saved = kept.n_saved
    assert n_saved
    again = resume(interactions, config, lambda done, message: bool(reports.append(message)) or True, None, kept)
    assert not kept.refused and reports
    for tensor, expected in whole.tensors().items():
        assert np.array_equal(again.tensors()[tensor], expected), tensor
    fresh = list[str]()
    resume(interactions, config, lambda done, message: bool(fresh.append(message)) or True, None, None)
    assert len(reports) == len(fresh) - n_saved, "what was done is not done again"


@pytest.mark.parametrize("change", [{"learning_rate": 0.1}, {"seed": 1}])
def test_another_configuration_starts_over(change: dict[str, Any]) -> None:
    kept, interactions = Kept(), clustered(20, length=6)
    with pytest.raises(Killed):
        sasrec_training.fit(interactions, SASREC, killed_after(2), None, kept)
    other = replace(SASREC, **change)
    again = sasrec_training.fit(interactions, other, None, None, kept)
    assert kept.refused == ["configuration or data differ"]
    assert np.array_equal(again.item_vectors, sasrec_training.fit(interactions, other).item_vectors)


def test_other_data_start_over() -> None:
    kept = Kept()
    with pytest.raises(Killed):
        sasrec_training.fit(clustered(20, length=6), SASREC, killed_after(2), None, kept)
    sasrec_training.fit(clustered(20, length=6, seed=4), SASREC, lambda *_: False, None, kept)
    assert kept.refused == ["configuration or data differ"]


def test_a_checkpoint_of_other_shapes_is_refused_by_name() -> None:
    kept, interactions = Kept(), clustered(20, length=6)
    with pytest.raises(Killed):
        sasrec_training.fit(interactions, SASREC, killed_after(2), None, kept)
    assert kept.kept is not None
    kept.kept = replace(kept.kept, tensors={**kept.kept.tensors, "network.norm.weight": kept.kept.tensors["network.norm.weight"][:3]})
    again = sasrec_training.fit(interactions, SASREC, None, None, kept)
    assert kept.refused == ["network.norm.weight has another shape than this version trains"]
    assert np.array_equal(again.item_vectors, sasrec_training.fit(interactions, SASREC).item_vectors)


@pytest.mark.parametrize("kind", ["sasrec", "lightgcn"])
def test_progress_comes_in_numbers_too(kind: str) -> None:
    seen = list[Epoch]()

    class Watching:
        def __call__(self, done: float, message: str) -> bool:
            return True

        def watch(self, epoch: Epoch) -> None:
            seen.append(epoch)

    config = replace(CASES[kind][1], fixed_epochs=2)
    MODELS[kind].train(clustered(20, length=6), config, lambda: 0.0, Watching())
    assert {(epoch.kind, epoch.number, epoch.epochs) for epoch in seen} == {(kind, 1, 2), (kind, 2, 2)}
    assert all(epoch.loss > 0 for epoch in seen)
    assert [epoch.n_examples for epoch in seen] == sorted({epoch.n_examples for epoch in seen}), "examples add up"
