"""An ensemble's signals are those worked out by hand, and its weights follow what helps on the validation part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from recsys.errors import TooFewInteractions
from recsys.evaluation.cases import Cases
from recsys.evaluation.ensemble import Ensemble, learnt
from recsys.evaluation.outcome import outcome_of
from recsys.evaluation.splits import split_rows
from recsys.models.base import F32, Histories, Model

N_ITEMS, N_USERS = 40, 300
ITEMS = [f"i{number}" for number in range(N_ITEMS)]


@dataclass
class Follows:
    """Scores the items of `vectors` by the vector of the newest item in `after`; all inner products of one-hot vectors and rows."""

    kind: ClassVar[str] = "follows"
    link: ClassVar[Literal["identity", "softmax"]] = "identity"
    item_ids: list[str]
    after: F32
    history_length: int = 1

    @property
    def item_vectors(self) -> F32:
        return np.eye(len(self.item_ids), dtype=np.float32)

    def encode(self, histories: Histories) -> F32:
        newest = histories.items[:, -1]
        found: F32 = np.where(newest[:, None] >= 0, self.after[np.maximum(newest, 0)], 0).astype(np.float32)
        return found

    @property
    def config(self) -> dict[str, Any]:
        return {}


def model(item_ids: list[str], after: Any, history_length: int = 1) -> Model:
    return Follows(item_ids, np.asarray(after, np.float32), history_length)  # type: ignore[return-value]


def read(*rows: list[int]) -> Histories:
    items = np.array(rows, np.int32)
    return Histories(items, np.ones(items.shape, np.float32), np.zeros(items.shape, np.float32))


def chains(seed: int) -> Cases:
    """After each item, its number plus seven is chosen next; the last item of each user is the test."""
    random = np.random.default_rng(seed)
    users, items = [], []
    for user in range(N_USERS):
        first = int(random.integers(N_ITEMS))
        users += [user] * 3
        items += [first, (first + 7) % N_ITEMS, (first + 14) % N_ITEMS]
    held = np.tile([False, False, True], N_USERS)
    times = np.tile(np.arange(3), N_USERS)
    return split_rows(np.array(users), np.array(items), ITEMS, np.ones(len(users), np.float32), times, held, repeats=True)


def steps_after(share: float, seed: int, only: slice = slice(None)) -> F32:
    """Return scores after each item: noise, and for the items of `only` a `share` of what truly comes next."""
    after = np.random.default_rng(seed).standard_normal((N_ITEMS, N_ITEMS)).astype(np.float32)
    following = np.arange(N_ITEMS)[only]
    after[following, (following + 7) % N_ITEMS] += share
    return after


def test_signals_are_the_standardised_score_and_the_logarithm_of_the_place() -> None:
    one = model(["a", "b", "c"], [[4.0, 2.0, 0.0], [1, 1, 1], [0, 0, 0]])
    other = model(["c", "d"], [[5.0, 1.0], [0, 1]])
    ensemble = Ensemble.of([one, other])
    assert ensemble.item_ids == ["a", "b", "c", "d"]
    signals, readable = ensemble.signals(read([0], [2], [-1]))
    spread = np.sqrt(8 / 3)
    assert readable.tolist() == [True, True, False]
    np.testing.assert_allclose(signals[0, :, 0], [2 / spread, 0, -2 / spread, -2 / spread], rtol=1e-6)  # d as the last
    np.testing.assert_allclose(signals[0, :, 1], [0, -np.log(2), -np.log(3), -np.log(3)], rtol=1e-6)
    assert not signals[0, :, 2:].any()  # the second model does not know a
    np.testing.assert_allclose(signals[1, :, 2], [-1, -1, 1, -1])
    np.testing.assert_allclose(signals[1, :, 3], -np.log([2, 2, 1, 2]), rtol=1e-6)
    assert not signals[2].any()
    assert not ensemble.scores(read([-1])).any()


def test_equal_scores_share_their_mean_place() -> None:
    signals, _ = Ensemble.of([model(["a", "b", "c"], [[1.0, 1.0, 0.0]] * 3)]).signals(read([0]))
    np.testing.assert_allclose(signals[0, :, 1], -np.log([1.5, 1.5, 3]), rtol=1e-6)


def test_a_model_reads_as_much_of_a_history_as_it_would_alone() -> None:
    short, long = model(["a", "b"], [[1.0, 0.0], [0.0, 1.0]], 1), model(["a", "b"], [[1.0, 0.0], [0.0, 1.0]], 5)
    ensemble = Ensemble.of([short, long])
    assert ensemble.history_length == 5
    seen: list[int] = []
    encode = short.encode
    short.encode = lambda histories: seen.append(histories.items.shape[1]) or encode(histories)  # type: ignore[method-assign, func-returns-value]
    ensemble.scores(read([-1, 0, 1]))
    assert seen == [1]


@pytest.mark.parametrize("among_random", [False, True])
def test_noise_weighs_little_and_two_halves_are_better_than_each(among_random: bool) -> None:
    cases = chains(1)
    lower, upper, noise = (
        model(ITEMS, steps_after(share, seed, half))
        for share, seed, half in ((4.0, 1, slice(0, N_ITEMS // 2)), (4.0, 2, slice(N_ITEMS // 2, N_ITEMS)), (0.0, 3, slice(0, 0)))
    )
    weights = learnt([lower, upper, noise], chains(2), among_random=among_random)
    assert (weights >= 0).all()
    assert weights[4:].sum() < 0.2 * min(weights[:2].sum(), weights[2:4].sum())
    alone = [outcome_of(one, cases).means()["ndcg@10"] for one in (lower, upper, noise)]
    together = outcome_of(Ensemble.of([lower, upper, noise], weights), cases).means()["ndcg@10"]
    assert together > 1.2 * max(alone)
    assert np.array_equal(weights, learnt([lower, upper, noise], chains(2), among_random=among_random))


def test_weights_need_a_target_that_a_model_knows() -> None:
    with pytest.raises(TooFewInteractions, match="no target of the validation part"):
        learnt([model(["x", "y"], [[1.0, 0.0], [0.0, 1.0]])] * 2, chains(1), among_random=False)


def test_models_that_say_nothing_count_alike() -> None:
    silent = model(ITEMS, np.ones((N_ITEMS, N_ITEMS)))
    assert learnt([silent, silent], chains(1), among_random=True).tolist() == [1, 0, 1, 0]


def test_weights_are_named_by_kind() -> None:
    ensemble = Ensemble.of([model(["a"], [[1.0]])], np.array([0.5, 2.0], np.float32))
    assert ensemble.named_weights() == {"follows": {"score": 0.5, "place": 2.0}}
