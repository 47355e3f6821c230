from __future__ import annotations

from dataclasses import asdict, replace
from itertools import count

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recsys.errors import ModelError
from recsys.models.registry import MODELS
from recsys.models.sasrec import training as sasrec_training
from recsys.models.sasrec.averaging import Average
from recsys.models.sasrec.config import SASRecConfig
from recsys.models.sasrec.model import SASRecModel
from recsys.models.sasrec.network import SIGNALS, Network
from recsys.models.sasrec.noise import Noise
from recsys.models.sasrec.precision import number_type
from recsys.models.sasrec.products import attend
from recsys.models.sasrec.schedule import Schedule
from recsys.models.sasrec.sequences import HeldBack
from recsys.models.sasrec.signals import ReadSequences
from recsys.models.sasrec.training import fit
from recsys.models.sasrec.validation import Judged
from recsys.models.training import within
from recsys.models.training_set import TrainingSet
from tests.unit.recsys.models.model_cases import clustered, histories_of

SMALL = SASRecConfig(factors=8, window=8, max_epochs=3, gaps=1, strengths=1, types=1)


def network(n_items: int = 30, config: SASRecConfig = SMALL) -> Network:
    made = Network(n_items, config)
    made.initialise(torch.Generator().manual_seed(1))
    return made


def second_order(n_users: int, length: int = 12, n_items: int = 6) -> NDArray[np.int64]:
    """Generate rows of items (n_users, length) whose next item is fixed by the last two: neither one item alone nor popularity tells it."""
    random = np.random.default_rng(5)
    following = np.stack([random.permutation(n_items) for _ in range(n_items)])
    rows = np.zeros((n_users, length), np.int64)
    rows[:, :2] = random.integers(0, n_items, (n_users, 2))
    for at in range(2, length):
        rows[:, at] = following[rows[:, at - 2], rows[:, at - 1]]
    return rows


def test_the_order_of_two_items_is_learnt() -> None:
    rows = second_order(140)
    times = np.tile(np.arange(rows.shape[1], dtype=np.int64), 100) * 60_000
    ids = [f"item-{i}" for i in range(6)]
    trained = TrainingSet.from_columns(
        np.repeat(np.arange(100), rows.shape[1]), rows[:100].ravel(), ids, np.ones(len(times), np.float32), times
    )
    config = SASRecConfig(factors=16, heads=2, expand=2, window=12, max_epochs=40, learning_rate=1e-2, dropout=0.05, validation_users=30)
    model = fit(trained, config)
    states = model.encode(histories_of(rows[100:, :-1].tolist(), 12))
    assert np.mean(np.argmax(states @ model.item_vectors.T, axis=1) == rows[100:, -1]) > 0.9


def test_a_model_stored_before_options_were_added_encodes_as_it_did() -> None:
    model = SASRecModel(SMALL, [str(i) for i in range(30)], network())
    known = {"factors", "blocks", "heads", "window", "dropout", "learning_rate", "max_epochs", "patience", "seed"}
    stored = {name: value for name, value in model.config.items() if name in known} | {"batch_sequences": 32}
    before = {name: tensor for name, tensor in model.tensors().items() if name not in SIGNALS}
    again = SASRecModel.from_tensors(stored, model.item_ids, before)
    histories = histories_of([[1, 2, 3], [4]], 8)
    assert again.settings.gaps == again.settings.strengths == again.settings.types == 0
    assert np.array_equal(again.encode(histories), model.encode(histories)), "signals of a new network are zero"
    assert np.array_equal(again.encode(histories), again.encode(replace(histories, gaps_s=np.array([9e4, 9e4], np.float32))))


def test_a_better_average_is_kept_and_patience_counts_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    judged, weights = iter([0.1, 0.3, 0.2, 0.2, 0.9]), list[NDArray[np.float32]]()

    def of(network: Network, held_back: HeldBack) -> Judged:
        weights.append(network.items.detach().numpy().copy())
        return Judged(next(judged), 0.0)

    monkeypatch.setattr(sasrec_training.Judged, "of", of)
    model = fit(clustered(30), replace(SMALL, max_epochs=9, patience=2))
    assert len(weights) == 4
    assert np.array_equal(model.item_vectors, weights[1])


def test_a_stop_within_an_epoch_keeps_the_better_of_the_last_evaluation_and_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sasrec_training, "_ASKED_STEPS", 1)
    monkeypatch.setattr(sasrec_training, "_LEAST_POSITIONS", 32)
    messages: list[str] = []
    judged = iter([0.1, 0.2])
    monkeypatch.setattr(sasrec_training.Judged, "of", lambda network, held_back: Judged(next(judged), 0.0))

    def progress(done: float, message: str) -> bool:
        messages.append(message)
        return not (messages[-1].startswith("sasrec: epoch 2, step 2"))

    fit(clustered(60), SMALL, progress)
    assert "validation" in " ".join(messages)
    assert next(judged, None) is None, "judged after the first epoch, and when it stopped"


