"""Gated blocks: the contract of models, times, and the compiled path beside the one of training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.errors import ModelError
from recsys.models.base import Histories
from recsys.models.registry import load_model
from recsys.models.sasrec.config import SASRecConfig
from recsys.models.sasrec.gated import Pairs
from recsys.models.sasrec.gated_kernel import N_TIMES
from recsys.models.sasrec.model import SASRecModel
from recsys.models.sasrec.network import SIGNALS, Network, Signals
from recsys.models.sasrec.signals import strength_classes
from recsys.models.sasrec.training import fit
from recsys.models.training_set import TrainingSet
from tests.unit.recsys.models.model_cases import N_ITEMS, clustered, histories_of

CONFIG = SASRecConfig(block="hstu", factors=16, heads=2, window=16, max_epochs=10, learning_rate=1e-2, patience=12, precision="float32")
ROWS = [[1, 2, 3], [], [20, 21], [5] * 12, [80, 81, 82, 83]]


def untrained(heads: int = 2, blocks: int = 2, times: int = 1, gaps: int = 1) -> SASRecModel:
    signals = dict.fromkeys(SIGNALS, gaps)
    config = SASRecConfig(block="hstu", factors=16, heads=heads, blocks=blocks, window=12, times=times, **signals)
    network = Network(30, config)
    generator = torch.Generator().manual_seed(1)
    network.initialise(generator)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith((".distances", ".times")):
                parameter.normal_(0, 2.0, generator=generator)
            elif name in SIGNALS:
                parameter.normal_(0, 0.1, generator=generator)
    return SASRecModel(config, [str(i) for i in range(30)], network)


@pytest.fixture(scope="module")
def trained() -> SASRecModel:
    return fit(clustered(150), CONFIG)


def test_the_contract_of_models_holds(trained: SASRecModel) -> None:
    histories = histories_of(ROWS, 28)
    vectors = trained.encode(histories)
    assert vectors.shape == (len(ROWS), 16) and vectors.dtype == np.float32
    assert np.array_equal(vectors, trained.encode(histories))
    assert not vectors[1].any() and vectors[[0, 2, 3, 4]].any(axis=1).all()
    again = load_model("sasrec", trained.config, trained.item_ids, trained.tensors())
    assert np.array_equal(again.encode(histories), vectors)
    for row in range(len(ROWS)):
        alone = Histories(histories.items[[row]], histories.weights[[row]], histories.ages_s[[row]])
        np.testing.assert_allclose(trained.encode(alone)[0], vectors[row], atol=1e-5)


def test_the_walk_in_a_cluster_is_learnt(trained: SASRecModel) -> None:
    starts = [15 * cluster + at for cluster in range(6) for at in range(10)]
    states = trained.encode(histories_of([[item, item + 1, item + 2] for item in starts], 16))
    best = np.argmax(states @ trained.item_vectors.T, axis=1)
    assert len(trained.item_ids) == N_ITEMS
    assert np.mean(best == np.array(starts) + 3) > 0.9


def test_the_same_seed_gives_the_same_model() -> None:
    short = replace(CONFIG, max_epochs=2)
    one, same, other = (fit(clustered(60), replace(short, seed=seed)).item_vectors for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 29), st.integers(0, 10**6), st.sampled_from([0.1, 1, 4])), min_size=1, max_size=20),
    st.sampled_from([(1, 1, 1, 1), (2, 2, 1, 1), (4, 3, 1, 1), (2, 2, 1, 0), (2, 2, 0, 1)]),
)
def test_the_compiled_path_is_that_of_training(rows: list[tuple[int, int, float]], shape: tuple[int, int, int, int]) -> None:
    """Each of the rows is an item, the seconds until the next one, which for the last is the gap before the list, and a weight."""
    model = untrained(*shape)
    gaps_s = np.array([gap for _, gap, _ in rows], np.int64)
    ages_s = (gaps_s.sum() - gaps_s[-1] - np.cumsum(gaps_s) + gaps_s).astype(np.float32)
    items, weights = np.array([item for item, _, _ in rows], np.int32), np.array([weight for _, _, weight in rows], np.float32)
    types = (items % 7).astype(np.uint8)
    histories = Histories(items[None], weights[None], ages_s[None], gaps_s[-1:].astype(np.float32), types[None])
    signals = (ages_s, gaps_s.astype(np.float32), strength_classes(weights), types.astype(np.int64))
    with torch.no_grad():
        of_signals = Signals(*(torch.from_numpy(each[None, -12:]) for each in signals))
        expected = model.network(torch.from_numpy(items[None, -12:].astype(np.int64)), of_signals)[0, -1]
    np.testing.assert_allclose(model.encode(histories)[0], expected.numpy(), atol=2e-4)


def test_later_items_and_padding_change_no_state() -> None:
    network = untrained().network
    items, ages = torch.tensor([[3, 4, 5, 6]]), torch.tensor([[900.0, 800.0, 70.0, 0.0]])
    gaps, strengths, types = torch.tensor([[100.0, 730.0, 70.0, 5.0]]), torch.tensor([[5, 1, 5, 6]]), torch.tensor([[0, 1, 2, 3]])
    with torch.no_grad():
        whole = network(items, Signals(ages, gaps, strengths, types))[0]
        for length in range(1, 4):
            cut = Signals(ages[:, :length] - ages[:, length - 1], gaps[:, :length], strengths[:, :length], types[:, :length])
            part = network(items[:, :length], cut)[0]
            torch.testing.assert_close(part, whole[:length], atol=1e-5, rtol=1e-5)


def test_times_are_read_by_powers_of_two() -> None:
    ages = torch.tensor([[3.0e9, 100.0, 3.0, 2.5, 0.0]])
    biases = Pairs(ages).bias(torch.zeros(1, 5), torch.arange(N_TIMES, dtype=torch.float32)[None])[0, 0]
    assert biases[4].tolist() == [31, 6, 2, 1, 0]
    assert biases[3, 1] == 6
    later = Pairs(ages, torch.tensor([[0.0, 0, 0, 0, 1_000]]))
    biases = later.bias(torch.zeros(1, 5), torch.arange(N_TIMES, dtype=torch.float32)[None])[0, 0]
    assert biases[4].tolist() == [31, 10, 9, 9, 9], "the query of the newest item is at the moment of the list"
    model = untrained()
    slow, quick = (histories_of([[1, 2, 3]], 12) for _ in range(2))
    slow.ages_s[0, -3:] = [864_000, 86_400, 0]
    assert np.abs(model.encode(slow) - model.encode(quick)).max() > 1e-3
    waited = replace(quick, gaps_s=np.array([86_400], np.float32))
    assert np.abs(model.encode(waited) - model.encode(quick)).max() > 1e-3, "the same history, read a day later"
    blind = untrained(times=0, gaps=0)
    assert np.array_equal(blind.encode(waited), blind.encode(quick))
    assert np.array_equal(blind.encode(slow), blind.encode(quick))


def paused(n_users: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Generate rows of items 0 to 5 and their times in seconds: after a minute the next item follows, after a day the one before."""
    random = np.random.default_rng(seed)
    days = random.random((n_users, 9)) < 0.5
    steps = np.where(days, -1, 1)
    items = (np.cumsum(np.concatenate([random.integers(0, 6, (n_users, 1)), np.zeros((n_users, 9), int)], axis=1), axis=1)) % 6
    items[:, 2:] = (items[:, :1] + np.cumsum(steps[:, :8], axis=1)) % 6
    times_s = np.concatenate([np.zeros((n_users, 1), int), np.cumsum(np.where(days, 86_400, 60), axis=1)], axis=1)
    return items.astype(np.int64), times_s.astype(np.int64)


