"""Training on a graphics card, as far as a machine without one can tell: where each number is, and that nothing waits for the card."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recsys.errors import ModelError
from recsys.models import devices
from recsys.models.ranks import ALONE
from recsys.models.sasrec import training
from recsys.models.sasrec.config import SASRecConfig
from recsys.models.sasrec.network import Network
from recsys.models.sasrec.precision import number_type
from recsys.models.sasrec.sequences import Batch, Sequences, windows

ELSEWHERE = torch.device("meta")
"""A device whose numbers do not exist: to ask for one is an error, where a graphics card would let the processor wait."""
MOVES = ("aten::_to_copy", "aten::copy_")
SIGNALS: dict[str, Any] = {"gaps": 1, "strengths": 1, "types": 1}


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of two devices, as a graphics card does."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [one for one in tree_leaves((args, kwargs or {})) if isinstance(one, torch.Tensor) and one.ndim]
        if func.name().split(".")[0] not in MOVES and len({one.device for one in given}) > 1:
            raise RuntimeError(f"{func.name()} of tensors on two devices")
        return func(*args, **(kwargs or {}))


def batches(window: int, n_items: int) -> list[Batch]:
    random = np.random.default_rng(0)
    lengths = random.integers(2, 2 * window, 30)
    n, starts = int(lengths.sum()), np.concatenate([[0], np.cumsum(lengths)])
    items, times_s = random.integers(0, n_items, n), np.sort(random.integers(0, 10**6, n))
    sequences = Sequences(items, starts, times_s, np.ones(n, np.float32), np.zeros(n, np.uint8))
    return windows(sequences, window, 120, random, 0.5)


def run_of(config: SASRecConfig, n_items: int) -> training._Run:
    return training._Run(Network(n_items, config).to(ELSEWHERE), config, torch.ones(n_items), None, torch.Generator().manual_seed(0), ALONE)


@pytest.mark.parametrize("sampled_above", [1, 1_000], ids=["sampled", "full"])
@pytest.mark.parametrize("block", ["sasrec", "hstu"])
def test_a_step_mixes_no_devices_and_asks_for_no_number(block: str, sampled_above: int) -> None:
    config = SASRecConfig(block=block, factors=8, heads=2, window=6, sampled_above=sampled_above, negatives=16, dropout=0.0, **SIGNALS)
    run = run_of(config, 40)
    with OneDevice():
        for at, batch in enumerate(batches(6, 40)[:3], 1):
            run._n_steps = at
            loss = run._step(batch, 1e-3)
            assert loss.device == ELSEWHERE and loss.shape == (1,)
        run._settle()
    assert all(parameter.device == ELSEWHERE for parameter in run._average.network.parameters())
    with pytest.raises((RuntimeError, NotImplementedError)):
        float(loss)


def test_mixing_devices_would_be_seen_forwards_and_backwards() -> None:
    there = torch.zeros(3, 4, device=ELSEWHERE, requires_grad=True)
    with OneDevice():
        for mixed in (lambda: there @ torch.zeros(4, 2), lambda: there[torch.zeros(2, dtype=torch.int64)], lambda: there + torch.zeros(4)):
            with pytest.raises(RuntimeError, match="on two devices"):
                mixed()
        with pytest.raises(RuntimeError):
            torch.autograd.backward((there * 2).sum(0), torch.zeros(4))


@pytest.fixture
def a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_auto_takes_a_card_if_there_is_one_and_each_process_another(a_card: None) -> None:
    assert [devices.device_of("auto", number) for number in range(3)] == [torch.device("cuda", place) for place in (0, 1, 0)]
    assert devices.device_of("cuda") == torch.device("cuda", 0) and devices.device_of("cpu", 1) == torch.device("cpu")


def test_a_card_that_is_not_there_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.device_of("auto") == torch.device("cpu")
    for version, says in ((None, "this build of torch has no CUDA"), ("13.0", "torch finds no card")):
        monkeypatch.setattr(torch.version, "cuda", version)
        with pytest.raises(ModelError, match=f"{says}: install a build of torch with CUDA, or set it to auto or cpu"):
            devices.device_of("cuda")
    with pytest.raises(ModelError, match="sasrec option device: got 'gpu', needs one of auto, cpu, cuda"):
        SASRecConfig(device="gpu")


def test_bfloat16_where_the_card_computes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    card = torch.device("cuda", 0)
    for capability, numbers in (((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        assert number_type("auto", card) == numbers and number_type("float32", card) == torch.float32
