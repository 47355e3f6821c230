from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recsys.errors import ShapeError
from recsys.models.adam import Adam
from recsys.models.base import Histories
from recsys.models.sasrec import attention_kernel, losses
from recsys.models.sasrec import model as sasrec
from recsys.models.sasrec import training as sasrec_training
from recsys.models.sasrec.config import SASRecConfig
from recsys.models.sasrec.model import SASRecModel, newest_preferences
from recsys.models.sasrec.negatives import Popularity
from recsys.models.sasrec.network import Network, Signals
from recsys.models.sasrec.sequences import HeldBack, Sequences, windows
from recsys.models.sasrec.training import fit
from recsys.models.sasrec.validation import Judged
from tests.unit.recsys.models.model_cases import clustered, histories_of


def drawn(network: Network) -> Network:
    """Return a network whose signals say something, as after a training."""
    generator = torch.Generator().manual_seed(1)
    network.initialise(generator)
    with torch.no_grad():
        for table in (network.gaps, network.strengths, network.types):
            assert table is not None
            table.normal_(0, 0.1, generator=generator)
    return network


def minutes_apart(length: int, gap_s: float = 0.0) -> Signals:
    """Return signals of one row of weight 1, as `histories_of` makes them."""
    ages_s = torch.arange(length - 1, -1, -1)[None] * 60.0
    gaps_s = torch.full((1, length), 60.0)
    gaps_s[0, -1] = gap_s
    return Signals(ages_s, gaps_s, torch.full((1, length), 5), torch.zeros((1, length), dtype=torch.long))


def untrained(heads: int = 2, blocks: int = 2, expand: int = 1) -> SASRecModel:
    config = SASRecConfig(factors=16, heads=heads, blocks=blocks, expand=expand, window=50, gaps=1, strengths=1, types=1)
    return SASRecModel(config, [str(i) for i in range(30)], drawn(Network(30, config)))


@pytest.mark.parametrize(("heads", "blocks", "expand"), [(1, 2, 1), (2, 2, 3), (4, 1, 2), (2, 3, 1)])
def test_fast_encode_equals_the_training_forward_pass(heads: int, blocks: int, expand: int) -> None:
    model = untrained(heads, blocks, expand)
    random = np.random.default_rng(0)
    rows = [random.integers(0, 30, n).tolist() for n in (1, 2, 7, 8, 9, 16, 17, 31, 32, 33, 49, 50, 50, 63)]
    found = model.encode(histories_of(rows, 70))
    for row, vector in zip(rows, found, strict=True):
        newest = row[-50:]
        with torch.no_grad():
            expected = model.network(torch.tensor([newest]), minutes_apart(len(newest)))[0, -1].numpy()
        np.testing.assert_allclose(vector, expected, atol=1e-4)


def test_padding_and_later_items_change_no_state() -> None:
    network = untrained().network
    short, long = torch.tensor([[4, 5, 6]]), torch.tensor([[4, 5, 6, 0, 0, 9]])
    signals = minutes_apart(6)
    with torch.no_grad():
        of_short = network(short, Signals(*(each[:, :3] for each in signals)))
        np.testing.assert_allclose(of_short[0], network(long, signals)[0, :3], atol=1e-5)


def test_dislikes_are_not_read() -> None:
    model = untrained()
    histories = histories_of([[4, 5, 6], [4, 6, 6]], 3)
    weights = np.array([[1, -1, 1], [1, 0, 1]], np.float32)
    vectors = model.encode(Histories(histories.items, weights, histories.ages_s))
    two = histories_of([[4, 6]], 3)
    two.ages_s[0, 1] = 120
    np.testing.assert_allclose(vectors[0], model.encode(two)[0], atol=1e-6)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


def test_the_newest_preferences_are_read_in_order() -> None:
    histories = histories_of([[1, 2, 3, 4], [], [9]], 6)
    types = (histories.items + 1).astype(np.uint8)
    read, users = newest_preferences(replace(histories, gaps_s=np.array([5, 0, 7], np.float32), types=types), 3)
    assert read.types.tolist() == [3, 4, 5, 10] and not newest_preferences(histories, 3)[0].types.any()
    assert read.items.tolist() == [2, 3, 4, 9] and read.weights.tolist() == [1, 1, 1, 1]
    assert read.ages_s.tolist() == [120, 60, 0, 0]
    assert read.gaps_s.tolist() == [60, 60, 5, 7]
    assert read.starts.tolist() == [0, 3, 4] and users.tolist() == [0, 2]
    assert newest_preferences(histories, 3)[0].gaps_s.tolist() == [60, 60, 0, 0]


