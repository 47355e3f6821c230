"""A model that learned from shuffled labels serves nobody, whether it is the first of its kind or a challenger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.models.registry import MODELS
from recsys.models.training_set import TrainingSet
from tests.unit.workers.trainer.test_training_round import append, job
from workers.models.store import ModelStore
from workers.trainer.settling import KindResult
from workers.trainer.training_round import run_job

KINDS = ("ials", "sasrec")
SEEDS = range(4)
N_TASTES, PER_TASTE, N_USERS, PER_USER = 4, 20, 160, 14
OPTIONS = {
    "ials": {"factors": 8, "epochs": 4},
    "sasrec": {"factors": 16, "window": 12, "max_epochs": 6, "patience": 2, "learning_rate": 1e-2, "dropout": 0.0},
}
START_MS = 1_700_000_000_000


def tastes(seed: int) -> list[tuple[str, str, int]]:
    """Users with one taste each, who prefer the items that are popular within it, by time."""
    random = np.random.default_rng(seed)
    share = 1.0 / np.arange(1, PER_TASTE + 1)
    events = []
    for user in range(N_USERS):
        chosen = random.choice(PER_TASTE, PER_USER, replace=False, p=share / share.sum())
        times = np.sort(random.integers(0, 10_000_000, PER_USER))
        events += [(f"u{user}", f"i{user % N_TASTES}-{item}", START_MS + int(at)) for item, at in zip(chosen, times, strict=True)]
    return sorted(events, key=lambda event: event[2])


def shuffle(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Let every kind train on the items of the log in random order: popularity stays, everything else is lost."""
    for name in KINDS:
        kind = MODELS[name]

        def of_shuffled(train: Any) -> Any:
            def fit(interactions: TrainingSet, *rest: Any) -> Any:
                items = np.random.default_rng(seed).permutation(interactions.items)
                return train(replace(interactions, items=items), *rest)

            return train and fit

        monkeypatch.setitem(MODELS, name, replace(kind, fit=of_shuffled(kind.fit), resume=of_shuffled(kind.resume)))


def trained(folder: Path) -> list[KindResult]:
    return run_job(job(folder, kinds=KINDS, options=OPTIONS, min_targets=100, holdout=0.2))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_first_model_of_shuffled_labels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    events = tastes(seed)
    append(tmp_path, 0, len(events), events)
    with monkeypatch.context() as patched:
        shuffle(patched, seed)
        for result in trained(tmp_path):
            assert result.action == "refused" and "not better beyond chance than" in result.reason, result
    for result in trained(tmp_path):
        assert result.action == "promoted", "the same log, with its own labels"


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_a_challenger_of_shuffled_labels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    events = tastes(seed)
    half = len(events) // 2
    append(tmp_path, 0, half, events[:half])
    first = [result.version for result in trained(tmp_path) if result.action == "promoted"]
    assert len(first) == len(KINDS)
    append(tmp_path, half, len(events), events[half:])
    shuffle(monkeypatch, seed)
    for result in trained(tmp_path):
        assert result.action == "refused" and result.figures["lead_over_champion"] < 0, result
        assert ModelStore(str(tmp_path / "models")).champion(result.kind) == result.champion
