"""Processes that train one model together take the steps of one process; here they are threads."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from recsys.models.base import Model
from recsys.models.registry import MODELS
from recsys.models.sasrec import training as sasrec_training
from recsys.models.sasrec.config import SASRecConfig
from recsys.models.sasrec.sequences import Sequences, share_of, windows
from recsys.models.training import Epoch
from recsys.models.training_set import TrainingSet
from tests.unit.recsys.models.model_cases import clustered
from tests.unit.recsys.models.test_checkpoints import Kept, Killed, killed_after

SASREC = SASRecConfig(factors=8, window=8, blocks=1, max_epochs=3, batch_positions=64, dropout=0.0, precision="float32")
CASES = {
    "plain": SASREC,
    "no average": replace(SASREC, averaging=0.0),
    "sampled": replace(SASREC, sampled_above=4, negatives=6),
    "gated": replace(SASREC, block="hstu", gaps=1, types=1),
    "few rows in a batch": replace(SASREC, batch_positions=16),
    "nothing held back": replace(SASREC, fixed_epochs=2),
}


class Meeting:
    """Where threads meet: what each brings is there for all."""

    def __init__(self, count: int) -> None:
        self.count, self.barrier = count, threading.Barrier(count, timeout=60)
        self.brought: list[Any] = [None] * count


class ThreadRanks:
    """Ranks that are threads of one process."""

    def __init__(self, meeting: Meeting, number: int) -> None:
        self.meeting, self.number, self.count = meeting, number, meeting.count

    def _all(self, brought: Any) -> list[Any]:
        self.meeting.brought[self.number] = brought
        self.meeting.barrier.wait()
        found = list(self.meeting.brought)
        self.meeting.barrier.wait()
        return found

    def sum(self, tensors: Sequence[torch.Tensor]) -> None:
        every = self._all([tensor.clone() for tensor in tensors])
        for place, tensor in enumerate(tensors):
            tensor.copy_(torch.stack([each[place] for each in every]).sum(0))

    def share(self, values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        said = json.dumps(values), {name: tensor.detach().clone() for name, tensor in tensors.items()}
        values_text, first = self._all(said)[0]
        return json.loads(values_text), {name: tensor.clone() for name, tensor in first.items()}

    def joined(self, kind: str, config: Any, interactions: TrainingSet) -> AbstractContextManager[None]:
        return nullcontext()


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sasrec_training, "_ASKED_STEPS", 3)
    monkeypatch.setattr(sasrec_training, "_EVALUATION_STEPS", 6)
    monkeypatch.setattr(sasrec_training, "_LEAST_POSITIONS", 16)


def trained(count: int, config: SASRecConfig, data: TrainingSet, progress: Any = None, warm: Model | None = None, kept: Any = None) -> Any:
    """Return the first rank's model; raise what it raised."""
    meeting, found = Meeting(count), list[Any]()

    def run(number: int) -> None:
        own = (progress, warm, kept) if number == 0 else (None, None, None)
        try:
            model = sasrec_training.fit(data, config, *own, ranks=ThreadRanks(meeting, number))
            if number == 0:
                found.append(model)
        except threading.BrokenBarrierError:
            return
        except BaseException as error:
            found.append(error)
            meeting.barrier.abort()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


class Losses:
    """Notes the loss of each report."""

    def __init__(self) -> None:
        self.of: list[float] = []

    def watch(self, epoch: Epoch) -> None:
        self.of.append(epoch.loss)

    def __call__(self, done: float, message: str) -> bool:
        return True


@pytest.mark.parametrize(("name", "count"), [*((name, 2) for name in CASES), ("few rows in a batch", 3)])
def test_ranks_have_the_losses_and_the_model_of_one(name: str, count: int) -> None:
    data, alone, together = clustered(40, length=9), Losses(), Losses()
    one = sasrec_training.fit(data, CASES[name], alone)
    several = trained(count, CASES[name], data, together)
    assert len(alone.of) > 5 and alone.of[-1] < alone.of[0], "it learns"
    np.testing.assert_allclose(together.of, alone.of, rtol=2e-4)
    np.testing.assert_allclose(several.item_vectors, one.item_vectors, atol=5e-3)


def test_ranks_warm_start_from_the_first_one_s_model() -> None:
    data = clustered(40, length=9)
    before = sasrec_training.fit(data, SASREC)
    short, alone, together = replace(SASREC, fixed_epochs=1), Losses(), Losses()
    sasrec_training.fit(data, short, alone, before)
    trained(2, short, data, together, before)
    np.testing.assert_allclose(together.of, alone.of, rtol=2e-4)


@pytest.mark.parametrize("config", [replace(SASREC, dropout=0.3), replace(SASREC, dropout=0.3, sampled_above=4, negatives=6)])
def test_stopped_ranks_go_on_to_the_same_bits(config: SASRecConfig) -> None:
    data, kept = clustered(40, length=9), Kept()
    whole = trained(2, config, data)
    with pytest.raises(Killed):
        trained(2, config, data, killed_after(3), None, kept)
    assert kept.n_saved
    again = trained(2, config, data, None, None, kept)
    assert not kept.refused
    np.testing.assert_array_equal(again.item_vectors, whole.item_vectors)


def test_the_first_one_s_progress_stops_all() -> None:
    asked: list[float] = []

    def once(done: float, message: str) -> bool:
        asked.append(done)
        return len(asked) < 2

    assert trained(2, SASREC, clustered(40, length=9), once) is not None and len(asked) == 2


def test_the_shares_of_a_batch_are_all_of_it() -> None:
    items = np.array([1, 2, 3, 4, 5, 6, 7, 1, 2])
    users = Sequences(items, np.array([0, 4, 7, 9]), np.arange(9), np.ones(9, np.float32), np.zeros(9, np.uint8))
    batch = windows(users, 8, 100, np.random.default_rng(0))[0]
    shares = [share_of(batch, number, 4) for number in range(4)]
    assert sum(share for _, share in shares) == pytest.approx(1)
    assert [len(own.inputs) for own, _ in shares] == [1, 1, 1, 0] and shares[3][1] == 0
    assert torch.cat([own.targets for own, _ in shares]).equal(batch.targets)
    assert share_of(batch, 0, 1) == (batch, 1.0)


def test_kinds_that_train_together_say_so() -> None:
    assert [name for name, kind in MODELS.items() if kind.together is not None] == ["sasrec"]