def test_the_gap_counts_from_the_newest_interaction_of_any_kind() -> None:
    """A dislike is not read, and still says when the user was there."""
    histories = histories_of([[1, 2, 3]], 3)
    histories.weights[0, 2] = -1
    read, _ = newest_preferences(replace(histories, gaps_s=np.array([30], np.float32)), 3)
    assert read.items.tolist() == [1, 2] and read.gaps_s.tolist() == [60, 90]


def test_who_is_encoded_with_whom_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = untrained()
    random = np.random.default_rng(3)
    rows = [random.integers(0, 30, n).tolist() for n in random.integers(0, 60, 40)]
    together = model.encode(histories_of(rows, 60))
    for most in (1, 100):
        monkeypatch.setattr(sasrec, "_BLOCK_POSITIONS", most)
        np.testing.assert_allclose(model.encode(histories_of(rows, 60)), together, atol=1e-5)
    assert not together[[not row for row in rows]].any(), "an empty history gives a zero vector"
    for kernel in (attention_kernel.causal, attention_kernel.newest):
        assert len(kernel.signatures) == 1, "compiled once, before the group is joined"  # type: ignore[attr-defined]


def test_the_same_seed_gives_the_same_losses_and_another_one_others() -> None:
    reported: dict[int, list[str]] = {}
    for run, seed in enumerate((5, 5, 6)):
        lines: list[str] = []
        fit(clustered(60), SASRecConfig(factors=8, window=8, max_epochs=3, seed=seed), lambda _, line, to=lines: to.append(line) or True)  # type: ignore[misc]
        reported[run] = lines
    assert reported[0] == reported[1] != reported[2]


def test_training_leaves_the_global_generator_alone() -> None:
    interactions = clustered(30)
    before = torch.random.get_rng_state()
    fit(interactions, SASRecConfig(factors=8, window=8, max_epochs=1))
    assert torch.equal(before, torch.random.get_rng_state())


def test_every_step_of_an_epoch_is_a_target_once() -> None:
    random = np.random.default_rng(2)
    lengths = random.integers(0, 40, 25)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    weights = np.arange(1, starts[-1] + 1).astype(np.float32) / 32
    sequences = Sequences(np.arange(starts[-1]), starts, 10 * np.arange(starts[-1]), weights, (np.arange(starts[-1]) % 70).astype(np.uint8))
    seen = np.concatenate([targets[targets >= 0].numpy() for _, targets, _ in windows(sequences, 7, 30, random)])
    expected = np.concatenate([np.arange(a + 1, b) for a, b in pairwise(starts) if b - a >= 2])
    assert np.array_equal(np.sort(seen), np.sort(expected))
    for inputs, targets, (ages_s, gaps_s, strengths, types) in windows(sequences, 7, 30, random):
        assert inputs.shape[1] <= 7 and inputs.numel() <= 30
        real = targets >= 0
        assert torch.equal(targets[real], inputs[real] + 1)
        newest = torch.where(real, inputs, -1).amax(1, keepdim=True)
        assert torch.equal(ages_s[real], (10.0 * (newest - inputs))[real])
        assert (gaps_s[real] == 10).all(), "each target is predicted for its own moment"
        assert torch.equal(strengths[real], torch.log2((inputs[real] + 1.0).clamp_max(127)).long())
        assert torch.equal(types[real], (inputs[real] % 70).clamp_max(63))


def test_a_share_of_targets_is_predicted_at_once() -> None:
    n = 2_000
    sequences = Sequences(np.arange(n), np.array([0, n]), 10 * np.arange(n), np.ones(n, np.float32), np.zeros(n, np.uint8))
    batches = windows(sequences, 50, 500, np.random.default_rng(0), 0.25)
    gaps_s = np.concatenate([batch.signals.gaps_s[batch.targets >= 0].numpy() for batch in batches])
    assert set(gaps_s.tolist()) == {0, 10} and np.mean(gaps_s == 0) == pytest.approx(0.25, abs=0.03)