def columns_of(items: NDArray[np.int64], times_s: NDArray[np.int64]) -> TrainingSet:
    n, length = items.shape
    columns = np.repeat(np.arange(n), length), items.ravel(), [str(i) for i in range(6)], np.ones(n * length, np.float32)
    return TrainingSet.from_columns(*columns, times_s.ravel() * 1_000)


@pytest.mark.parametrize("block", ["sasrec", "hstu"])
def test_the_gap_before_the_list_is_learnt(block: str) -> None:
    """Quality floor with and without the gap: after a minute the next item follows, after a day the one before, so the history alone says
    nothing about which of the two. The same history with another gap has another best item."""
    random = np.random.default_rng(0)
    forth = random.random((200, 9)) < 0.5
    steps = np.cumsum(np.where(forth, 1, -1), axis=1)
    items = np.concatenate([np.zeros((200, 1), int), steps], axis=1) + random.integers(0, 6, (200, 1))
    times_s = np.concatenate([np.zeros((200, 1), int), np.cumsum(np.where(forth, 60, 86_400), axis=1)], axis=1)
    training, ages_s = columns_of(items % 6, times_s), np.zeros((6, 1), np.float32)
    right = {}
    for gaps in (0, 1):
        config = replace(
            CONFIG, block=block, blocks=1, gaps=gaps, at_once=0.2, max_epochs=12, dropout=0.0, validation_users=40, learning_rate=2e-2
        )
        model = fit(training, config)
        position = np.array([int(item_id) for item_id in model.item_ids])
        histories = Histories(np.arange(6, dtype=np.int32)[:, None], np.ones((6, 1), np.float32), ages_s)
        found = []
        for gap_s, step in ((60, 1), (86_400, -1)):
            scores = model.encode(replace(histories, gaps_s=np.full(6, gap_s, np.float32))) @ model.item_vectors.T
            found.append(position[np.argmax(scores, axis=1)] == (position + step) % 6)
        right[gaps] = np.mean(found)
    assert right[1] > 0.9 > 0.6 > right[0]


