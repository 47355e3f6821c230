"""Adam by rows, and averages by rows: what they do to a row is what the plain forms do to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.models.adam import Adam
from recsys.models.comirec.config import ComiRecConfig
from recsys.models.comirec.training import fit as fit_interests
from recsys.models.row_adam import RowAdam
from recsys.models.sasrec import training as sasrec_training
from recsys.models.sasrec.averaging import Average
from recsys.models.sasrec.config import SASRecConfig
from recsys.models.sasrec.network import Network
from recsys.models.two_tower.config import TwoTowerConfig
from recsys.models.two_tower.training import fit as fit_towers
from tests.unit.recsys.models.model_cases import clustered

N_ROWS = 5
STEPS = st.lists(st.sets(st.integers(0, N_ROWS - 1)), min_size=1, max_size=12)


def gradients(n_steps: int, seed: int) -> torch.Tensor:
    return torch.randn((n_steps, N_ROWS, 3), generator=torch.Generator().manual_seed(seed))


def first_table() -> torch.Tensor:
    return torch.linspace(-1, 1, 3 * N_ROWS).view(N_ROWS, 3)


def stepped(table: torch.Tensor, steps: list[list[int]], slopes: torch.Tensor, shrink: float = 0.0) -> torch.Tensor:
    """Move rows of a table as RowAdam does; return the table."""
    adam = RowAdam(table, 0.05, shrink=shrink)
    for touched, slope in zip(steps, slopes, strict=True):
        rows = torch.tensor(touched, dtype=torch.int64)
        adam.read(rows).grad = slope[rows]
        adam.step()
    adam.settle()
    return table


@settings(max_examples=30, deadline=None)
@given(n_steps=st.integers(1, 12), seed=st.integers(0, 1_000), shrink=st.sampled_from([0.0, 0.01]))
def test_reading_every_row_in_every_step_is_plain_adam(n_steps: int, seed: int, shrink: float) -> None:
    slopes, plain = gradients(n_steps, seed), torch.nn.Parameter(first_table())
    adam = Adam([plain], 0.05)
    for slope in slopes:
        plain.grad = slope.clone()
        adam.step()
        with torch.no_grad():
            plain.mul_(1 - shrink)
    found = stepped(first_table(), [list(range(N_ROWS))] * n_steps, slopes, shrink)
    torch.testing.assert_close(found, plain.detach(), rtol=1e-5, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(steps=STEPS, seed=st.integers(0, 1_000), n_idle=st.sampled_from([0, 3, 400]))
def test_rows_that_a_step_does_not_read_go_as_plain_adam_takes_them_with_gradients_of_zero(
    steps: list[set[int]], seed: int, n_idle: int
) -> None:
    steps = [*steps, *[set[int]()] * n_idle]
    slopes, plain = gradients(len(steps), seed), torch.nn.Parameter(first_table())
    adam = Adam([plain], 0.05)
    for touched, slope in zip(steps, slopes, strict=True):
        plain.grad = torch.zeros_like(slope)
        plain.grad[sorted(touched)] = slope[sorted(touched)]
        adam.step()
    found = stepped(first_table(), [sorted(rows) for rows in steps], slopes)
    torch.testing.assert_close(found, plain.detach(), rtol=1e-4, atol=1e-5)


def test_a_row_that_is_not_read_shrinks_all_the_same() -> None:
    table = stepped(first_table(), [[0], [1], [0]], gradients(3, 0), 0.1)
    torch.testing.assert_close(table[2:], first_table()[2:] * 0.9**3)


def test_a_read_row_has_shrunk_by_all_steps_before() -> None:
    adam = RowAdam(first_table(), 0.05, shrink=0.1)
    for _ in range(4):
        adam.read(torch.tensor([0]))
        adam.step()
    torch.testing.assert_close(adam.read(torch.tensor([3])).detach(), first_table()[3:4] * 0.9**4)


@settings(max_examples=30, deadline=None)
@given(steps=STEPS, seed=st.integers(0, 1_000))
def test_averages_by_rows_are_the_plain_ones(steps: list[set[int]], seed: int) -> None:
    moves, config = gradients(len(steps), seed), SASRecConfig(factors=3, window=2, blocks=1)
    networks = [Network(N_ROWS, config) for _ in range(2)]
    for network in networks:
        network.initialise(torch.Generator().manual_seed(seed))
    plain, by_rows = Average(networks[0], 0.9), Average(networks[1], 0.9, by_rows=True)
    for touched, move in zip(steps, moves, strict=True):
        rows = torch.tensor(sorted(touched), dtype=torch.int64)
        with torch.no_grad():
            before = networks[1].items[rows].clone()
            for network in networks:
                network.items[rows] += move[rows]
                network.positions += 0.1
        plain.step()
        by_rows.step(rows, before)
    by_rows.settle()
    for expected, found in zip(plain.network.parameters(), by_rows.network.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_an_item_that_no_batch_and_no_draw_names_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[torch.Tensor] = []

    class Noted(RowAdam):
        def read(self, rows: torch.Tensor) -> torch.Tensor:
            read.append(rows)
            return super().read(rows)

    monkeypatch.setattr(sasrec_training, "RowAdam", Noted)
    monkeypatch.setattr(sasrec_training, "_ASKED_STEPS", 1)
    config = SASRecConfig(factors=8, window=8, fixed_epochs=1, sampled_above=5, negatives=1, averaging=0.0, batch_positions=4)
    model = sasrec_training.fit(clustered(12, length=5), config, lambda done, message: False)
    touched = torch.unique(torch.cat(read))
    still = [row for row in range(len(model.item_ids)) if row not in touched.tolist()]
    start = Network(len(model.item_ids), config)
    start.initialise(torch.Generator().manual_seed(config.seed))
    assert len(read) == 1 and still, "one step, which reads a few items"
    assert torch.equal(model.network.items[still], start.items[still])
    assert (model.network.items[touched] != start.items[touched]).any(1).all()


def test_sampled_trainings_repeat() -> None:
    interactions = clustered(60, length=8)
    config = TwoTowerConfig(factors=8, max_epochs=3, compared_above=4, negatives=6, batch_users=16)
    first, second = (fit_towers(interactions, config) for _ in range(2))
    assert np.array_equal(first.item_vectors, second.item_vectors)
    several = ComiRecConfig(factors=8, max_epochs=3, compared_above=4, negatives=6, batch_users=16)
    left, right = (fit_interests(interactions, several) for _ in range(2))
    assert np.array_equal(left.item_vectors, right.item_vectors)
    options = SASRecConfig(factors=8, window=8, max_epochs=3, sampled_above=4, negatives=16)
    one, two = (sasrec_training.fit(interactions, options) for _ in range(2))
    assert np.array_equal(one.item_vectors, two.item_vectors)