def states_and_items(n_states: int, n_items: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return random states, targets and items of 8 dimensions."""
    generator = torch.Generator().manual_seed(0)
    states, items = (torch.randn((n, 8), generator=generator) for n in (n_states, n_items))
    return states, torch.randint(n_items, (n_states,), generator=generator), items


@pytest.mark.parametrize("bound", [10_000, 70])
def test_full_loss_has_the_value_and_the_gradients_of_torch_s_own(bound: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK_LOGITS", bound)
    states, targets, items = states_and_items(20, 30)
    loss, of_states, of_items = losses.full_loss(states, targets, items)
    expected = torch.nn.functional.cross_entropy(states.requires_grad_() @ items.requires_grad_().T, targets)
    expected.backward()  # type: ignore[no-untyped-call]
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    torch.testing.assert_close((of_states, of_items), (states.grad, items.grad))
    rough = losses.full_loss(states.detach(), targets, items.detach(), torch.bfloat16)
    assert float(rough[0]) == pytest.approx(float(loss), rel=0.01)
    torch.testing.assert_close(rough[1:], (of_states, of_items), atol=2e-3, rtol=0.05)


def test_sampled_loss_has_the_gradients_of_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK_LOGITS", 64)
    states, targets, items = states_and_items(6, 12)

    def graded(states: torch.Tensor, items: torch.Tensor) -> losses.Graded:
        return losses.sampled_loss(states, targets, items, Popularity(torch.ones(12), torch.Generator().manual_seed(3)).draw(16))

    _, *gradients = graded(states, items)
    for at, gradient in enumerate(gradients):
        for row, column in ((0, 0), (3, 5), (5, 7)):
            found = []
            for step in (-0.05, 0.05):
                moved = [states.clone(), items.clone()]
                moved[at][row, column] += step
                found.append(float(graded(moved[0], moved[1])[0]))
            assert float(gradient[row, column]) == pytest.approx((found[1] - found[0]) / 0.1, rel=0.02, abs=5e-4)


def test_sampled_loss_estimates_the_full_one() -> None:
    states, targets, items = states_and_items(50, 300)
    counts = torch.rand(300, generator=torch.Generator().manual_seed(1)) * 100
    full = losses.full_loss(states, targets, items)[0]
    sampled = losses.sampled_loss(states, targets, items, Popularity(counts, torch.Generator().manual_seed(2)).draw(60_000))[0]
    assert float(sampled) == pytest.approx(float(full), rel=0.02)


def test_catalogues_above_the_bound_are_trained_by_sampling() -> None:
    model = fit(clustered(60), SASRecConfig(factors=8, window=8, max_epochs=2, sampled_above=10, negatives=32))
    assert np.isfinite(model.item_vectors).all()


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(ShapeError, match="two preferences"):
        fit(clustered(5, length=1), SASRecConfig(factors=8))
    with pytest.raises(ShapeError, match="divide"):
        fit(clustered(5), SASRecConfig(factors=8, heads=3))


def test_tensors_of_another_shape_are_refused_by_name() -> None:
    model = untrained()
    tensors = dict(model.tensors())
    tensors["positions"] = tensors["positions"][:10]
    with pytest.raises(ShapeError, match="positions"):
        SASRecModel.from_tensors(model.config, model.item_ids, tensors)


def test_adam_steps_as_torch_s_own() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4)) for _ in range(2))
    adam, reference = Adam([ours], 0.05), torch.optim.Adam([theirs], lr=0.05, betas=(0.9, 0.98))
    for _ in range(20):
        ours.grad = theirs.grad = torch.randn((3, 4), generator=generator)
        adam.step()
        reference.step()
    torch.testing.assert_close(ours, theirs)
    adam.clear()
    adam.step()
    torch.testing.assert_close(ours, theirs)


def warm_started(unseen: NDArray[np.bool_] | None, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[list[HeldBack], int]:
    """Train twice on clustered users, the second time from the first model; return what validated, and how many epochs it took."""
    interactions, seen, epochs = clustered(n_users=60), list[HeldBack](), list[str]()
    config = SASRecConfig(factors=8, window=8, max_epochs=2, patience=2, dropout=0.0)
    parent = fit(interactions, config)
    judge = sasrec_training.Judged.of

    def watched(network: Network, held_back: HeldBack) -> Judged:
        seen.append(held_back)
        return judge(network, held_back)

    def progress(done: float, message: str) -> bool:
        epochs.append(message)
        return True

    monkeypatch.setattr(sasrec_training.Judged, "of", watched)
    fit(replace(interactions, unseen=unseen), replace(config, **options), progress, parent)
    return seen, len(epochs)


def test_a_warm_start_validates_only_on_what_its_parent_was_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    interactions = clustered(n_users=60)
    ends = interactions.user_starts()[1:] - 1
    unseen = np.zeros(len(interactions), bool)
    unseen[ends[:20]] = True  # the last event of twenty users came after the parent's training
    new_targets = set(interactions.items[ends[:20]].tolist())
    seen, _ = warm_started(unseen, monkeypatch)
    assert seen and all(len(held_back.targets) == 10 for held_back in seen), "half of those users; the others train"
    assert set(seen[0].targets.tolist()) <= new_targets


def test_a_warm_start_without_news_is_short_instead_of_validated_on_what_its_parent_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, n_epochs = warm_started(np.zeros(len(clustered(n_users=60)), bool), monkeypatch, max_epochs=9, patience=3)
    assert not seen and n_epochs == 3


def test_a_first_training_validates_on_any_users(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, _ = warm_started(None, monkeypatch)
    assert seen and all(len(held_back.targets) == 30 for held_back in seen)