def test_minutes_end_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    clock = count(0.0, 25.0).__next__  # seconds: the second report is after half a minute, the third after a minute
    kind = MODELS["sasrec"]
    kind.train(clustered(30), replace(SMALL, max_epochs=50, minutes=1.0), clock, lambda _, line: lines.append(line) or True)  # type: ignore[func-returns-value]
    assert len(lines) == 3
    assert within(0.0, clock) is None


def test_noise_zeroes_its_share_and_keeps_the_mean() -> None:
    ones = torch.ones(101, 333)
    for numbers in (torch.float32, torch.bfloat16):
        found = Noise(0.25, torch.Generator().manual_seed(0))(ones.to(numbers)).float()
        assert float((found == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
        assert float(found.mean()) == pytest.approx(1.0, abs=0.02)
        assert len(found.unique()) == 2
    again = Noise(0.25, torch.Generator().manual_seed(0))
    assert not torch.equal(again(ones), again(ones))
    assert Noise(0.001, torch.Generator())(ones) is ones


def test_the_rate_rises_in_a_line_and_falls_by_a_cosine() -> None:
    schedule = Schedule(1.0, 9, 0.1, 109)
    rates = [schedule.at(step) for step in range(1, 110)]
    assert rates[:9] == pytest.approx([step / 10 for step in range(1, 10)])
    assert np.all(np.diff(rates[9:]) < 0)
    assert rates[58] == pytest.approx(0.55, abs=0.01), "half way"
    assert rates[-1] == pytest.approx(0.1)
    assert {Schedule(2.0, 0, 1.0, 50).at(step) for step in range(1, 51)} == {2.0}
    assert Schedule(1.0, 500, 1.0, 20).at(3) == 1.0, "a short training soon has its rate"


def test_the_average_spans_the_newest_steps_and_forgets_the_start() -> None:
    followed = network()
    average = Average(followed, 0.9)
    with torch.no_grad():
        for step in range(200):
            followed.items.fill_(float(step))
            average.step()
    assert float(average.network.items[0, 0]) == pytest.approx(199 - 9, abs=0.1)
    assert Average(followed, 0.0).network is followed


def held_back(target: int, seen: list[int]) -> HeldBack:
    """Return one user who had item 0 last before the target."""
    starts = np.array([0, 1])
    return HeldBack(alone(), torch.tensor([target]), np.array(seen), starts * len(seen))


def alone() -> ReadSequences:
    """Read item 0 alone, for a list that is made at once."""
    nothing = np.zeros(1, np.float32)
    return ReadSequences.until(np.array([0]), np.ones(1, np.float32), np.zeros(1, np.uint8), nothing, nothing, np.array([0, 1]))


def test_validation_ranks_all_but_what_the_user_had_before() -> None:
    judging = network(4)
    with torch.no_grad():
        judging.items.copy_(torch.eye(4, 8) + torch.arange(4).unsqueeze(1) * 0.0)
        state = torch.from_numpy(judging.newest_states()(alone())[0])
        order = torch.argsort(-(judging.items @ state)).tolist()
    for target in order:
        for seen in ([0], [0, *order[:2]], order):
            held = held_back(target, seen)
            before = [item for item in order[: order.index(target)] if item not in seen]
            assert Judged.of(judging, held).ndcg == pytest.approx(1 / np.log2(2 + len(before)))


def test_an_untrained_tie_gains_nothing() -> None:
    judging = network(30)
    with torch.no_grad():
        judging.items.fill_(0.1)
    held = held_back(1, [0])
    assert Judged.of(judging, held).ndcg == 0


def test_attention_in_bfloat16_is_that_of_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn((2, 3, 7, 4), generator=generator) for _ in range(3))
    torch.testing.assert_close(attend(*(each.bfloat16() for each in (q, k, v))).float(), attend(q, k, v), atol=0.05, rtol=0.05)


def test_precision_is_one_of_its_names() -> None:
    assert number_type("float32") == torch.float32
    assert number_type("bfloat16") == torch.bfloat16
    assert number_type("auto") in (torch.float32, torch.bfloat16)
    with pytest.raises(ModelError, match="precision: got 'half', needs one of auto, float32, bfloat16"):
        SASRecConfig(precision="half")


@pytest.mark.parametrize("option", ["expand", "averaging", "final_rate", "minutes", "warm_up_steps", "batch_positions"])
def test_options_have_bounds(option: str) -> None:
    with pytest.raises(ModelError, match=f"option {option}: got -1"):
        SASRecConfig(**{**asdict(SMALL), option: -1})