def test_what_only_times_tell_is_learnt() -> None:
    items, times_s = paused(200, 0)
    n, length = 150, items.shape[1]
    columns = np.repeat(np.arange(n), length), items[:n].ravel(), [str(i) for i in range(6)], np.ones(n * length, np.float32)
    training = TrainingSet.from_columns(*columns, times_s[:n].ravel() * 1_000)
    rate = {}
    for times in (0, 1):
        config = replace(CONFIG, blocks=1, times=times, gaps=0, max_epochs=18, dropout=0.0, validation_users=40, learning_rate=2e-2)
        ages_s = (times_s[n:, -2:-1] - times_s[n:, :-1]).astype(np.float32)
        histories = Histories(items[n:, :-1].astype(np.int32), np.ones_like(ages_s), ages_s)
        model = fit(training, config)
        rate[times] = np.mean(np.argmax(model.encode(histories) @ model.item_vectors.T, axis=1) == items[n:, -1])
    assert rate[1] > 0.9 > 0.75 > rate[0]


def test_an_unknown_block_is_refused() -> None:
    with pytest.raises(ModelError, match="option block: got 'gru', needs one of sasrec, hstu"):
        SASRecConfig(block="gru")


@pytest.mark.parametrize("signal", ["types", "strengths"])
def test_what_only_an_event_s_type_or_weight_tells_is_learnt(signal: str) -> None:
    """After a purchase the next item follows, after a view the one before; the same with weights. Quality floor with and without."""
    random = np.random.default_rng(0)
    forth = random.random((150, 10)) < 0.5
    steps = np.cumsum(np.where(forth, 1, -1), axis=1)
    items = (np.concatenate([np.zeros((150, 1), int), steps[:, :-1]], axis=1) + random.integers(0, 6, (150, 1))) % 6
    types, weights = np.where(forth, 7, 1).ravel(), np.where(forth, 2.0, 0.5).astype(np.float32).ravel()
    same, ids = np.ones(1_500, np.int64), [str(i) for i in range(6)]
    weights = weights if signal == "strengths" else same.astype(np.float32)
    columns = np.repeat(np.arange(150), 10), items.ravel(), ids, weights, np.tile(np.arange(10) * 60_000, 150)
    training = TrainingSet.from_columns(*columns, types=types if signal == "types" else same)
    right = {}
    for reads in (0, 1):
        config = replace(CONFIG, block="sasrec", blocks=1, max_epochs=12, dropout=0.0, validation_users=40, learning_rate=2e-2, gaps=0)
        model = fit(training, replace(config, **{"types": 0, "strengths": 0, signal: reads}))
        position, found = np.array([int(item_id) for item_id in model.item_ids]), []
        for code, weight, step in ((7, 2.0, 1), (1, 0.5, -1)):
            own = np.full((6, 1), weight if signal == "strengths" else 1.0, np.float32)
            codes = np.full((6, 1), code if signal == "types" else 1, np.uint8)
            histories = Histories(np.arange(6, dtype=np.int32)[:, None], own, np.zeros((6, 1), np.float32), types=codes)
            best = np.argmax(model.encode(histories) @ model.item_vectors.T, axis=1)
            found.append(position[best] == (position + step) % 6)
        right[reads] = np.mean(found)
    assert right[1] > 0.9 > 0.6 > right[0]
